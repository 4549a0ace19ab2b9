"""From a container's spec to a running container: image, environment, mounts, user, hooks.

Raises UnknownImage, ConfigError (both tried again later), OSError or StartError (a failed run).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

from atoll.base.errors import AtollError
from atoll.cluster.gpus.port import Access
from atoll.cluster.nodes.process.cgroups import Group, container_group_name, limits, oom_score_adjust
from atoll.cluster.nodes.process.container import Container, ContainerPlan
from atoll.cluster.nodes.process.environment import ConfigError, References, command_line, container_environment
from atoll.cluster.nodes.process.images import Image
from atoll.cluster.nodes.process.model import NodeContext, PodAddress, Slot
from atoll.cluster.nodes.process.podfiles import PodFiles, fqdn, hostname
from atoll.cluster.nodes.process.podspace import SHARED_MEMORY, PodSpace
from atoll.cluster.nodes.process.probes import ProbeTarget, http_get
from atoll.cluster.nodes.process.sandbox import Mount, Sandbox

Object = dict[str, Any]


class HookError(AtollError):
    """A lifecycle hook failed."""


async def plan_container(
    context: NodeContext,
    pod: Object,
    slot: Slot,
    image: Image,
    files: PodFiles,
    address: PodAddress,
    space: PodSpace | None,
) -> ContainerPlan:
    """All that the start needs. Raises ConfigError, AtollError."""
    spec = slot.spec
    config = context.config
    user = run_as(pod, spec, image, rootful=config.rootful)
    env = _environment(context, pod, slot, image, await files.references(pod), "/root" if user[0] == 0 else "/")
    env |= chosen_ports(spec, address)
    devices = context.devices.access(pod, slot.name) if context.devices is not None else Access()
    env |= devices.env
    argv = command_line(spec, list(image.program), list(image.args), env)
    if not argv:
        raise ConfigError(f'image "{image.reference}" has no program of its own: the container needs a `command`')
    mounts = [Mount(source, target, True) for source, target in image.mounts]
    mounts += files.mounts(spec, env, space)
    mounts += [Mount(path, path, device=True) for path in devices.files]
    mounts.append(_message_file(slot, user))
    container_id = context.chance.uuid().replace("-", "") + context.chance.uuid().replace("-", "")
    stage = slot.folder / "root"
    stage.mkdir(exist_ok=True)
    group = _group(context, pod, slot, space, container_id)
    sandbox = Sandbox(
        hostname=env["HOSTNAME"],
        root=image.root,
        mounts=mounts,
        working_dir=spec.get("workingDir") or image.working_dir or "/",
        user=user if user != (0, 0) or not config.rootful else None,
        overlays=config.overlays,
        stage=str(stage),
        groups=supplementary_groups(pod),
        mount_namespace=space.mounts if space is not None else -1,
        shared_memory=space.memory_volumes.get(SHARED_MEMORY, "") if space is not None else "",
        control_groups=[(key, str(folder)) for key, folder in group.folders.items()] if group is not None else (),
        oom_score_adjust=oom_score_adjust(pod, spec, context.memory_bytes) if group is not None else 0,
        **_security(pod, spec),
    )
    return ContainerPlan(
        name=slot.name,
        container_id="process://" + container_id,
        argv=argv,
        env=env,
        sandbox=sandbox,
        log=slot.log_path(slot.attempt),
        stdin=bool(spec.get("stdin")),
        stdin_once=bool(spec.get("stdinOnce")),
        tty=bool(spec.get("tty")),
        inside=_inside(context, address, slot, space),
        rootful=config.rootful,
        handles=(sandbox.mount_namespace,) if sandbox.mount_namespace >= 0 else (),
        out_of_memory=(lambda: group.out_of_memory_kills() > 0) if group is not None else lambda: False,
    )


def _environment(
    context: NodeContext, pod: Object, slot: Slot, image: Image, references: References, home: str
) -> dict[str, str]:
    config = context.config
    env = {"PATH": image.path, "HOSTNAME": pod_hostname(pod, context), "HOME": home}
    facts = {"{cluster}": config.cluster_title or config.cluster, "{node}": context.name}
    env |= {key: facts.get(value, value) for key, value in image.env}
    return env | container_environment(pod, slot.spec, references)


def _security(pod: Object, container: Object) -> dict[str, Any]:
    """The container's security context, with the pod's where it has its own word."""
    security, whole = container.get("securityContext") or {}, pod["spec"].get("securityContext") or {}
    capabilities = security.get("capabilities") or {}
    profile = security.get("seccompProfile") or whole.get("seccompProfile") or {}
    return {
        "read_only_root": bool(security.get("readOnlyRootFilesystem")),
        "privileged": bool(security.get("privileged")),
        "add_capabilities": tuple(capabilities.get("add") or ()),
        "drop_capabilities": tuple(capabilities.get("drop") or ()),
        "no_new_privileges": security.get("allowPrivilegeEscalation") is False,
        "default_seccomp": profile.get("type") == "RuntimeDefault",
        "unmasked": security.get("procMount") == "Unmasked",
    }


def pod_hostname(pod: Object, context: NodeContext) -> str:
    """What the pod's containers are called: on the host's network the node, else the pod."""
    if pod["spec"].get("hostNetwork"):
        return context.name
    return fqdn(pod, context.config.cluster_domain) if pod["spec"].get("setHostnameAsFQDN") else hostname(pod)


def _message_file(slot: Slot, user: tuple[int, int]) -> Mount:
    message = slot.folder / "termination-log"
    slot.folder.mkdir(parents=True, exist_ok=True)
    message.write_bytes(b"")
    message.chmod(0o666)
    return Mount(str(message), slot.spec.get("terminationMessagePath") or "/dev/termination-log")


def _group(context: NodeContext, pod: Object, slot: Slot, space: PodSpace | None, container_id: str) -> Group | None:
    if space is None or space.group is None:
        return None
    if slot.group is not None:
        slot.group.remove()
    slot.group = space.group.inner(container_group_name(container_id))
    slot.group.make()
    slot.group.apply(limits(slot.resources))
    return slot.group


def _inside(
    context: NodeContext, address: PodAddress, slot: Slot, space: PodSpace | None
) -> Callable[[], AbstractContextManager[None]]:
    @contextlib.contextmanager
    def entered() -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            if address.namespace is not None:
                stack.enter_context(context.network.entered(address))
            if space is not None:
                stack.enter_context(space.entered(own_pid=slot.target_pid_namespace))
            yield

    return entered


def supplementary_groups(pod: Object) -> tuple[int, ...]:
    security = pod["spec"].get("securityContext") or {}
    groups = list(security.get("supplementalGroups") or ())
    if security.get("fsGroup") is not None:
        groups.append(security["fsGroup"])
    return tuple(sorted(set(groups)))


def chosen_ports(container: Object, address: PodAddress) -> dict[str, str]:
    """Host mode: the ports that the container is to use instead of its own, as variables."""
    out: dict[str, str] = {}
    for port in container.get("ports") or []:
        number = address.ports.get(port["containerPort"])
        if number is None:
            continue
        out.setdefault("PORT", str(number))
        out[f"PORT_{port['containerPort']}"] = str(number)
        if port.get("name"):
            out[f"PORT_{port['name'].upper().replace('-', '_')}"] = str(number)
    return out


def run_as(pod: Object, container: Object, image: Image, *, rootful: bool) -> tuple[int, int]:
    """(uid, gid) of the container's processes. Raises ConfigError."""
    security = {**(pod["spec"].get("securityContext") or {}), **(container.get("securityContext") or {})}
    uid = security.get("runAsUser")
    if uid is None:
        uid = image.user
    if security.get("runAsNonRoot") and not uid:
        where = f'(pod: "{pod["metadata"]["name"]}_{pod["metadata"]["namespace"]}({pod["metadata"]["uid"]})", '
        where += f"container: {container['name']})"
        if uid == 0:
            raise ConfigError(f"container's runAsUser breaks non-root policy {where}")
        raise ConfigError(f"container has runAsNonRoot and image will run as root {where}")
    gid = security.get("runAsGroup")
    if gid is None:
        # the image has no word on it: its group is root's, as a runtime has it for a user without a name
        gid = 0 if rootful else uid or 0
    return uid or 0, gid


