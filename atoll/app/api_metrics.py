"""/metrics of a cluster's process: what its API, store, admission and process are like, under upstream's names."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from atoll.app.assembly import Assembly
from atoll.base.clock import Clock
from atoll.base.metrics import CONTENT_TYPE, Metrics
from atoll.cluster.apiserver.api import Api, WriteObserver
from atoll.cluster.apiserver.ports import Admission, AdmissionRequest, Object, Repeatability, User
from atoll.cluster.apiserver.request_metrics import SECONDS
from atoll.cluster.store.port import ABSENT, Key
from atoll.wire.messages import HttpRequest, HttpResponse

_ADMISSION_SECONDS = (0.005, 0.025, 0.1, 0.5, 1.0, 2.5)


def observe_api(assembly: Assembly, metrics: Metrics, store_file: Path | None = None) -> None:
    """Count what the API does, from now on."""
    api = assembly.api
    api.hooks.admission = ObservedAdmission(api.hooks.admission, metrics, assembly.clock)
    api.observe_write = _write_observer(metrics)
    _count_objects(api, metrics, store_file)
    _describe_process(metrics)
    build = metrics.gauge("kubernetes_build_info", "[ALPHA] Of what this is.", ("major", "minor", "git_version"))
    build.of("1", "36", "v1.36.3").set(1)


def page(metrics: Metrics) -> Callable[[HttpRequest], HttpResponse]:
    """Who answers /metrics: text, whatever else the client would rather have."""
    return lambda _: HttpResponse(200, [("Content-Type", CONTENT_TYPE)], metrics.text().encode())


class ObservedAdmission:
    """The chain's two steps, timed."""

    def __init__(self, inner: Admission, metrics: Metrics, clock: Clock) -> None:
        self._inner = inner
        self._now = clock.monotonic
        self._steps = metrics.histogram(
            "apiserver_admission_step_admission_duration_seconds", "[STABLE] Seconds of an admission step.",
            _ADMISSION_SECONDS, ("type", "operation", "rejected"),
        )  # fmt: skip

    def repeats(self, group_resource: str, user: User, created: Object | None = None) -> Repeatability | None:
        return self._inner.repeats(group_resource, user, created)

    async def mutate(self, request: AdmissionRequest) -> None:
        started = self._now()
        try:
            await self._inner.mutate(request)
        except Exception:
            self._observe("admit", request, "true", started)
            raise
        self._observe("admit", request, "false", started)

    async def validate(self, request: AdmissionRequest) -> None:
        started = self._now()
        try:
            await self._inner.validate(request)
        except Exception:
            self._observe("validate", request, "true", started)
            raise
        self._observe("validate", request, "false", started)

    def mutate_at_once(self, request: AdmissionRequest) -> bool:
        return self._at_once("admit", request, self._inner.mutate_at_once)

    def validate_at_once(self, request: AdmissionRequest) -> bool:
        return self._at_once("validate", request, self._inner.validate_at_once)

    def _at_once(self, step: str, request: AdmissionRequest, take: Callable[[AdmissionRequest], bool]) -> bool:
        started = self._now()
        try:
            taken = take(request)
        except Exception:
            self._observe(step, request, "true", started)
            raise
        if taken:
            self._observe(step, request, "false", started)
        return taken

    def _observe(self, step: str, request: AdmissionRequest, rejected: str, started: float) -> None:
        self._steps.of(step, request.operation, rejected).observe(self._now() - started)


def _write_observer(metrics: Metrics) -> WriteObserver:
    """The store's writes go by the name of etcd's, which dashboards know."""
    family = metrics.histogram(
        "etcd_request_duration_seconds", "[ALPHA] Seconds until a write was durable.", SECONDS,
        ("operation", "group", "resource"),
    )  # fmt: skip

    def observe(key: Key, expected: int, deletes: bool, seconds: float) -> None:
        operation = "delete" if deletes else "create" if expected == ABSENT else "update"
        resource, _, group = key.resource.partition(".")
        family.of(operation, group, resource).observe(seconds)

    return observe


def _count_objects(api: Api, metrics: Metrics, store_file: Path | None) -> None:
    objects = metrics.gauge("apiserver_resource_objects", "[ALPHA] Stored objects.", ("group", "resource"))
    older = metrics.gauge(
        "apiserver_storage_objects", "[STABLE] Stored objects, as it was named before.", ("resource",)
    )
    size = metrics.gauge("apiserver_storage_size_bytes", "[STABLE] Bytes of the store's file.", ("storage_cluster_id",))

    def refresh() -> None:
        objects.clear()
        older.clear()
        for served in api.registry:
            resource, _, group = served.store_resource.partition(".")
            count = api.store.count(served.store_resource)
            objects.of(group, resource).set(count)
            older.of(served.store_resource).set(count)
        if store_file is not None:
            files = (store_file, store_file.with_name(f"{store_file.name}-wal"))
            size.of("store-0").set(sum(file.stat().st_size for file in files if file.exists()))

    metrics.on_scrape(refresh)


def _describe_process(metrics: Metrics) -> None:
    """process_…, from /proc; nothing where there is none."""
    status = Path("/proc/self/stat")
    if not status.exists():
        return
    import resource

    names = ("cpu_seconds_total", "resident_memory_bytes", "virtual_memory_bytes", "start_time_seconds", "open_fds")
    cpu = metrics.counter("process_cpu_seconds_total", "Seconds of CPU used.").of()
    resident, virtual, started, files = (
        metrics.gauge(f"process_{name}", "Of this process.").of() for name in names[1:]
    )
    most = metrics.gauge("process_max_fds", "The most files that this process may open.").of()
    boot = next(
        (int(line.split()[1]) for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime")), 0
    )
    ticks, page_bytes = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")

    def refresh() -> None:
        fields = status.read_text().rpartition(")")[2].split()
        cpu.set((int(fields[11]) + int(fields[12])) / ticks)
        virtual.set(int(fields[20]))
        resident.set(int(fields[21]) * page_bytes)
        started.set(boot + int(fields[19]) / ticks)
        files.set(sum(1 for _ in Path("/proc/self/fd").iterdir()))
        most.set(resource.getrlimit(resource.RLIMIT_NOFILE)[0])

    metrics.on_scrape(refresh)
