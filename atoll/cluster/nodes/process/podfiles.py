"""The files that a node makes for a pod: /etc/hosts, /etc/resolv.conf, /etc/hostname, volumes, termination messages."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from atoll.base.errors import NotFound
from atoll.client.port import Client
from atoll.cluster.nodes.process.environment import ConfigError, References, expand
from atoll.cluster.nodes.process.model import NodeConfig, NodeContext, PodAddress
from atoll.cluster.nodes.process.podspace import PodSpace
from atoll.cluster.nodes.process.references import ReferenceCache
from atoll.cluster.nodes.process.sandbox import Mount
from atoll.cluster.nodes.process.volumes import (
    FILE_KINDS,
    file_payload,
    make_empty,
    owner_of,
    prepare_host_path,
    references_of,
    write_payload,
)
from atoll.kinds.builtin import PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES

Object = dict[str, Any]
_ETC = ("resolv.conf", "hosts", "hostname")


def hostname(pod: Object) -> str:
    return str(pod["spec"].get("hostname") or pod["metadata"]["name"])[:63].rstrip("-.")


def fqdn(pod: Object, domain: str) -> str:
    """The pod's full name, where it has a subdomain."""
    subdomain = pod["spec"].get("subdomain")
    if not subdomain:
        return hostname(pod)
    return f"{hostname(pod)}.{subdomain}.{pod['metadata']['namespace']}.svc.{domain}"


def hosts_file(pod: Object, ip: str, domain: str, host_file: str = "") -> str:
    """As kubelet writes it. On the host's network it is the host's, with the pod's aliases."""
    spec = pod["spec"]
    if spec.get("hostNetwork"):
        return "# Kubernetes-managed hosts file (host network).\n" + host_file + _aliases(spec)
    names = hostname(pod)
    if spec.get("subdomain"):
        names = f"{fqdn(pod, domain)}\t{names}"
    lines = [
        "# Kubernetes-managed hosts file.", "127.0.0.1\tlocalhost", "::1\tlocalhost ip6-localhost ip6-loopback",
        "fe00::0\tip6-localnet", "fe00::0\tip6-mcastprefix", "fe00::1\tip6-allnodes", "fe00::2\tip6-allrouters",
        f"{ip}\t{names}",
    ]  # fmt: skip
    return "\n".join(lines) + "\n" + _aliases(spec)


def _aliases(spec: Object) -> str:
    aliases = spec.get("hostAliases") or []
    if not aliases:
        return ""
    lines = ["", "# Entries added by HostAliases."]
    lines += ["\t".join([alias["ip"], *alias.get("hostnames", [])]) for alias in aliases]
    return "\n".join(lines) + "\n"


def resolv_conf(pod: Object, dns: str, domain: str, host_resolv_conf: str) -> str:
    """By dnsPolicy and dnsConfig."""
    spec = pod["spec"]
    policy = spec.get("dnsPolicy", "ClusterFirst")
    servers: list[str] = []
    search: list[str] = []
    options: dict[str, str | None] = {}
    on_cluster = policy == "ClusterFirstWithHostNet" or (policy == "ClusterFirst" and not spec.get("hostNetwork"))
    if on_cluster and dns:
        namespace = pod["metadata"]["namespace"]
        servers = [dns]
        search = [f"{namespace}.svc.{domain}", f"svc.{domain}", domain]
        options = {"ndots": "5"}
    elif policy != "None":
        for line in host_resolv_conf.splitlines():
            words = line.split()
            if words[:1] == ["nameserver"]:
                servers += words[1:2]
            elif words[:1] == ["search"]:
                search = words[1:]
    config = spec.get("dnsConfig") or {}
    servers += [item for item in config.get("nameservers") or [] if item not in servers]
    search += [item for item in config.get("searches") or [] if item not in search]
    options |= {item["name"]: item.get("value") for item in config.get("options") or []}
    lines = [f"search {' '.join(search)}"] if search else []
    lines += [f"nameserver {server}" for server in servers]
    if options:
        lines.append(
            "options " + " ".join(name if value is None else f"{name}:{value}" for name, value in options.items())
        )
    return "\n".join(lines) + "\n"


