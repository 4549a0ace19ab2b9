"""What can go wrong with a template."""

from __future__ import annotations

from atoll.base.errors import UserError


class TemplateError(UserError):
    """The template can't be parsed, or can't be run on these data."""
