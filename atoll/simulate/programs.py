"""What runs in the pods of a simulation, as far as the cluster can tell: it goes on where it left off, and it fails.

The pods themselves are played by the simulated nodes (`atoll.dev/run-seconds`). What they can't know is done here, as
the program in the pod would: a pod that takes up a checkpoint has less to do, and one whose GPU breaks ends as
Failed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from typing import Any

from atoll.base.clock import Clock, rfc3339
from atoll.base.errors import ApiError, NotFound
from atoll.client.port import STRATEGIC_PATCH, Client
from atoll.cluster.nodes.simulated.fast import HOLD_ANNOTATION
from atoll.kinds.builtin import PODS
from atoll.simulate.ledger import Listener, Pod
from atoll.simulate.work import Work

Object = dict[str, Any]
_LEAST_SECONDS = 1.0


class Programs(Listener):
    """`run` works until cancelled: commits only say what there is to do."""

    def __init__(self, client: Client, clock: Clock, work: Work) -> None:
        self._client = client
        self._clock = clock
        self._work = work
        self._resumed: deque[tuple[Pod, float]] = deque()
        self._wake = asyncio.Event()

    def on_pod(self, old: Pod | None, new: Pod | None, now: float) -> None:
        if old is None and new is not None and new.job:
            had = self._work.resume(new)
            if had:
                self._resumed.append((new, had))
                self._wake.set()

    async def run(self) -> None:
        """Pods that go on from a checkpoint have so much less to do."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._resumed:
                await self._shorten(*self._resumed.popleft())

    async def _shorten(self, pod: Pod, had: float) -> None:
        job = self._work.jobs[pod.key[0], pod.job]
        left = max(_LEAST_SECONDS, job.run_seconds - had)
        patch = {"metadata": {"uid": pod.uid, "annotations": {HOLD_ANNOTATION: f"{left:.3f}"}}}
        with suppress(ApiError):  # it is gone again
            await self._client.patch(PODS, pod.key[1], patch, pod.key[0])

    async def fail(self, pod: Pod, code: int, reason: str) -> None:
        """The pod's container ends with an error."""
        now = rfc3339(self._clock.wall())
        ended = {"terminated": {"exitCode": code, "reason": reason, "startedAt": now, "finishedAt": now}}
        conditions = [
            {"type": kind, "status": "False", "reason": "PodFailed", "lastTransitionTime": now}
            for kind in ("Ready", "ContainersReady")
        ]
        container = {"name": "main", "image": "simulated", "imageID": "", "ready": False, "restartCount": 0}
        status = {"phase": "Failed", "conditions": conditions, "containerStatuses": [container | {"state": ended}]}
        body = {"metadata": {"uid": pod.uid}, "status": status}
        with suppress(NotFound):
            await self._client.patch(
                PODS, pod.key[1], body, pod.key[0], content_type=STRATEGIC_PATCH, subresource="status"
            )