class PodFiles:
    """One pod's folder under the node's state. `refresh` brings file volumes up to date."""

    def __init__(self, context: NodeContext, pod: Object, folder: Path) -> None:
        self.folder = folder
        self._context = context
        self._pod = pod
        self._cache = ReferenceCache(context.client, context.clock)
        self._sources: dict[str, str] = {}
        self._owner = owner_of(pod, rootful=context.config.rootful)

    def write_network(self, pod: Object, address: PodAddress) -> None:
        config = self._context.config
        etc = self.folder / "etc"
        etc.mkdir(parents=True, exist_ok=True)
        resolver, hosts = _host_file("/etc/resolv.conf"), _host_file("/etc/hosts")
        (etc / "hosts").write_text(hosts_file(pod, address.ip, config.cluster_domain, hosts))
        (etc / "resolv.conf").write_text(resolv_conf(pod, config.cluster_dns, config.cluster_domain, resolver))
        (etc / "hostname").write_text(hostname(pod) + "\n")

    async def references(self, pod: Object) -> References:
        namespace = pod["metadata"]["namespace"]
        config_maps, secrets = references_of(pod)
        return References(
            config_maps=await self._cache.config_maps(namespace, config_maps),
            secrets=await self._cache.secrets(namespace, secrets),
            services=list(self._context.services),
            allocatable=self._context.allocatable,
        )

    async def prepare_volumes(self, pod: Object) -> None:
        """Make every volume. Raises ConfigError or AtollError; then it is tried again later."""
        references = await self.references(pod)
        for volume in pod["spec"].get("volumes") or []:
            name = volume["name"]
            folder = self.folder / "volumes" / name
            if any(kind in volume for kind in FILE_KINDS):
                await self._write(volume, folder, pod, references)
                self._sources[name] = str(folder)
            elif "hostPath" in volume:
                self._sources[name] = prepare_host_path(volume["hostPath"])
            elif "persistentVolumeClaim" in volume or "ephemeral" in volume:
                self._sources[name] = await self._claim(volume, pod)
            elif "image" in volume:
                self._sources[name] = self._image(volume)
            elif "emptyDir" in volume:
                make_empty(folder, self._owner.group)
                self._sources[name] = str(folder)
            else:
                kind = next((key for key in volume if key != "name"), "unknown")
                raise ConfigError(f'volume "{name}": a process node has no {kind} volumes')

    def _image(self, volume: Object) -> str:
        """The unpacked root folder of an image volume. Raises ConfigError, UnknownImage."""
        reference = volume["image"].get("reference", "")
        image = self._context.catalogue.resolve(reference)
        if image.root is None:
            raise ConfigError(f'volume "{volume["name"]}": image "{reference}" has no unpacked root folder here')
        return image.root

    async def refresh(self, pod: Object) -> None:
        """Write again what has changed in file volumes."""
        volumes = [item for item in pod["spec"].get("volumes") or [] if any(kind in item for kind in FILE_KINDS)]
        if not volumes:
            return
        references = await self.references(pod)
        for volume in volumes:
            await self._write(volume, self.folder / "volumes" / volume["name"], pod, references)

    async def _write(self, volume: Object, folder: Path, pod: Object, references: References) -> None:
        tokens: dict[str, str] = {}
        for source in (volume.get("projected") or {}).get("sources") or []:
            if wanted := source.get("serviceAccountToken"):
                tokens[wanted["path"]] = await self._cache.token(wanted, pod)
        payload = file_payload(volume, pod, references, tokens, self._owner)
        write_payload(folder, payload, f"{self._context.clock.wall():.6f}", self._owner)

    async def _claim(self, volume: Object, pod: Object) -> str:
        namespace = pod["metadata"]["namespace"]
        source = volume.get("persistentVolumeClaim") or {"claimName": f"{pod['metadata']['name']}-{volume['name']}"}
        return await claim_folder(self._context.client, self._context.config, namespace, source["claimName"])

    def mounts(self, container: Object, env: Mapping[str, str], space: PodSpace | None) -> list[Mount]:
        """What of the pod's files the container sees. Raises ConfigError."""
        etc = self.folder / "etc"
        asked = {wanted["mountPath"].rstrip("/") for wanted in container.get("volumeMounts") or []}
        out = [Mount(str(etc / name), f"/etc/{name}") for name in _ETC if f"/etc/{name}" not in asked]
        for wanted in container.get("volumeMounts") or []:
            source = self._sources.get(wanted["name"])
            if space is not None and wanted["name"] in space.memory_volumes:
                source = space.memory_volumes[wanted["name"]]
            if source is None:
                raise ConfigError(f'volume "{wanted["name"]}" not found')
            inner = checked_sub_path(wanted, env)
            if inner and space is None:
                source, inner = _sub_path(source, inner), ""
            read_only = bool(wanted.get("readOnly"))
            read_only = read_only or not self._writable(wanted["name"])
            out.append(Mount(source, wanted["mountPath"].rstrip("/") or "/", read_only, inner))
        return out

    def _writable(self, name: str) -> bool:
        volume = next(item for item in self._pod["spec"]["volumes"] if item["name"] == name)
        return not any(kind in volume for kind in (*FILE_KINDS, "image"))


