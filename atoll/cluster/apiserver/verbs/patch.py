"""patch: JSON, merge, strategic merge and server-side apply, each over what now stands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from atoll.base.errors import UnsupportedMediaType
from atoll.client.port import APPLY_PATCH, JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH
from atoll.cluster.apiserver.api import Api
from atoll.cluster.apiserver.ports import Object
from atoll.cluster.apiserver.request import Context
from atoll.cluster.apiserver.served import Served
from atoll.cluster.apiserver.verbs.accept import accept
from atoll.cluster.apiserver.verbs.update import Change, Outcome, Strategy, carry_out

CONTENT_TYPES = (JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH, APPLY_PATCH)


@dataclass(frozen=True, slots=True)
class Patch:
    content_type: str
    body: Any
    force: bool = False
    repeated: tuple[str, ...] = ()


async def patch(
    api: Api, context: Context, served: Served, namespace: str, name: str, strategy: Strategy, request: Patch
) -> Outcome:
    """Raises NotFound, Invalid, BadRequest, Conflict, UnsupportedMediaType."""
    kinds = supported(served)
    if request.content_type not in kinds:
        raise UnsupportedMediaType(
            "the body of the request was in an unknown format - accepted media types include: " + ", ".join(kinds)
        )

    def make(_stored: Object | None, shown: Object) -> Object:
        return accept(context, served, apply_to(served, shown, request), request.repeated)

    return await carry_out(api, context, served, Change(namespace, name, make, strategy))


def supported(served: Served) -> tuple[str, ...]:
    """Custom resources have no strategic merge."""
    if served.custom is not None:
        return tuple(kind for kind in CONTENT_TYPES if kind != STRATEGIC_PATCH)
    return CONTENT_TYPES


def apply_to(served: Served, shown: Object, request: Patch) -> Any:
    """A private patched object; `shown` is left as it is."""
    return merge(shown, request.body)


def merge(target: Any, change: Any) -> Any:
    """RFC 7386, without touching `target`; unchanged parts are shared."""
    if not isinstance(change, dict):
        return change
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in change.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge(result.get(key), value)
    return result
