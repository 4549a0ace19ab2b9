"""Startup, liveness and readiness probes, as kubelet runs them."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from atoll.base.clock import Clock
from atoll.cluster.nodes.process.grpc_health import grpc_health

Object = dict[str, Any]
Result = tuple[bool, str]
_MOST_OUTPUT = 10 * 1024
_EARLY_SECONDS = 0.25


@dataclass(slots=True)
class ProbeTarget:
    """The running container as a probe sees it."""

    host: str
    ports: dict[str, int]  # by name
    chosen: dict[int, int]  # host mode: container port → the port really used
    run: Callable[[list[str], float], Awaitable[tuple[int, str]]]  # (exit code, output); TimeoutError
    clock: Clock


def port_number(target: ProbeTarget, port: Any) -> int:
    """A probe's port by number or name. Raises ValueError."""
    if isinstance(port, int) or str(port).isdigit():
        number = int(port)
    elif port in target.ports:
        number = target.ports[port]
    else:
        raise ValueError(f"couldn't find port: {port}")
    return target.chosen.get(number, number)


async def run_probe(probe: Object, target: ProbeTarget) -> Result:
    """One attempt: (passed, message)."""
    timeout = float(probe.get("timeoutSeconds") or 1)
    try:
        if action := probe.get("exec"):
            return await _exec(action, target, timeout)
        if action := probe.get("httpGet"):
            return await http_get(action, target, timeout)
        if action := probe.get("tcpSocket"):
            return await _tcp(action, target, timeout)
        if action := probe.get("grpc"):
            port = target.chosen.get(action["port"], action["port"])
            return await grpc_health(target.host, port, action.get("service") or "", timeout)
    except ValueError as error:
        return False, str(error)
    return True, ""


async def _exec(action: Object, target: ProbeTarget, timeout: float) -> Result:
    command = list(action["command"])
    try:
        code, output = await target.run(command, timeout)
    except TimeoutError:
        return False, f'command timed out: "{" ".join(command)}" timed out after {timeout:g}s'
    except OSError as error:
        return False, str(error)
    return code == 0, output[:_MOST_OUTPUT]


async def _tcp(action: Object, target: ProbeTarget, timeout: float) -> Result:
    host, port = action.get("host") or target.host, port_number(target, action["port"])
    try:
        async with asyncio.timeout(timeout):
            _, writer = await asyncio.open_connection(host, port)
    except TimeoutError:
        return False, f"dial tcp {host}:{port}: i/o timeout"
    except OSError as error:
        return False, f"dial tcp {host}:{port}: connect: {_reason(error)}"
    writer.close()
    return True, ""


def _reason(error: OSError) -> str:
    return {111: "connection refused", 113: "no route to host"}.get(
        error.errno or 0, str(error.strerror or error).lower()
    )


async def http_get(action: Object, target: ProbeTarget, timeout: float) -> Result:
    """GET; 200 to 399 is success."""
    host, port = action.get("host") or target.host, port_number(target, action["port"])
    scheme = str(action.get("scheme") or "HTTP").lower()
    path = action.get("path") or "/"
    path = path if path.startswith("/") else "/" + path
    url = f"{scheme}://{host}:{port}{path}"
    headers = {"Host": f"{host}:{port}", "User-Agent": "kube-probe/1.36", "Accept": "*/*", "Connection": "close"}
    headers |= {item["name"]: item["value"] for item in action.get("httpHeaders") or []}
    text = f"GET {path} HTTP/1.1\r\n" + "".join(f"{key}: {value}\r\n" for key, value in headers.items()) + "\r\n"
    try:
        async with asyncio.timeout(timeout):
            status = await _status(host, port, scheme == "https", text)
    except TimeoutError:
        return False, f'Get "{url}": context deadline exceeded (Client.Timeout exceeded while awaiting headers)'
    except (ValueError, asyncio.IncompleteReadError):
        return False, f'Get "{url}": EOF'
    except OSError as error:
        return False, f'Get "{url}": dial tcp {host}:{port}: connect: {_reason(error)}'
    if 200 <= status < 400:
        return True, ""
    return False, f"HTTP probe failed with statuscode: {status}"


