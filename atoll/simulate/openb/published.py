"""Published results beside which ours are printed: reading them, and which of ours are too far off.

The file is JSON: `alloc_pct` → name of the pod list (its file's name without .csv) → policy → percent arrived → `mean`
and `sd_sample` over ten seeds. `frag_pct_of_total_gpu` has the same form and may be left out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from atoll.base.errors import UserError

SLACK = 0.3
"""Points by which a mean may differ, beside its own sample deviation."""

_HINT = "give a file like fgd_expected.json: alloc_pct → pod list → policy → percent → mean and sd_sample"


@dataclass(frozen=True, slots=True)
class Cell:
    """One published mean, in percent of all GPUs."""

    mean: float
    sd_sample: float

    def holds(self, ours: float | None) -> bool:
        return ours is not None and abs(ours - self.mean) <= SLACK + self.sd_sample


Table = Mapping[str, Mapping[int, Cell]]
"""Policy → percent arrived → cell."""


@dataclass(frozen=True, slots=True)
class Published:
    allocated: Table
    fragmented: Table = field(default_factory=dict)


def read(path: Path, pod_list: str) -> Published:
    """The results for one pod list. Raises UserError."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}", hint=_HINT) from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: is not JSON: {error}", hint=_HINT) from error
    lists = _map(path, "alloc_pct", document, required=True)
    if pod_list not in lists:
        known = ", ".join(sorted(lists)) or "none"
        raise UserError(
            f"{path}, alloc_pct: has no results for {pod_list}; it has {known}",
            hint="name the pod list's file as the published list, or leave --expected out",
        )
    fragments = _map(path, "frag_pct_of_total_gpu", document, required=False)
    return Published(
        _table(path, "alloc_pct", pod_list, lists), _table(path, "frag_pct_of_total_gpu", pod_list, fragments)
    )


def _map(path: Path, key: str, document: Any, *, required: bool) -> Mapping[str, Any]:
    found = document.get(key, None if required else {}) if isinstance(document, dict) else None
    if not isinstance(found, dict):
        raise UserError(f"{path}, {key}: is missing or not a map", hint=_HINT)
    return found


def _table(path: Path, key: str, pod_list: str, lists: Mapping[str, Any]) -> Table:
    policies = lists.get(pod_list, {})
    try:
        return {
            policy: {int(percent): Cell(float(cell["mean"]), float(cell["sd_sample"])) for percent, cell in row.items()}
            for policy, row in policies.items()
        }
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path}, {key}, {pod_list}: {type(error).__name__}: {error}", hint=_HINT) from error
