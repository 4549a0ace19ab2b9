"""Priority and fairness for an assembled API: its levels, the filter that requests pass, and who keeps the objects."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from atoll.app.assembly import Assembly
from atoll.cluster.apiserver.api import Api
from atoll.cluster.apiserver.flowcontrol.dump import dump_levels, dump_queues, dump_requests
from atoll.cluster.apiserver.flowcontrol.filter import Filter, StoredOf
from atoll.cluster.apiserver.flowcontrol.keeper import Keeper
from atoll.cluster.apiserver.flowcontrol.levels import Levels
from atoll.cluster.apiserver.flowcontrol.work import Stored
from atoll.cluster.apiserver.request import parse_query
from atoll.wire.messages import HttpRequest, HttpResponse

_DEBUG = "/debug/api_priority_and_fairness"
_SIZE_SECONDS = 60.0
_SAMPLE = 200


class FlowControl(Struct):
    """Let `keeper.run()` run while requests are served."""

    levels: Levels
    filter: Filter
    keeper: Keeper


def flow_control(assembly: Assembly, server_limit: int = 600) -> FlowControl:
    """`server_limit`: seats for all levels; kube-apiserver's default is 400 for reads and 200 for writes."""
    levels = Levels(assembly.clock.monotonic(), server_limit)
    flow = Filter(levels, assembly.clock, _stored_of(assembly.api))
    return FlowControl(levels, flow, Keeper(assembly.api, levels, assembly.clock))


def debug_pages(assembly: Assembly, flow: FlowControl) -> dict[str, Callable[[HttpRequest], HttpResponse]]:
    """/debug/api_priority_and_fairness/…: path → who answers it."""
    text = [("Content-Type", "text/plain; charset=utf-8")]

    def requests(request: HttpRequest) -> HttpResponse:
        clock = assembly.clock
        details = bool((parse_query(request.query).get("includeRequestDetails") or [""])[0])
        return HttpResponse(
            200, list(text), dump_requests(flow.levels, details, clock.wall() - clock.monotonic()).encode()
        )

    return {
        f"{_DEBUG}/dump_priority_levels": lambda _: HttpResponse(200, list(text), dump_levels(flow.levels).encode()),
        f"{_DEBUG}/dump_queues": lambda _: HttpResponse(200, list(text), dump_queues(flow.levels).encode()),
        f"{_DEBUG}/dump_requests": requests,
    }


def _stored_of(api: Api) -> StoredOf:
    """Counts as they are, the average size of the first few as it was within the last minute."""
    sizes: dict[str, tuple[float, int]] = {}

    def stored(group: str, resource: str) -> Stored | None:
        name = f"{resource}.{group}" if group else resource
        count = api.store.count(name)
        if not count:
            return Stored(0, 0)
        now = api.clock.monotonic()
        measured, average = sizes.get(name, (-_SIZE_SECONDS, 0))
        if now - measured >= _SIZE_SECONDS:
            sample = api.store.scan(name)[:_SAMPLE]
            average = sum(len(record.data) for record in sample) // max(1, len(sample))
            sizes[name] = (now, average)
        return Stored(count, average)

    return stored
