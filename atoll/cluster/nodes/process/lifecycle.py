"""Starting, watching and stopping the containers of one pod, with kubelet's back-offs, hooks and events."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atoll.base.errors import AtollError
from atoll.cluster.nodes.process.container import Container
from atoll.cluster.nodes.process.environment import ConfigError
from atoll.cluster.nodes.process.images import Image, UnknownImage
from atoll.cluster.nodes.process.model import Slot
from atoll.cluster.nodes.process.probes import ProbeEvents, run_probes
from atoll.cluster.nodes.process.starting import (
    HookError,
    plan_container,
    probe_target,
    run_hook,
    termination_message,
)
from atoll.cluster.nodes.process.status import Ended

if TYPE_CHECKING:
    from atoll.cluster.nodes.process.worker import PodWorker

Object = dict[str, Any]
log = logging.getLogger(__name__)
_BEFORE_READY = ("startupProbe", "readinessProbe", "lifecycle")
_MAKE_AGAIN_SECONDS = 2.0


class ContainerLifecycle:
    """Belongs to one PodWorker; wakes it after every change."""

    def __init__(self, worker: PodWorker) -> None:
        self._worker = worker
        self._context = worker.context
        self._tasks: set[asyncio.Task[Any]] = set()
        self._stopping: dict[str, asyncio.Event] = {}
        self._deadline = float("inf")
        self._stopped = False

    def start_due(self, slots: list[Slot]) -> float | None:
        """Start those whose back-off is over; seconds until the next one's is."""
        due: list[float] = []
        for slot in slots:
            if slot.operation is not None or slot.running or self._stopped:
                continue
            left = self._backoff_left(slot)
            if left > 0:
                due.append(left)
                continue
            slot.operation = self._task(self._start(slot), f"start-{slot.name}")
        return min(due, default=None)

    def restart_changed(self) -> None:
        """A container's image may be changed in a running pod: it is then stopped, and started anew at once."""
        spec = self._worker.pod["spec"]
        for container in [*(spec.get("initContainers") or []), *spec["containers"]]:
            slot = self._worker.slots.get(container["name"])
            if slot is None or slot.operation is not None or slot.spec.get("image") == container.get("image"):
                continue
            slot.spec = container
            slot.crash_delay = slot.image_delay = slot.retry_at = 0.0
            slot.backing_off = False
            self.restart(slot, f"Container {slot.name} definition changed, will be restarted")

    def restart(self, slot: Slot, because: str) -> None:
        """Stop a running container, to start it anew at once, whatever the restart policy."""
        if slot.running and slot.kind != "init" and slot.operation is None:
            slot.crash_delay = slot.retry_at = 0.0
            slot.state.restart = True
            slot.replaced_at = self._context.clock.monotonic()
            slot.operation = self._task(self._stop_alone(slot, because, None), f"stop-{slot.name}")

    def _backoff_left(self, slot: Slot) -> float:
        now = self._context.clock.monotonic()
        if slot.retry_at > now:
            return slot.retry_at - now
        ended = slot.state.ended
        if ended is None:
            return 0.0
        config, wall = self._context.config, self._context.clock.wall()
        expired = wall - slot.crash_at > 2 * config.crash_backoff_most_seconds
        if slot.crash_delay and not expired:
            left = ended.finished_at + slot.crash_delay - wall
            if left > 0:
                if not slot.backing_off:
                    slot.backing_off = True
                    pod = self._worker
                    where = f"{pod.name}_{pod.namespace}({pod.uid})"
                    text = (
                        f"back-off {_go_duration(slot.crash_delay)} restarting failed container={slot.name} pod={where}"
                    )
                    slot.state.waiting = ("CrashLoopBackOff", text)
                    pod.event(
                        slot, "Warning", "BackOff", f"Back-off restarting failed container {slot.name} in pod {where}"
                    )
                return left
            slot.crash_delay = min(slot.crash_delay * 2, config.crash_backoff_most_seconds)
        else:
            slot.crash_delay = config.crash_backoff_first_seconds
        slot.crash_at = wall
        slot.backing_off = False
        return 0.0

    async def _start(self, slot: Slot) -> None:
        try:
            image = self._image(slot)
            if image is not None:
                await self._start_container(slot, image)
        except ConfigError as error:
            self._not_made(slot, "CreateContainerConfigError", str(error))
        except (AtollError, OSError) as error:
            self._not_made(slot, "CreateContainerError", str(error))
        except Exception as error:
            log.exception("%s/%s: %s", self._worker.namespace, self._worker.name, slot.name)
            self._not_made(slot, "CreateContainerError", f"{type(error).__name__}: {error}")
        finally:
            slot.operation = None
            self._worker.wake()

    def _not_made(self, slot: Slot, reason: str, message: str) -> None:
        slot.replaced_at = None
        slot.state.waiting = (reason, message)
        slot.retry_at = self._context.clock.monotonic() + _MAKE_AGAIN_SECONDS
        self._worker.event(slot, "Warning", "Failed", f"Error: {message}")

    def _image(self, slot: Slot) -> Image | None:
        """The image, or None where it is unknown: then the container waits as after a failed pull."""
        reference = slot.spec.get("image", "")
        try:
            image = self._context.catalogue.resolve(reference)
        except UnknownImage as error:
            self._no_image(slot, reference, error)
            return None
        slot.image_delay = 0.0
        self._worker.event(slot, "Normal", "Pulled", f'Container image "{reference}" already present on machine')
        slot.state.image_id = image.identity
        return image

    def _no_image(self, slot: Slot, reference: str, error: UnknownImage) -> None:
        now = self._context.clock.monotonic()
        worker = self._worker
        if slot.spec.get("imagePullPolicy") == "Never":
            message = f'Container image "{reference}" is not present with pull policy of Never'
            slot.state.waiting = ("ErrImageNeverPull", message)
            worker.event(slot, "Warning", "ErrImageNeverPull", message)
            slot.retry_at = now + 10.0
            return
        if slot.image_delay and now < slot.image_at:
            text = f'Back-off pulling image "{reference}"'
            slot.state.waiting = ("ImagePullBackOff", f"{text}: ErrImagePull: {error}")
            worker.event(slot, "Normal", "BackOff", text)
            worker.event(slot, "Warning", "Failed", "Error: ImagePullBackOff")
            slot.retry_at = slot.image_at
            return
        slot.image_delay = min(slot.image_delay * 2 or 10.0, 300.0)
        slot.image_at = now + slot.image_delay
        slot.state.waiting = ("ErrImagePull", str(error))
        worker.event(slot, "Normal", "Pulling", f'Pulling image "{reference}"')
        worker.event(slot, "Warning", "Failed", f'Failed to pull image "{reference}": {error}')
        worker.event(slot, "Warning", "Failed", "Error: ErrImagePull")
        slot.retry_at = now + 1.0

    async def _start_container(self, slot: Slot, image: Image) -> None:
        worker, state, config = self._worker, slot.state, self._context.config
        assert worker.address is not None
        self._aim(slot)
        pod = worker.shown_pod()
        plan = await plan_container(self._context, pod, slot, image, worker.files, worker.address, worker.space)
        if self._stopped:
            return
        worker.event(slot, "Normal", "Created", "Container created")
        container = Container.start(
            plan, self._context.clock, log_bytes=config.log_max_bytes, log_files=config.log_max_files
        )
        _forget_old_logs(slot)
        slot.starting_at = self._context.clock.monotonic()
        if state.ended is not None:
            state.last = state.ended
            state.restart_count += 1
        state.ended, state.waiting, state.container_id = None, None, plan.container_id
        state.started = state.ready = state.restart = False
        state.actual = slot.resources
        slot.attempt += 1
        slot.container, slot.killed_because = container, ""
        self._task(self._watch(slot, container), f"watch-{slot.name}")
        worker.event(slot, "Normal", "Started", "Container started")
        await container.entered()
        slot.starting_at = None
        if slot.container is container:
            state.waiting = None
            state.running_since = container.started_at
            if not any(slot.spec.get(field) for field in _BEFORE_READY):
                # nothing is waited for: it is ready with the first word of its running
                state.started = state.ready = True
                slot.replaced_at = None
        worker.wake()
        await self._after_start(slot, container)

    def _aim(self, slot: Slot) -> None:
        """An ephemeral container may be in the pid namespace of the container that it is to look at."""
        target = self._worker.slots.get(slot.spec.get("targetContainerName") or "")
        slot.close_target()
        if target is not None and target.container is not None and self._context.config.rootful:
            slot.open_target(target.container.main_pid())

    async def _after_start(self, slot: Slot, container: Container) -> None:
        assert self._worker.address is not None
        target = probe_target(self._context, slot, container, self._worker.address)
        hook = (slot.spec.get("lifecycle") or {}).get("postStart")
        if hook is not None:
            try:
                await run_hook(hook, target)
            except HookError as error:
                self._worker.event(slot, "Warning", "FailedPostStartHook", "PostStartHook failed")
                log.info("%s/%s %s: postStart: %s", self._worker.namespace, self._worker.name, slot.name, error)
                await self._stop(slot, "FailedPostStartHook", None)
                return
        if container.running:
            slot.probes = self._task(run_probes(slot.spec, target, self._probe_events(slot)), f"probes-{slot.name}")

    def _probe_events(self, slot: Slot) -> ProbeEvents:
        def started() -> None:
            slot.state.started = True
            slot.replaced_at = None
            self._worker.wake()

        def ready(value: bool) -> None:
            slot.state.ready = value
            self._worker.wake()

        def failed(kind: str, probe: Object) -> None:
            if slot.operation is None and not self._stopped:
                grace = probe.get("terminationGracePeriodSeconds")
                because = f"Container {slot.name} failed {kind} probe, will be restarted"
                slot.operation = self._task(self._stop_alone(slot, because, grace), f"stop-{slot.name}")

        def unhealthy(kind: str, message: str) -> None:
            self._worker.event(slot, "Warning", "Unhealthy", f"{kind} probe failed: {message}")

        return ProbeEvents(started, ready, failed, unhealthy)

    async def _watch(self, slot: Slot, container: Container) -> None:
        code = await asyncio.shield(container.ended)
        if slot.probes is not None:
            slot.probes.cancel()
            slot.probes = None
        state = slot.state
        reason = "Completed" if code == 0 else "Error"
        if code != 0 and container.plan.out_of_memory():
            reason = "OOMKilled"
        message = termination_message(slot, code, lambda: _log_tail(container.plan.log))
        if container.start_error is not None:
            reason, message = "StartError", _start_error(container.start_error)
            self._worker.event(slot, "Warning", "Failed", f"Error: {message}")
        wall = self._context.clock.wall()
        state.ended = Ended(container.plan.container_id, code, reason, container.started_at, wall, message)
        state.running_since = state.waiting = None
        state.started = state.ready = False
        slot.container = None
        if slot.group is not None:
            slot.group.remove()
            slot.group = None
        self._worker.wake()

    async def _stop_alone(self, slot: Slot, because: str, grace: float | None) -> None:
        try:
            await self._stop(slot, because, grace)
        finally:
            slot.operation = None
            self._worker.wake()

    async def _stop(self, slot: Slot, because: str, grace: float | None) -> None:
        """preStop hook, SIGTERM, SIGKILL, all within the grace."""
        container = slot.container
        if container is None or not container.running:
            return
        spec = self._worker.pod["spec"].get("terminationGracePeriodSeconds")
        seconds = float(grace if grace is not None else 30 if spec is None else spec)
        clock = self._context.clock
        self._worker.event(slot, "Normal", "Killing", because)
        deadline = clock.monotonic() + seconds
        hook = (slot.spec.get("lifecycle") or {}).get("preStop")
        hasten = self._stopping[slot.name] = asyncio.Event()
        if hook is not None and seconds > 0 and self._worker.address is not None:
            target = probe_target(self._context, slot, container, self._worker.address)
            try:
                async with asyncio.timeout(seconds):
                    await run_hook(hook, target)
            except (HookError, TimeoutError) as error:
                log.info("%s/%s %s: preStop: %s", self._worker.namespace, self._worker.name, slot.name, error)
                self._worker.event(slot, "Warning", "FailedPreStopHook", "PreStopHook failed")
        left = deadline - clock.monotonic()
        # kubelet leaves at least two seconds after a hook that took all of the grace
        stop = asyncio.ensure_future(container.stop(max(left, 2.0) if seconds > 0 else 0.0))
        hurry = asyncio.ensure_future(hasten.wait())
        await asyncio.wait([stop, hurry], return_when=asyncio.FIRST_COMPLETED)
        hurry.cancel()
        if not stop.done():
            container.kill()
        await stop
        self._stopping.pop(slot.name, None)

    async def stop_everything(self, grace: float | None) -> None:
        """Stop all containers: first the others, then the sidecars, last started first. None: the pod's own grace."""
        self._stopped = True
        if grace is not None:
            self._deadline = self._context.clock.monotonic() + grace
        for slot in self._worker.slots.values():
            if slot.operation is not None and slot.container is None:
                slot.operation.cancel()
        slots = list(self._worker.slots.values())
        await asyncio.gather(*(self._stop_slot(slot, grace) for slot in slots if slot.kind != "sidecar"))
        for slot in reversed(slots):
            if slot.kind == "sidecar":
                await self._stop_slot(slot, grace)
        await self.wait_all(probes_too=False)

    async def _stop_slot(self, slot: Slot, grace: float | None) -> None:
        if grace is not None:
            grace = max(0.0, min(grace, self._deadline - self._context.clock.monotonic()))
        await self._stop(slot, f"Stopping container {slot.name}", grace)

    def hasten(self, grace: float) -> None:
        """The grace has become shorter: let what it exceeds be killed."""
        now = self._context.clock.monotonic()
        if now + grace >= self._deadline - 0.5:
            return
        self._deadline = now + grace
        asyncio.get_running_loop().call_later(grace, self._hurry)

    def _hurry(self) -> None:
        for event in self._stopping.values():
            event.set()

    def kill_all(self) -> None:
        """At once, without grace or events."""
        self._stopped = True
        for slot in self._worker.slots.values():
            if slot.container is not None:
                slot.container.kill()
            for task in (slot.operation, slot.probes):
                if task is not None:
                    task.cancel()

    async def wait_all(self, *, probes_too: bool = True) -> None:
        """Until every container's end has been noted."""
        watching = [task for task in self._tasks if probes_too or task.get_name().startswith("watch-")]
        if watching:
            await asyncio.gather(*watching, return_exceptions=True)

    def _task(self, work: Any, name: str) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _go_duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}m{rest}s" if minutes else f"{seconds:g}s"


def _start_error(text: str) -> str:
    """bubblewrap's words in the form that users know."""
    if text.startswith("execvp "):
        name, _, why = text.removeprefix("execvp ").partition(": ")
        if why == "No such file or directory":
            return f'exec: "{name}": executable file not found in $PATH'
        return f'exec: "{name}": {why.lower()}'
    return text


def _log_tail(path: Path) -> bytes:
    with suppress(OSError):
        parts = [line.split(b" ", 3)[2:] for line in path.read_bytes().split(b"\n")[-81:-1]]
        return b"".join(text + (b"\n" if tag == b"F" else b"") for tag, text in parts)
    return b""


def _forget_old_logs(slot: Slot) -> None:
    """The present and the previous run's logs are kept."""
    for path in slot.folder.glob("*.log*"):
        number = path.name.partition(".")[0]
        if number.isdigit() and int(number) < slot.attempt - 1:
            path.unlink(missing_ok=True)
