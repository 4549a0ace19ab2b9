"""The scheduler's configuration file, as kube-scheduler takes it with --config."""

from __future__ import annotations

from pathlib import Path

import yaml

from atoll.base.chance import Chance
from atoll.base.errors import UserError
from atoll.scheduling.plugins.port import Plugin
from atoll.scheduling.plugins.profile import profiles_of
from atoll.scheduling.plugins.registry import installed_plugins

_HINT = "give the file that kube-scheduler takes with --config"


def read_profiles(path: Path, chance: Chance) -> dict[str, tuple[Plugin, ...]]:
    """The plugins of each schedulerName. Raises UserError with the file and the key that is wrong."""
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}", hint=_HINT) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: is not YAML: {error}", hint=_HINT) from error
    try:
        return profiles_of(document, chance, installed_plugins())
    except UserError as error:
        raise UserError(f"{path}: {error}", hint=error.hint) from error
