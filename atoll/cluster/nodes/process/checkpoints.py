"""A job's checkpoint file: the pod names it, its program writes it, the node tells when that was.

    atoll.dev/checkpoint-file: /checkpoints/latest        of the pod: a path as its containers see it

The program writes the file (best: writes another and renames it) each time that a checkpoint is complete; the time of
that write becomes the pod's annotation atoll.dev/last-checkpoint. What is in the file is the program's own affair: it
is not read. Symbolic links are not followed, so a container can't make its node look at anything but its own files.
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Iterable, Mapping
from typing import Any

from atoll.base.clock import rfc3339_micro
from atoll.base.errors import AtollError
from atoll.cluster.nodes.process.model import NodeContext, Slot
from atoll.kinds.builtin import PODS
from atoll.objects.meta import annotations as annotations_of

FILE_ANNOTATION = "atoll.dev/checkpoint-file"
LAST_ANNOTATION = "atoll.dev/last-checkpoint"
_LOOK_SECONDS = 1.0
_THROUGH = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC

Object = dict[str, Any]


class CheckpointFile:
    """Of one pod. `look` is called again and again; it writes when the file is newer than what was told."""

    def __init__(self, context: NodeContext) -> None:
        self._context = context
        self._told = ""
        self._next = 0.0

    async def look(self, pod: Object, slots: Mapping[str, Slot]) -> float | None:
        """Seconds until the next look; None for a pod that names no file."""
        path = annotations_of(pod).get(FILE_ANNOTATION) or ""
        if not path.startswith("/"):
            return None
        now = self._context.clock.monotonic()
        if now >= self._next:
            self._next = now + _LOOK_SECONDS
            pids = [slot.container.main_pid() for slot in slots.values() if slot.container is not None]
            running = [pid for pid in pids if pid is not None]
            written = await asyncio.to_thread(newest, running, path) if running else None
            if written is not None:
                await self._tell(pod, min(written, self._context.clock.wall()))
        return max(0.0, self._next - self._context.clock.monotonic())

    async def _tell(self, pod: Object, written: float) -> None:
        text, metadata = rfc3339_micro(written), pod["metadata"]
        if text in (self._told, annotations_of(pod).get(LAST_ANNOTATION)):
            return
        patch = {"metadata": {"uid": metadata["uid"], "annotations": {LAST_ANNOTATION: text}}}
        try:
            await self._context.client.patch(PODS, metadata["name"], patch, metadata["namespace"], subresource="status")
        except AtollError:
            return  # it is looked at again soon
        self._told = text


def newest(pids: Iterable[int], path: str) -> float | None:
    """When the file was last written, as these processes see it; None where it is not there. Blocks."""
    found = [at for pid in pids if (at := written_at(f"/proc/{pid}/root", path)) is not None]
    return max(found, default=None)


def written_at(root: str, path: str) -> float | None:
    """Below `root`; None too where it is no regular file, or a symbolic link is on the way."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if not parts or ".." in parts:
        return None
    try:
        folder = os.open(root, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        for part in parts[:-1]:
            inner = os.open(part, _THROUGH | os.O_DIRECTORY, dir_fd=folder)
            os.close(folder)
            folder = inner
        found = os.stat(parts[-1], dir_fd=folder, follow_symlinks=False)
    except OSError:
        return None
    finally:
        os.close(folder)
    return found.st_mtime if stat.S_ISREG(found.st_mode) else None
