"""What the second run of a mutating plugin must know of its first (upstream's reinvocation contexts).

Webhooks and mutating policies each have one a request, under their own name, in the request's `memory`.
"""

from __future__ import annotations

from collections.abc import Hashable

import orjson
from msgspec import Struct

from atoll.cluster.apiserver.ports import AdmissionRequest, Object


class Reinvocation(Struct):
    invoked: set[Hashable] = set()  # they may be asked again
    due: set[Hashable] = set()  # they must be
    _output: bytes = b""

    def begin(self, request: AdmissionRequest) -> None:
        """A run begins. All that may be asked again must be, if a plugin between the two runs changed the object."""
        if request.is_again and self._output != orjson.dumps(request.obj):
            self.require()

    def end(self, obj: Object | None) -> None:
        self._output = orjson.dumps(obj)

    def skips(self, request: AdmissionRequest, key: Hashable) -> bool:
        return request.is_again and key not in self.due

    def changed(self, request: AdmissionRequest) -> None:
        """One of them changed the object: those before it must see it, and the other plugins too."""
        self.require()
        request.reinvoke = True

    def require(self) -> None:
        self.due |= self.invoked
        self.invoked = set()


def reinvocation(request: AdmissionRequest, plugin: str) -> Reinvocation:
    if request.memory is None:
        request.memory = {}
    found: Reinvocation = request.memory.setdefault(plugin, Reinvocation())
    return found
