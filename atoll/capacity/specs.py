"""Objects without a spec get an empty one when they are written, as by their projects' webhooks, which are in Go."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Iterator
from typing import Any

from atoll.capacity.queueing.admission import Request


class EmptySpecs:
    """Mutating, of the kinds of these CustomResourceDefinitions that have a spec."""

    def __init__(self, definitions: Iterable[dict[str, Any]]) -> None:
        self.resources = frozenset(_with_specs(definitions))

    def depends_on(self, user: Any) -> tuple[str, ...]:
        return ()

    def mutate(self, request: Request) -> Awaitable[None] | None:
        written = request.operation in ("CREATE", "UPDATE") and not request.subresource
        if written and request.obj is not None and request.obj.get("spec") is None:
            request.obj["spec"] = {}
        return None


def _with_specs(definitions: Iterable[dict[str, Any]]) -> Iterator[str]:
    for crd in definitions:
        schemas = (version["schema"]["openAPIV3Schema"] for version in crd["spec"]["versions"])
        if any("spec" in (schema.get("properties") or {}) for schema in schemas):
            yield crd["metadata"]["name"]
