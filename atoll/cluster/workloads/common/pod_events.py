"""Changes of pods, handed to the controller of the kind that owns the pod: one look at a change instead of six."""

from __future__ import annotations

from collections.abc import Callable

from atoll.cluster.workloads.common.owners import index_by_controller
from atoll.kinds.builtin import PODS
from atoll.objects.meta import Object, controller_of, labels
from atoll.runtime.informer import Informer, Informers

Handler = Callable[[Object | None, Object | None, Object], None]
"""(old, new, the controller reference): (None, new) also when the pod comes to this owner, (old, None) when it goes."""
OrphanHandler = Callable[[Object], None]
"""A pod that nothing controls is new, or has new labels, or has lost its controller."""


class PodEvents:
    """Informer.add_handler for owners of pods."""

    def __init__(self, informers: Informers) -> None:
        self.pods: Informer = informers.of(PODS)
        index_by_controller(self.pods)
        self._by_kind: dict[str, list[Handler]] = {}
        self._orphans: list[OrphanHandler] = []
        self.pods.add_handler(self._changed)

    def follow(self, kind: str, handler: Handler, orphans: OrphanHandler | None = None) -> None:
        """Before the informers start. `kind`: of the owner."""
        self._by_kind.setdefault(kind, []).append(handler)
        if orphans is not None:
            self._orphans.append(orphans)

    def _changed(self, old: Object | None, new: Object | None) -> None:
        before = controller_of(old) if old is not None else None
        after = controller_of(new) if new is not None else None
        if before is not None and after is not None and before["uid"] == after["uid"]:
            for handler in self._by_kind.get(after["kind"], ()):
                handler(old, new, after)
            return
        if before is not None:
            for handler in self._by_kind.get(before["kind"], ()):
                handler(old, None, before)
        if after is not None:
            for handler in self._by_kind.get(after["kind"], ()):
                handler(None, new, after)
        elif new is not None and (old is None or before is not None or labels(old) != labels(new)):
            for orphan in self._orphans:
                orphan(new)
