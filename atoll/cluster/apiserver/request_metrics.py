"""What is counted of requests, under kube-apiserver's names. A request costs one dictionary look-up and three sums."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable

from atoll.base.metrics import Buckets, Cell, Metrics
from atoll.cluster.apiserver.paths import Path
from atoll.cluster.apiserver.ports import Attributes
from atoll.wire.messages import HttpRequest

SECONDS = (
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0,
    45.0, 60.0,
)  # fmt: skip
BYTES = (1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9)
_BELOW_SLI = 2  # bounds of SECONDS that the SLI histogram has not
_LABELS = ("verb", "dry_run", "group", "version", "resource", "subresource", "scope", "component")
_SIZE_LABELS = ("verb", "group", "version", "resource", "subresource", "scope", "component")
_VERBS = {"create": "POST", "update": "PUT", "patch": "PATCH", "proxy": "CONNECT"}
CONNECTING = frozenset({"exec", "attach", "portforward", "proxy"})  # subresources
_READS = frozenset({"get", "list", "watch"})
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_TOP = ("healthz", "livez", "readyz", "version", "metrics", "openapi", "apis", "api", "debug")


class Series:
    """What one kind of answer counts into."""

    __slots__ = ("durations", "sizes", "total")

    def __init__(self, total: Cell, durations: Buckets, sizes: Buckets) -> None:
        self.total = total
        self.durations = durations
        self.sizes = sizes

    def observe(self, seconds: float, size: int) -> None:
        self.total.value += 1
        durations = self.durations
        durations.counts[bisect_left(SECONDS, seconds)] += 1
        durations.sum += seconds
        sizes = self.sizes
        sizes.counts[bisect_left(BYTES, size)] += 1
        sizes.sum += size


IsServed = Callable[[Path], bool]
"""Whether a path names something that this server has: what else clients think of gets no series of its own."""


class RequestMetrics:
    """See the module."""

    def __init__(self, metrics: Metrics, is_served: IsServed) -> None:
        self._is_served = is_served
        self.reading = self.writing = 0  # in flight now
        self._most = [0, 0]
        self._series: dict[tuple[object, ...], Series] = {}
        self._total = metrics.counter(
            "apiserver_request_total", "[STABLE] Requests by verb, resource and answer.", (*_LABELS, "code")
        )
        self._durations = metrics.histogram(
            "apiserver_request_duration_seconds", "[STABLE] Seconds until the answer was whole.", SECONDS, _LABELS
        )
        self._sli = metrics.histogram(
            "apiserver_request_sli_duration_seconds", "[ALPHA] Seconds until the answer, of what is not long-running.",
            SECONDS[_BELOW_SLI:], _SIZE_LABELS,
        )  # fmt: skip
        self._sizes = metrics.histogram("apiserver_response_sizes", "[STABLE] Bytes of answers.", BYTES, _SIZE_LABELS)
        self._long = metrics.gauge(
            "apiserver_longrunning_requests", "[STABLE] Watches and connections that are open.", _SIZE_LABELS
        )
        self._in_flight = metrics.gauge(
            "apiserver_current_inflight_requests", "[STABLE] The most requests in flight since the last scrape.",
            ("request_kind",),
        )  # fmt: skip
        self._terminated = metrics.counter(
            "apiserver_request_terminations_total", "[ALPHA] Requests that the server ended in self-defence.",
            ("verb", "group", "version", "resource", "subresource", "scope", "component", "code"),
        )  # fmt: skip
        self._sli_of: list[tuple[Buckets, Buckets]] = []
        metrics.on_scrape(self._refresh)

    def series(self, asked: Attributes, path: Path | None, request: HttpRequest, status: int) -> Series:
        """Where a request is counted once it is answered (a watch: has ended)."""
        dry = "dryRun=" in request.query
        if path is not None:
            key: tuple[object, ...] = (
                asked.verb, path.group, path.version, path.plural, path.subresource, bool(path.name),
                bool(path.namespace), dry, status, asked.verb == "patch" and _is_apply(request),
            )  # fmt: skip
        else:
            key = (request.method if request.method in _METHODS else "other", _page(request.path), status)
        series = self._series.get(key)
        if series is None:
            series = self._new(key, asked, path, request, status)
        return series

    def begin(self, asked: Attributes) -> None:
        """It is in flight."""
        if asked.verb in _READS:
            self.reading += 1
            if self.reading > self._most[0]:
                self._most[0] = self.reading
        else:
            self.writing += 1
            if self.writing > self._most[1]:
                self._most[1] = self.writing

    def end(self, asked: Attributes) -> None:
        if asked.verb in _READS:
            self.reading -= 1
        else:
            self.writing -= 1

    def long_running(self, asked: Attributes, path: Path, request: HttpRequest) -> Cell:
        """The gauge to raise while a watch or connection is open."""
        verb, _, *rest = _labels(asked, path, request)
        return self._long.of(verb, *rest)

    def terminated(self, asked: Attributes, path: Path | None, request: HttpRequest, code: int) -> None:
        """The server refused or cut it (429, 504)."""
        if path is not None and not self._is_served(path):
            path = None
        verb, _, *rest = _labels(asked, path, request)
        self._terminated.of(verb, *rest, str(code)).value += 1

    def _new(
        self, key: tuple[object, ...], asked: Attributes, path: Path | None, request: HttpRequest, status: int
    ) -> Series:
        if path is not None and not self._is_served(path):
            path, key = None, (request.method if request.method in _METHODS else "other", "other", status)
        found = self._series.get(key)
        if found is None:
            found = self._series[key] = self._make(asked, path, request, status)
        return found

    def _make(self, asked: Attributes, path: Path | None, request: HttpRequest, status: int) -> Series:
        labels = _labels(asked, path, request)
        sizes = (labels[0], *labels[2:])
        durations = self._durations.of(*labels)
        if labels[0] not in ("WATCH", "CONNECT"):
            self._sli_of.append((durations, self._sli.of(*sizes)))
        return Series(self._total.of(*labels, str(status)), durations, self._sizes.of(*sizes))

    def _refresh(self) -> None:
        """The SLI histogram is the other one in fewer buckets."""
        sums: dict[int, tuple[Buckets, list[Buckets]]] = {}
        for durations, sli in self._sli_of:
            found = sums.setdefault(id(sli), (sli, []))[1]
            if not any(item is durations for item in found):
                found.append(durations)
        for sli, parts in sums.values():
            sli.sum = sum(part.sum for part in parts)
            for index in range(len(sli.counts)):
                sli.counts[index] = sum(part.counts[index + _BELOW_SLI] for part in parts)
            sli.counts[0] += sum(sum(part.counts[:_BELOW_SLI]) for part in parts)
        self._in_flight.of("readOnly").set(self._most[0])
        self._in_flight.of("mutating").set(self._most[1])
        self._most = [self.reading, self.writing]


def _labels(asked: Attributes, path: Path | None, request: HttpRequest) -> tuple[str, ...]:
    """In the order of _LABELS."""
    if path is None:
        method = request.method if request.method in _METHODS else "other"
        return (method, "", "", "", "", _page(request.path), "", "")
    verb = _VERBS.get(asked.verb, asked.verb.upper())
    if path.subresource in CONNECTING:
        verb = "CONNECT"
    elif asked.verb == "patch" and _is_apply(request):
        verb = "APPLY"
    if path.name or asked.verb == "create":
        scope = "resource"
    else:
        scope = "namespace" if path.namespace else "cluster"
    dry = "All" if "dryRun=" in request.query else ""
    return (verb, dry, path.group, path.version, path.plural, path.subresource, scope, "apiserver")


def _is_apply(request: HttpRequest) -> bool:
    return request.headers.get("content-type", "").startswith("application/apply-patch")


def _page(path: str) -> str:
    """Of a path that names no resource, what is worth a series: not whatever somebody sends."""
    if path.startswith(("/openapi/v2", "/openapi/v3")):
        return path[1:11]
    top = path.split("/", 2)[1] if path.startswith("/") else ""
    return f"/{top}" if top in _TOP else "other"
