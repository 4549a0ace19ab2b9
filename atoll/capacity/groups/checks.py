"""Admission of the batch kinds: what their projects' webhooks refuse, told by functions that name what is wrong."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from atoll.base.errors import Invalid
from atoll.capacity.queueing.admission import Request
from atoll.kinds.resource import Resource

Object = dict[str, Any]
Problem = tuple[str, str]
"""(field, why)."""


class Checks:
    """Validating, of one kind, while `on`: `of_new` judges what is created, `of_change` (new, old) what is changed."""

    def __init__(
        self,
        kind: Resource,
        on: Callable[[], bool],
        of_new: Callable[[Object], Iterable[Problem]],
        of_change: Callable[[Object, Object], Iterable[Problem]],
    ) -> None:
        self.resources = frozenset({kind.group_resource})
        self._kind = kind
        self._on = on
        self._of_new = of_new
        self._of_change = of_change

    def validate(self, request: Request) -> Awaitable[None] | None:
        """Raises Invalid."""
        obj, old = request.obj, request.old
        if obj is None or request.subresource or request.operation not in ("CREATE", "UPDATE") or not self._on():
            return None
        problems = list(self._of_new(obj) if old is None else self._of_change(obj, old))
        if problems:
            kind, group = self._kind.kind, self._kind.group
            causes = [{"reason": "FieldValueInvalid", "field": path, "message": why} for path, why in problems]
            text = "; ".join(f"{path}: {why}" for path, why in problems)
            raise Invalid(
                f'{kind}.{group} "{request.name}" is invalid: {text}',
                details={"name": request.name, "group": group, "kind": kind, "causes": causes},
            )
        return None