def port_names(container: Object) -> dict[str, int]:
    return {port["name"]: port["containerPort"] for port in container.get("ports") or [] if port.get("name")}


def probe_target(context: NodeContext, slot: Slot, container: Container, address: PodAddress) -> ProbeTarget:
    """The container as probes and hooks reach it."""

    async def run(command: list[str], timeout: float) -> tuple[int, str]:
        return await run_inside(container, command, timeout)

    return ProbeTarget(address.ip, port_names(slot.spec), address.ports, run, context.clock)


async def run_inside(container: Container, command: list[str], timeout: float | None) -> tuple[int, str]:
    """Run to the end: (exit code, output). Raises TimeoutError, OSError."""
    child = container.exec(command)
    output = bytearray()

    async def pump(read: Callable[[], Any]) -> None:
        while data := await read():
            if len(output) < 1 << 16:
                output.extend(data)

    try:
        async with asyncio.timeout(timeout):
            assert child.stderr is not None
            await asyncio.gather(pump(child.stdout.read), pump(child.stderr.read))
            code = await child.wait()
    finally:
        child.kill()
        child.close()
    return code, output.decode(errors="replace")


async def run_hook(hook: Object, target: ProbeTarget) -> None:
    """A postStart or preStop hook. Raises HookError."""
    try:
        if action := hook.get("exec"):
            code, output = await target.run(list(action["command"]), 3600.0)
            if code != 0:
                raise HookError(f"command '{' '.join(action['command'])}' exited with {code}: {output.strip()[:512]}")
        elif action := hook.get("httpGet"):
            passed, message = await http_get(action, target, 30.0)
            if not passed:
                raise HookError(message)
        elif action := hook.get("sleep"):
            await asyncio.sleep(float(action.get("seconds") or 0))
    except OSError as error:
        raise HookError(str(error)) from error


def termination_message(slot: Slot, exit_code: int, tail: Callable[[], bytes]) -> str:
    """What the container left at its terminationMessagePath, or the log's tail where the policy says so."""
    path = slot.folder / "termination-log"
    text = path.read_bytes()[:4096] if path.exists() else b""
    if not text and exit_code != 0 and slot.spec.get("terminationMessagePolicy") == "FallbackToLogsOnError":
        text = tail()[-2048:]
    return text.decode(errors="replace")
