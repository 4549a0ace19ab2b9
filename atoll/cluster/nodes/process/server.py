"""The kubelet's HTTPS port: logs, exec, attach, port-forward, and what the node says of itself."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qs

from atoll.base.clock import parse_rfc3339
from atoll.cluster.nodes.process import portforward, remotecommand
from atoll.cluster.nodes.process.access import KubeletAccess
from atoll.cluster.nodes.process.container import Container
from atoll.cluster.nodes.process.logs import LogOptions, read_logs
from atoll.cluster.nodes.process.metrics import resource_metrics, stats_summary
from atoll.cluster.nodes.process.model import NodeContext, Slot
from atoll.cluster.nodes.process.remotecommand import Status, Streams, Wanted
from atoll.cluster.nodes.process.worker import PodWorker
from atoll.wire.messages import HttpRequest, HttpResponse

Query = dict[str, list[str]]
_EXEC_FAILURE = "atoll-exec: "


class Refusal(Exception):
    """Answered as plain text, which the API server turns into a Status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class KubeletServer:
    """An HTTP handler over the node's workers."""

    def __init__(self, context: NodeContext, workers: dict[str, PodWorker], access: KubeletAccess) -> None:
        self._context = context
        self._workers = workers
        self._access = access

    async def __call__(self, request: HttpRequest) -> HttpResponse:
        status, user = await self._access.allowed(request)
        if status == 401:
            return _text(401, "Unauthorized")
        if status == 403:
            return _text(403, f"Forbidden (user={user}, verb={request.method.lower()}, resource=nodes)")
        try:
            return await self._route(request)
        except Refusal as refusal:
            return _text(refusal.status, refusal.message)

    async def _route(self, request: HttpRequest) -> HttpResponse:
        parts = request.path.strip("/").split("/")
        query = parse_qs(request.query, keep_blank_values=True)
        head, rest = parts[0], parts[1:]
        if head == "healthz":
            return _text(200, "ok")
        if head == "containerLogs" and len(rest) == 3:
            return self._logs(rest, query)
        if head in ("exec", "attach") and len(rest) in (3, 4):
            return self._command(request, head, rest, query)
        if head == "portForward" and len(rest) in (2, 3):
            return self._port_forward(request, rest, query)
        if head in ("pods", "runningpods") and not rest:
            return self._pods()
        if parts == ["stats", "summary"]:
            return _json(stats_summary(self._context, self._workers))
        if parts == ["metrics", "resource"]:
            return _text(200, resource_metrics(self._context, self._workers))
        if parts == ["metrics", "dcgm"] and self._context.devices is not None:
            return _text(200, self._context.devices.metrics())
        if parts == ["configz"]:
            return _json({"kubeletconfig": self._configuration()})
        return _text(404, "404 page not found")

    def _worker(self, namespace: str, name: str) -> PodWorker:
        for worker in self._workers.values():
            if worker.name == name and worker.namespace == namespace:
                return worker
        raise Refusal(404, f'pod "{name}" not found')

    def _slot(self, worker: PodWorker, container: str) -> Slot:
        slot = worker.slots.get(container)
        if slot is None:
            raise Refusal(404, f'container "{container}" not found in pod "{worker.name}"')
        return slot

    def _pods(self) -> HttpResponse:
        items = [worker.pod for worker in self._workers.values()]
        return _json({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items})

    def _configuration(self) -> dict[str, Any]:
        """What of a KubeletConfiguration this node goes by."""
        config = self._context.config
        return {
            "kind": "KubeletConfiguration",
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "address": config.address,
            "port": config.kubelet_port,
            "clusterDomain": config.cluster_domain,
            "clusterDNS": [config.cluster_dns] if config.cluster_dns else [],
            "podCIDR": config.pod_cidr,
            "maxPods": config.max_pods,
            "nodeLeaseDurationSeconds": config.lease_seconds,
            "cgroupDriver": "cgroupfs",
            "cgroupsPerQOS": False,
            "cpuCFSQuota": config.hierarchy is not None,
            "containerLogMaxSize": str(config.log_max_bytes),
            "containerLogMaxFiles": config.log_max_files,
            "syncFrequency": f"{config.refresh_seconds:g}s",
            "authentication": {"anonymous": {"enabled": False}, "webhook": {"enabled": True}},
            "authorization": {"mode": "Webhook"},
        }

    def _logs(self, rest: list[str], query: Query) -> HttpResponse:
        worker = self._worker(rest[0], rest[1])
        slot = self._slot(worker, rest[2])
        previous = _flag(query, "previous")
        attempt = slot.attempt - (2 if previous else 1)
        state = slot.state
        if previous and (attempt < 0 or not slot.log_path(attempt).exists()):
            raise Refusal(400, f'previous terminated container "{slot.name}" in pod "{worker.name}" not found')
        if not previous and (attempt < 0 or (slot.container is None and not slot.log_path(attempt).exists())):
            reason = state.waiting[0] if state.waiting else "ContainerCreating"
            text = f'container "{slot.name}" in pod "{worker.name}" is '
            if reason in ("ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull"):
                raise Refusal(400, text + f"waiting to start: {_IMAGE_WAITS[reason]}")
            raise Refusal(400, text + f"waiting to start: {reason}")
        options = self._log_options(query)
        writer = slot.container.log if slot.container is not None and not previous else None
        stream = read_logs(slot.log_path(attempt), options, writer)
        return HttpResponse(200, [("Content-Type", "text/plain")], stream=stream)

    def _log_options(self, query: Query) -> LogOptions:
        since: float | None = None
        try:
            if seconds := _value(query, "sinceSeconds"):
                since = self._context.clock.wall() - int(seconds)
            elif moment := _value(query, "sinceTime"):
                since = parse_rfc3339(moment)
            tail, limit = _value(query, "tailLines"), _value(query, "limitBytes")
            return LogOptions(
                follow=_flag(query, "follow"), timestamps=_flag(query, "timestamps"), since=since,
                tail_lines=int(tail) if tail else None, limit_bytes=int(limit) if limit else None,
                stream=_value(query, "stream") or "All",
            )  # fmt: skip
        except ValueError as error:
            raise Refusal(400, f"invalid log options: {error}") from None

    def _command(self, request: HttpRequest, kind: str, rest: list[str], query: Query) -> HttpResponse:
        worker = self._worker(rest[0], rest[1])
        slot = self._slot(worker, rest[-1])
        container = slot.container
        if container is None or not container.running:
            raise Refusal(500, f'container not found ("{slot.name}")')
        wanted = Wanted(
            stdin=_flag(query, "input") or _flag(query, "stdin"),
            stdout=_flag(query, "output") or _flag(query, "stdout"),
            stderr=_flag(query, "error") or _flag(query, "stderr"),
            tty=_flag(query, "tty"),
        )
        if not (wanted.stdin or wanted.stdout or wanted.stderr):
            raise Refusal(400, "you must specify at least 1 of stdin, stdout, stderr")
        command = query.get("command") or []
        if kind == "exec" and not command:
            raise Refusal(400, "you must specify at least one command")

        async def run(streams: Streams) -> Status:
            if kind == "exec":
                return await _exec(container, command, wanted, streams)
            return await _attach(container, wanted, streams)

        return remotecommand.upgrade(request, wanted, run)

    def _port_forward(self, request: HttpRequest, rest: list[str], query: Query) -> HttpResponse:
        worker = self._worker(rest[0], rest[1])
        address = worker.address
        if address is None:
            raise Refusal(500, f'pod "{worker.name}" has no network')
        try:
            ports = [int(part) for value in query.get("port") or query.get("ports") or [] for part in value.split(",")]
        except ValueError:
            raise Refusal(400, "unable to parse ports") from None
        loop = asyncio.get_running_loop()

        async def dial(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
            with self._context.network.entered(address):
                made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            made.setblocking(False)
            try:
                async with asyncio.timeout(10.0):
                    await loop.sock_connect(made, ("127.0.0.1", address.ports.get(port, port)))
                return await asyncio.open_connection(sock=made)
            except BaseException:
                made.close()
                raise

        def describe(port: int, error: OSError) -> str:
            reason = "connection refused" if isinstance(error, ConnectionRefusedError) else str(error.strerror or error)
            return (
                f"error forwarding port {port} to pod {worker.uid}, uid : "
                f"failed to connect to localhost:{port} inside namespace: dial tcp4 127.0.0.1:{port}: connect: {reason}"
            )

        return portforward.upgrade(request, ports, dial, describe)


_IMAGE_WAITS = {
    "ErrImagePull": "image can't be pulled",
    "ImagePullBackOff": "trying and failing to pull image",
    "ErrImageNeverPull": "image isn't present",
}


async def _exec(container: Container, command: list[str], wanted: Wanted, streams: Streams) -> Status:
    try:
        child = container.exec(command, stdin=wanted.stdin, tty=wanted.tty)
    except (OSError, ProcessLookupError) as error:
        return remotecommand.failed(f"error executing command in container: {error}")
    tail = b""

    async def feed() -> None:
        assert child.stdin is not None
        with suppress(BrokenPipeError):
            async for data in streams.stdin():
                await child.stdin.write(data)
        if not wanted.tty:
            child.stdin.close()

    async def sizes() -> None:
        while True:
            child.resize(*await streams.resized())

    async def errors() -> None:
        nonlocal tail
        while child.stderr is not None and (data := await child.stderr.read()):
            if data.startswith(_EXEC_FAILURE.encode()):
                tail = data
            else:
                await streams.stderr(data)

    async def output() -> None:
        while data := await child.stdout.read():
            await streams.stdout(data)

    background = [asyncio.ensure_future(sizes())]
    if wanted.stdin:
        background.append(asyncio.ensure_future(feed()))
    try:
        pumps = asyncio.gather(output(), errors())
        code = await child.wait()
        # what is still in the pipes belongs to the answer; a background process that holds them open does not
        with suppress(TimeoutError):
            await asyncio.wait_for(pumps, 1.0)
    finally:
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
        child.kill()
        child.close()
    if tail and code in (125, 126, 127):
        text = tail.decode(errors="replace").removeprefix(_EXEC_FAILURE).strip()
        return remotecommand.failed(
            "error executing command in container: failed to exec in container: failed to start exec: "
            f"OCI runtime exec failed: unable to start container process: {text}"
        )
    return remotecommand.exited(code)


async def _attach(container: Container, wanted: Wanted, streams: Streams) -> Status:
    queue: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue()
    detach: Callable[[], None] = container.attach(lambda stream, data: queue.put_nowait((stream, data)))

    async def feed() -> None:
        with suppress(BrokenPipeError):
            async for data in streams.stdin():
                await container.write_stdin(data)
        container.close_stdin()

    async def sizes() -> None:
        while True:
            container.child.resize(*await streams.resized())

    background = [asyncio.ensure_future(sizes())]
    if wanted.stdin:
        background.append(asyncio.ensure_future(feed()))
    try:
        while True:
            stream, data = await queue.get()
            if not stream:
                break
            await (streams.stdout(data) if stream == "stdout" else streams.stderr(data))
    finally:
        detach()
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
    return remotecommand.success()


def _flag(query: Query, name: str) -> bool:
    return (query.get(name) or [""])[-1].lower() in ("1", "true", "t")


def _value(query: Query, name: str) -> str:
    return (query.get(name) or [""])[-1]


def _text(status: int, message: str) -> HttpResponse:
    return HttpResponse(status, [("Content-Type", "text/plain; charset=utf-8")], message.encode())


def _json(body: Any) -> HttpResponse:
    return HttpResponse(200, [("Content-Type", "application/json")], json.dumps(body).encode())