async def _status(host: str, port: int, secure: bool, text: str) -> int:
    context = None
    if secure:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    reader, writer = await asyncio.open_connection(host, port, ssl=context)
    try:
        writer.write(text.encode())
        line = await reader.readline()
        return int(line.split(b" ", 2)[1]) if line.startswith(b"HTTP/") else _not_http()
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


def _not_http() -> int:
    raise ValueError("malformed HTTP response")


@dataclass(slots=True)
class ProbeEvents:
    """What a worker wants to hear."""

    started: Callable[[], None]
    ready: Callable[[bool], None]
    failed: Callable[[str, Object], None]  # kind Liveness or Startup, the probe: kill the container
    unhealthy: Callable[[str, str], None]  # kind, message: an event


async def run_probes(container: Object, target: ProbeTarget, events: ProbeEvents) -> None:
    """Run the container's probes until cancelled."""
    began = target.clock.monotonic()
    probe = container.get("startupProbe")
    if probe and not await _until_started(probe, target, events, began):
        return
    events.started()
    tasks = []
    if probe := container.get("livenessProbe"):
        tasks.append(_liveness(probe, target, events, began))
    if probe := container.get("readinessProbe"):
        tasks.append(_readiness(probe, target, events, began))
    else:
        events.ready(True)
    if tasks:
        async with asyncio.TaskGroup() as group:
            for task in tasks:
                group.create_task(task)


async def _delay(probe: Object, target: ProbeTarget, began: float) -> None:
    left = began + float(probe.get("initialDelaySeconds") or 0) - target.clock.monotonic()
    if left > 0:
        await asyncio.sleep(left)


def _period(probe: Object) -> float:
    return float(probe.get("periodSeconds") or 10)


async def _until_started(probe: Object, target: ProbeTarget, events: ProbeEvents, began: float) -> bool:
    await _delay(probe, target, began)
    failures = 0
    while True:
        passed, message = await run_probe(probe, target)
        if passed:
            return True
        if _young(probe, target, began):
            await asyncio.sleep(min(_period(probe), _EARLY_SECONDS))
            continue
        failures += 1
        events.unhealthy("Startup", message)
        if failures >= int(probe.get("failureThreshold") or 3):
            events.failed("startup", probe)
            return False
        await asyncio.sleep(_period(probe))


def _young(probe: Object, target: ProbeTarget, began: float) -> bool:
    """Within the container's first period, when kubelet would not have probed it yet: it is looked at often, so that a
    program's start-up does not cost a whole period, and what fails does not count."""
    return target.clock.monotonic() - began < _period(probe)


async def _liveness(probe: Object, target: ProbeTarget, events: ProbeEvents, began: float) -> None:
    await _delay(
        {"initialDelaySeconds": max(float(probe.get("initialDelaySeconds") or 0), _period(probe))}, target, began
    )
    failures = 0
    while True:
        passed, message = await run_probe(probe, target)
        if passed:
            failures = 0
        else:
            failures += 1
            events.unhealthy("Liveness", message)
            if failures >= int(probe.get("failureThreshold") or 3):
                events.failed("liveness", probe)
                return
        await asyncio.sleep(_period(probe))


async def _readiness(probe: Object, target: ProbeTarget, events: ProbeEvents, began: float) -> None:
    await _delay(probe, target, began)
    row, last, ready = 0, False, False
    while True:
        passed, message = await run_probe(probe, target)
        row = row + 1 if passed == last and row else 1
        last = passed
        young = not ready and _young(probe, target, began)
        if not passed and not young:
            events.unhealthy("Readiness", message)
        threshold = int(probe.get("successThreshold" if passed else "failureThreshold") or (1 if passed else 3))
        if passed != ready and row >= threshold:
            ready = passed
            events.ready(ready)
        await asyncio.sleep(min(_period(probe), _EARLY_SECONDS) if young and not ready else _period(probe))
