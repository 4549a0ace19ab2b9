"""One pod on this node, from its first sight to its last: a loop that makes the containers what the pod says.

Level, not edge: each pass looks at the pod and its containers and does what is missing; it is woken by changes of the
pod, ends of containers, probes and timers. A pod that is to go is stopped with its grace, its last status is written,
and only then it is removed from the API. Cancelling the worker kills what runs and leaves the API as it is.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import Any

from atoll.base.clock import parse_rfc3339
from atoll.base.errors import ApiError, AtollError, Conflict, NotFound
from atoll.base.names import HOST_PORTS
from atoll.client.port import STRATEGIC_PATCH, DeleteOptions
from atoll.cluster.nodes.process import resize
from atoll.cluster.nodes.process.cgroups import group_name, pod_limits
from atoll.cluster.nodes.process.checkpoints import CheckpointFile
from atoll.cluster.nodes.process.claims import check_claims
from atoll.cluster.nodes.process.devices import REFUSED
from atoll.cluster.nodes.process.environment import ConfigError
from atoll.cluster.nodes.process.lifecycle import ContainerLifecycle
from atoll.cluster.nodes.process.localstorage import excess, limited_volumes
from atoll.cluster.nodes.process.model import NodeContext, PodAddress, Slot
from atoll.cluster.nodes.process.plan import Plan, plan_containers
from atoll.cluster.nodes.process.podfiles import PodFiles
from atoll.cluster.nodes.process.podspace import PodSpace, forbidden_sysctl, open_space
from atoll.cluster.nodes.process.recovery import add_ephemeral, make_slots
from atoll.cluster.nodes.process.resizing import PodResize
from atoll.cluster.nodes.process.status import OWNED_CONDITIONS, RESIZE_CONDITIONS, PodFacts, pod_status
from atoll.cluster.nodes.process.volumes import remove_tree
from atoll.kinds.builtin import PODS

Object = dict[str, Any]
log = logging.getLogger(__name__)
_DEADLINE = "Pod was active on the node longer than the specified deadline"
_REPLACING_SECONDS = 2.0
_FIELDS = {"app": "containers", "ephemeral": "ephemeralContainers"}


class PodWorker:
    """`run` ends when the pod is gone from the API and from this machine."""

    def __init__(self, context: NodeContext, pod: Object) -> None:
        self.context = context
        self.pod = pod
        self.uid = str(pod["metadata"]["uid"])
        self.name = str(pod["metadata"]["name"])
        self.namespace = str(pod["metadata"]["namespace"])
        self.folder = context.config.state_dir / "pods" / f"{self.namespace}_{self.name}_{self.uid}"
        self.slots: dict[str, Slot] = make_slots(pod, self.folder, context.clock)
        self.address: PodAddress | None = None
        self.space: PodSpace | None = None  # with root: what the pod's containers share
        self.files = PodFiles(context, pod, self.folder)
        self._facts = PodFacts(host_ip=context.config.address, states={n: s.state for n, s in self.slots.items()})
        self._lifecycle = ContainerLifecycle(self)
        self._gone = False  # the API has it no more
        self._initialized = False
        self._finished = False
        self._resize = PodResize(self)
        self._checkpoints = CheckpointFile(context)
        self._wake = asyncio.Event()
        self._sent: Object = {}
        self._report_failures = 0
        self._next_refresh = 0.0
        self._claims_ready = False
        self._volumes_ready = False
        self._retry_at = 0.0

    def update(self, pod: Object | None) -> None:
        """The pod as the API has it now; None: it was removed."""
        if pod is None:
            self._gone = True
        else:
            self.pod = pod
            add_ephemeral(self.slots, pod, self.folder)
            self._facts.states = {name: slot.state for name, slot in self.slots.items()}
        self.wake()

    def wake(self) -> None:
        self._wake.set()

    @property
    def terminating(self) -> bool:
        return self._gone or "deletionTimestamp" in self.pod["metadata"]

    def shown_pod(self) -> Object:
        """The pod with the addresses that this node gave it, for the downward API."""
        status = dict(self.pod.get("status") or {})
        status |= {"hostIP": self._facts.host_ip, "hostIPs": [{"ip": self._facts.host_ip}]}
        if self.address is not None:
            status |= {"podIP": self.address.ip, "podIPs": [{"ip": self.address.ip}]}
        return {**self.pod, "status": status}

    async def run(self) -> None:
        """Until the pod is gone. Cancelled: kills at once, and leaves the API alone."""
        try:
            while True:
                self._wake.clear()
                if self.terminating:
                    await self._terminate()
                    return
                again = await self._pass()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), again)
        finally:
            self._lifecycle.kill_all()
            await self._lifecycle.wait_all()
            self.context.granted.pop(self.uid, None)
            self._leave()
            self._detach()

    async def _pass(self) -> float | None:
        """One look at everything; seconds until the next one is due."""
        self._check_deadline()
        self._check_sysctls()
        self._admit()
        if self._finished or self._done_before():
            self._finished = True
            await self._lifecycle.stop_everything(0 if self._facts.failed else None)
            self._facts.terminal = True
            self._facts.sandbox_ready = False
            self._leave()  # before others hear that there is room
            self._detach()
            return None if await self._report() else 1.0
        now = self.context.clock.monotonic()
        due: float | None = None
        if now < self._retry_at:
            due = self._retry_at - now
        elif await self._prepare():
            due = self._containers()
            if self._finished:
                return await self._pass()
        else:
            due = 2.0
            self._retry_at = now + due
        if not await self._report():
            due = min(due or 1.0, 1.0)
        refresh = await self._refresh()
        saved = await self._checkpoints.look(self.pod, self.slots)
        later = (due, refresh, saved, self._deadline_left())
        return min((item for item in later if item is not None), default=None)

    def _done_before(self) -> bool:
        return (self.pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")

    def _deadline_left(self) -> float | None:
        seconds = self.pod["spec"].get("activeDeadlineSeconds")
        if seconds is None or self._facts.started_at is None:
            return None
        return float(max(self._facts.started_at + seconds - self.context.clock.wall(), 0.0))

    def _check_deadline(self) -> None:
        if self._deadline_left() == 0.0 and not self._finished:
            self._fail("DeadlineExceeded", _DEADLINE)

    def _check_sysctls(self) -> None:
        if self.address is None and not self._finished:
            refused = forbidden_sysctl(self.pod, rootful=self.context.config.rootful)
            if refused is not None:
                self._event("Warning", "SysctlForbidden", refused)
                self._fail("SysctlForbidden", f"Pod was rejected: {refused}")

    def _admit(self) -> None:
        if self._finished or self._done_before():
            self._leave()
            return
        refused = self.context.admission.admit(self.pod) or self._give_devices()
        if refused is not None:
            reason, message = refused
            self._event("Warning", reason, message)
            self._fail(reason, f"Pod was rejected: {message}")

    def _give_devices(self) -> tuple[str, str] | None:
        """Devices of the node for its containers, with their health as it is now; else (reason, message)."""
        if self.context.devices is None:
            return None
        try:
            self._facts.devices = self.context.devices.give(self.pod)
        except AtollError as error:
            return REFUSED, error.message
        return None

    def _leave(self) -> None:
        """The pod holds nothing of the node any more."""
        self.context.admission.leave(self.uid)
        if self.context.devices is not None:
            self.context.devices.release(self.uid)

    def _fail(self, reason: str, message: str) -> None:
        self._facts.failed, self._facts.reason, self._facts.message = True, reason, message
        self._finished = True

    async def _prepare(self) -> bool:
        """Network and volumes; False where they can't be had yet."""
        if self._facts.started_at is None:
            began = (self.pod.get("status") or {}).get("startTime")
            self._facts.started_at = parse_rfc3339(began) if began else self.context.clock.wall()
        try:
            if not self._claims_ready:
                await check_claims(self.context.client, self.pod)
                self._claims_ready = True
        except AtollError as error:
            self._event("Warning", "FailedPrepareDynamicResources", f"Failed to prepare dynamic resources: {error}")
            return False
        try:
            if not self._volumes_ready:
                self.folder.mkdir(parents=True, exist_ok=True)
                await self.files.prepare_volumes(self.shown_pod())
                self._volumes_ready = True
        except ConfigError as error:
            self._event("Warning", "FailedMount", f"MountVolume.SetUp failed: {error}")
            return False
        except (AtollError, OSError) as error:
            self._event("Warning", "FailedMount", f"Unable to attach or mount volumes: {error}")
            return False
        try:
            if self.address is None:
                if self.context.config.rootful and self.space is None:
                    self.space = await self._open_space()
                self.address = self.context.network.attach(self.pod)
                if self.space is not None:
                    with self.context.network.entered(self.address):
                        self.space.set_sysctls(self.pod)
                self.files.write_network(self.pod, self.address)
                self._facts.pod_ip = self.address.ip
                self._facts.sandbox_ready = True
                await self._tell_ports()
        except OSError as error:
            self._event("Warning", "FailedCreatePodSandBox", f"Failed to create pod sandbox: {error}")
            return False
        return True

    async def _open_space(self) -> PodSpace:
        config = self.context.config
        group = config.hierarchy.group(config.cluster, group_name(self.uid)) if config.hierarchy is not None else None
        space = await open_space(self.pod, group, self.folder / "memory", self.context.memory_bytes)
        if group is not None:
            group.apply(pod_limits(self.pod["spec"], resize.granted(self.pod, self.slots)))
        return space

    async def _tell_ports(self) -> None:
        """Host mode: which ports were chosen stands in an annotation, for the service proxy and the user."""
        if self.address is None or not self.address.ports:
            return
        text = ",".join(f"{port}={chosen}" for port, chosen in sorted(self.address.ports.items()))
        patch = {"metadata": {"uid": self.uid, "annotations": {HOST_PORTS: text}}}
        with suppress(AtollError):
            await self.context.client.patch(PODS, self.name, patch, self.namespace)

    def _containers(self) -> float | None:
        self._lifecycle.restart_changed()
        due = self._resize.look()
        self._facts.resize = self._resize.conditions()
        states = {name: slot.state for name, slot in self.slots.items()}
        plan = plan_containers(self.pod["spec"], states, initialized=self._initialized)
        if plan.finished and not any(slot.operation for slot in self.slots.values() if slot.kind != "sidecar"):
            self._finished = True
            return None
        self._initialized = self._initialized or plan.initialized
        started = self._lifecycle.start_due(self._known(plan))
        return min((item for item in (due, started) if item is not None), default=None)

    def _known(self, plan: Plan) -> list[Slot]:
        for slot in self.slots.values():
            if slot.state.running_since is None and slot.state.ended is None and slot.state.waiting is None:
                early = (slot.kind == "app" and not plan.initialized) or self.pod["spec"].get("initContainers")
                slot.state.waiting = ("PodInitializing" if early else "ContainerCreating", "")
        return [self.slots[name] for name in plan.start]

    async def _refresh(self) -> float | None:
        """Bring file volumes up to date now and then; seconds until the next time."""
        if not self._volumes_ready:
            return None
        now = self.context.clock.monotonic()
        if now >= self._next_refresh:
            if self._next_refresh:
                with suppress(AtollError, OSError):
                    await self.files.refresh(self.shown_pod())
                await self._check_storage()
            self._next_refresh = now + self.context.config.refresh_seconds
        return self._next_refresh - now if self.pod["spec"].get("volumes") else None

    async def _check_storage(self) -> None:
        if self._finished or not limited_volumes(self.pod):
            return
        message = await asyncio.to_thread(excess, self.pod, self.folder / "volumes")
        if message is not None:
            self._event("Warning", "Evicted", message)
            self._fail("Evicted", message)
            self.wake()

    async def _terminate(self) -> None:
        """Stop with grace, say how it ended, remove it from the API."""
        stopping = asyncio.ensure_future(self._lifecycle.stop_everything(self._grace()))
        while not stopping.done():
            self._wake.clear()
            waker = asyncio.ensure_future(self._wake.wait())
            await asyncio.wait([stopping, waker], return_when=asyncio.FIRST_COMPLETED)
            waker.cancel()
            self._lifecycle.hasten(self._grace())
            if not stopping.done() and not self._gone:
                await self._report()
        stopping.result()
        self._facts.terminal = True
        self._facts.sandbox_ready = False
        self._leave()
        self._detach()
        await self._remove()
        remove_tree(self.folder)

    def _grace(self) -> float:
        """Seconds that remain of the pod's grace."""
        if self._gone:
            return 1.0
        metadata = self.pod["metadata"]
        grace = metadata.get("deletionGracePeriodSeconds")
        if grace is None:
            grace = self.pod["spec"].get("terminationGracePeriodSeconds")
        return float(30 if grace is None else grace)

    async def _remove(self) -> None:
        options = DeleteOptions(grace_period_seconds=0, uid=self.uid)
        failures = 0
        while not self._gone:
            if await self._report():
                try:
                    await self.context.client.delete(PODS, self.name, self.namespace, options=options)
                    return
                except (NotFound, Conflict):
                    return
                except AtollError as error:
                    log.info("%s/%s: can't be removed yet: %s", self.namespace, self.name, error)
            failures += 1
            self._wake.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), min(0.2 * 2**failures, 10.0))

    def _replacing(self) -> bool:
        """A container is about to run, or its successor is: what is in between need not be shown."""
        now = self.context.clock.monotonic()
        moments = [moment for slot in self.slots.values() for moment in (slot.starting_at, slot.replaced_at)]
        begun = [moment for moment in moments if moment is not None]
        return bool(begun) and not self.terminating and now - min(begun) < _REPLACING_SECONDS

    async def _report(self) -> bool:
        """Write the status where it differs from what was written last. False: try again."""
        if self._gone:
            return True
        if self._replacing():
            return False
        old = dict(self.pod.get("status") or {})
        if self._sent:
            foreign = [item for item in old.get("conditions") or [] if item["type"] not in OWNED_CONDITIONS]
            old["conditions"] = [*foreign, *self._sent["conditions"]]
        status = pod_status({**self.pod, "status": old}, self._facts, self.context.clock.wall())
        if status == self._sent:
            return True
        body = {"metadata": {"uid": self.uid}, "status": _as_patch(status, self._sent)}
        try:
            await self.context.client.patch(
                PODS, self.name, body, self.namespace, content_type=STRATEGIC_PATCH, subresource="status"
            )
        except (NotFound, Conflict) as error:
            log.debug("%s/%s: %s", self.namespace, self.name, error)
            return isinstance(error, NotFound) or error.code == 409
        except ApiError as error:
            log.warning("%s/%s: status refused: %s", self.namespace, self.name, error)
            return False
        except AtollError as error:
            log.info("%s/%s: status: %s", self.namespace, self.name, error)
            return False
        self._sent = status
        return True

    def _event(self, kind: str, reason: str, message: str, *, container: str = "") -> None:
        path = ""
        if container:
            slot = self.slots[container]
            path = f"spec.{_FIELDS.get(slot.kind, 'initContainers')}{{{container}}}"
        self.context.recorder.event(self.pod, kind, reason, message, field_path=path)

    def event(self, slot: Slot, kind: str, reason: str, message: str) -> None:
        """An event about one of the pod's containers."""
        self._event(kind, reason, message, container=slot.name)

    def pod_event(self, kind: str, reason: str, message: str) -> None:
        """An event about the pod as a whole."""
        self._event(kind, reason, message)

    def restart(self, slot: Slot, because: str) -> None:
        """Stop a running container, to start it anew at once."""
        self._lifecycle.restart(slot, because)

    def _detach(self) -> None:
        if self.address is not None:
            self.context.network.detach(self.uid)
            self.address = None
        if self.space is not None:
            self.space.close()
            self.space = None


def _as_patch(status: Object, sent: Object) -> Object:
    """Addresses and conditions are merged by key in a strategic patch: what is no more must be taken away by name."""
    out = dict(status)
    shown = {item["type"] for item in status["conditions"]}
    gone = [kind for kind in RESIZE_CONDITIONS if kind not in shown]
    before = {item["type"] for item in sent.get("conditions") or []}
    if not sent or before & set(gone):
        out["conditions"] = [*status["conditions"], *({"type": kind, "$patch": "delete"} for kind in gone)]
    for field in ("podIPs", "hostIPs"):
        if field in out:
            out[field] = [*out[field], {"$patch": "replace"}]
    return out
