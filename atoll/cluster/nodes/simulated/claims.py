"""Pods of simulated nodes that wait for their ResourceClaims: a pod is played once each is allocated and reserved for
it. The scheduler sees to that before it binds; a pod that came to its node otherwise may have to wait."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from atoll.kinds.builtin import RESOURCE_CLAIMS
from atoll.objects.resource_claims import ClaimProblem, is_ready_for, known_names, to_use
from atoll.runtime.informer import Informers

Object = dict[str, Any]
Key = tuple[str, str]


class ClaimGate:
    """`play` is called for a pod that `admit` held back, once its claims are ready."""

    def __init__(self, informers: Informers, play: Callable[[Object], None]) -> None:
        self.claims = informers.of(RESOURCE_CLAIMS)
        self._play = play
        self._waiting: dict[Key, Object] = {}

    def start(self) -> None:
        self.claims.add_handler(self._changed)

    def admit(self, pod: Object) -> bool:
        """Whether a pod may start (one that has, or is being deleted, always may go on)."""
        key = (pod["metadata"].get("namespace") or "", pod["metadata"]["name"])
        if self._is_ready(pod):
            self._waiting.pop(key, None)
            return True
        self._waiting[key] = pod
        return False

    def forget(self, pod: Object) -> None:
        self._waiting.pop((pod["metadata"].get("namespace") or "", pod["metadata"]["name"]), None)

    def _is_ready(self, pod: Object) -> bool:
        if "deletionTimestamp" in pod["metadata"] or (pod.get("status") or {}).get("phase") != "Pending":
            return True
        try:
            names = to_use(pod)
        except ClaimProblem:
            return False
        namespace = pod["metadata"].get("namespace")
        found = [self.claims.get(name, namespace) for name, _ in names]
        return all(claim is not None and is_ready_for(claim, pod) for claim in found)

    def _changed(self, old: Object | None, new: Object | None) -> None:
        metadata = (new or old or {})["metadata"]
        namespace = metadata.get("namespace") or ""
        for key, pod in list(self._waiting.items()):
            if key[0] == namespace and metadata["name"] in known_names(pod) and self.admit(pod):
                self._play(pod)
