"""What a pod's emptyDirs hold against their sizeLimit; kubelet evicts a pod that exceeds one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from atoll.base import quantity

Object = dict[str, Any]
_BLOCK = 512


def limited_volumes(pod: Object) -> dict[str, str]:
    """Volume → sizeLimit of emptyDirs on disk (those in memory are as large as their limit)."""
    out = {}
    for volume in pod["spec"].get("volumes") or []:
        source = volume.get("emptyDir") or {}
        if source.get("sizeLimit") and source.get("medium") != "Memory" and quantity.parse(source["sizeLimit"]) > 0:
            out[volume["name"]] = source["sizeLimit"]
    return out


def used_bytes(folder: Path) -> int:
    """What the files below take on the disk. Blocks."""
    return sum(_sizes(os.fspath(folder)))


def _sizes(folder: str) -> Iterator[int]:
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with suppress(OSError):
                yield entry.stat(follow_symlinks=False).st_blocks * _BLOCK
                if entry.is_dir(follow_symlinks=False):
                    yield from _sizes(entry.path)


def excess(pod: Object, volumes: Path) -> str | None:
    """kubelet's message for the first volume over its limit. Blocks."""
    for name, limit in limited_volumes(pod).items():
        if used_bytes(volumes / name) > quantity.units(limit):
            return f'Usage of EmptyDir volume "{name}" exceeds the limit "{limit}". '
    return None