def checked_sub_path(mount: Object, env: Mapping[str, str]) -> str:
    """A mount's subPath, or subPathExpr by the container's variables. Raises ConfigError with kubelet's words."""
    path = str(mount.get("subPath") or "")
    if expression := mount.get("subPathExpr"):
        path = expand(expression, env)
        if "$(" in path:
            raise ConfigError(f"missing value for {path.partition('$(')[2].partition(')')[0]!r}")
    if path.startswith("/"):
        raise ConfigError(f"error SubPath `{path}` must not be an absolute path")
    if ".." in path.split("/"):
        raise ConfigError(f"unable to provision SubPath `{path}`: must not contain '..'")
    return path


def _host_file(path: str) -> str:
    with suppress(OSError):
        return Path(path).read_text()
    return ""


def _sub_path(source: str, inner: str) -> str:
    base = Path(source).resolve()
    path = (base / inner).resolve() if (base / inner).exists() else base / inner
    if not str(path).startswith(str(base)) or ".." in Path(inner).parts:
        raise ConfigError(f'failed to prepare subPath for volumeMount: "{inner}" leaves its volume')
    if not path.exists():
        path.mkdir(parents=True)
    return str(path)


async def claim_folder(client: Client, config: NodeConfig, namespace: str, name: str) -> str:
    """The host folder behind a bound claim. Raises ConfigError."""
    try:
        claim = await client.get(PERSISTENT_VOLUME_CLAIMS, name, namespace)
    except NotFound:
        raise ConfigError(f'persistentvolumeclaim "{name}" not found') from None
    volume_name = claim["spec"].get("volumeName")
    if not volume_name or (claim.get("status") or {}).get("phase") != "Bound":
        raise ConfigError(f'PVC "{namespace}/{name}" is not bound')
    try:
        volume = await client.get(PERSISTENT_VOLUMES, volume_name)
    except NotFound:
        raise ConfigError(f'persistentvolume "{volume_name}" not found') from None
    spec = volume["spec"]
    if "hostPath" in spec:
        return prepare_host_path({"type": "DirectoryOrCreate", **spec["hostPath"]})
    if "local" in spec:
        return str(spec["local"]["path"])
    folder = config.volumes_dir / volume_name
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o777)
    return str(folder)
