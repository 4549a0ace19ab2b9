"""The fleet file: what `atoll up FILE` starts. A mistake is told with its line and key.

apiVersion: fleet.atoll.dev/v1alpha1
kind: Fleet
metadata: {name: demo}
spec:
  clusters:
  - name: onprem
    provider: onprem
    region: eu-north
    nodes: {simulated: [{count: 10, cpu: "16", memory: 64Gi}], process: 1}
  images:
  - {image: "example.com/tool:*", program: /usr/bin/tool}
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from atoll.app.fleetspec import (
    CLUSTER_NAME,
    AccessFiles,
    AuditSpec,
    ClusterSpec,
    FleetSpec,
    NodeGroup,
    check_name,
    default_fleet,
    with_networks,
)
from atoll.base.errors import UserError
from atoll.base.names import FLEET_GROUP
from atoll.base.yamlfile import YamlReader, compose, plain
from atoll.cluster.gpus.model import parse_machine

__all__ = ["ClusterSpec", "FleetSpec", "NodeGroup", "check_name", "default_fleet", "load", "parse", "with_networks"]

API_VERSION = f"{FLEET_GROUP}/v1alpha1"


def load(path: Path) -> FleetSpec:
    """Read and check a fleet file. Raises UserError naming line and key."""
    try:
        text = path.read_text()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}", hint="name a fleet file, or none for the default fleet") from None
    return parse(text, str(path))


def parse(text: str, source: str) -> FleetSpec:
    """The fleet that a YAML text describes."""
    root = compose(text, source, hint="see examples/ for fleet files")
    return _Reader(source).fleet(root)


class _Reader(YamlReader):
    """What is known where in a fleet file."""

    def name(self, node: yaml.Node, key: str) -> str:
        text = self.text(node, key)
        if not CLUSTER_NAME.match(text):
            raise self.fail(node, key, f"{text!r}: use at most 40 lower-case letters, digits and '-'")
        return text

    def fleet(self, root: yaml.Node) -> FleetSpec:
        found = self.mapping(
            root,
            "",
            {
                "apiVersion": self.constant(API_VERSION),
                "kind": self.constant("Fleet"),
                "metadata": lambda n, k: self.mapping(n, k, {"name": self.name}),
                "spec": self.spec,
            },
        )
        for key in ("apiVersion", "kind", "spec"):
            if key not in found:
                raise self.fail(root, key, "missing")
        spec = found["spec"]
        name = (found.get("metadata") or {}).get("name", "default")
        hub = spec.get("hub") or {}
        clusters = tuple(spec["clusters"])
        return FleetSpec(name, clusters, hub_port=hub.get("port", 0), images=tuple(spec.get("images") or ()))

    def spec(self, node: yaml.Node, key: str) -> dict[str, Any]:
        found = self.mapping(
            node,
            key,
            {
                "hub": lambda n, k: self.mapping(n, k, {"port": self.port}),
                "clusters": lambda n, k: self.items(n, k, self.cluster),
                "images": lambda n, k: self.items(n, k, self.image),
            },
        )
        if not found.get("clusters"):
            raise self.fail(node, f"{key}.clusters", "a fleet needs at least one cluster")
        seen: set[str] = set()
        items = next(value for name, value in node.value if name.value == "clusters").value
        for index, (item, cluster) in enumerate(zip(items, found["clusters"], strict=True)):
            if cluster.name in seen or cluster.name == "hub":
                raise self.fail(item, f"{key}.clusters[{index}].name", f"the name {cluster.name!r} is taken")
            seen.add(cluster.name)
        return found

    def cluster(self, node: yaml.Node, key: str) -> ClusterSpec:
        found = self.mapping(
            node,
            key,
            {
                "name": self.name,
                "provider": self.text,
                "region": self.text,
                "zone": self.text,
                "labels": self.labels,
                "nodes": self.nodes,
                "podCIDR": self.cidr,
                "serviceCIDR": self.cidr,
                "port": self.port,
                "audit": self.audit,
                "maxRequestsInFlight": lambda n, k: self.number(n, k, 1, 1_000_000),
                "maxMutatingRequestsInFlight": lambda n, k: self.number(n, k, 0, 1_000_000),
                "apiServer": self.api_server,
                "workloadAPI": self.flag,
                "devicePreviews": self.flag,
                "queueing": self.flag,
                "schedulerConfigFile": self.text,
                "batch": self.flag,
                "health": self.flag,
                "autoscale": self.flag,
                "teams": self.flag,
            },
        )
        if "name" not in found:
            raise self.fail(node, f"{key}.name", "missing")
        nodes = found.get("nodes") or {}
        return ClusterSpec(
            name=found["name"],
            provider=found.get("provider", ""),
            region=found.get("region", ""),
            zone=found.get("zone", ""),
            labels=found.get("labels") or {},
            simulated=tuple(nodes.get("simulated") or ()),
            process_nodes=nodes.get("process", 0),
            pod_cidr=found.get("podCIDR", ""),
            service_cidr=found.get("serviceCIDR", ""),
            port=found.get("port", 0),
            access=found.get("apiServer") or AccessFiles(),
            workload_api=found.get("workloadAPI", False),
            device_previews=found.get("devicePreviews", False),
            queueing=found.get("queueing", False),
            scheduler_config=found.get("schedulerConfigFile", ""),
            batch=found.get("batch", False),
            health=found.get("health", False),
            autoscale=found.get("autoscale", False),
            teams=found.get("teams", False),
            audit=found.get("audit"),
            max_requests_in_flight=found.get("maxRequestsInFlight", 400),
            max_mutating_requests_in_flight=found.get("maxMutatingRequestsInFlight", 200),
        )

    def audit(self, node: yaml.Node, key: str) -> AuditSpec:
        found = self.mapping(
            node,
            key,
            {
                "policyFile": self.text,
                "logFile": self.text,
                "maxSizeMB": lambda n, k: self.number(n, k, 1, 1_000_000),
                "maxBackups": lambda n, k: self.number(n, k, 0, 10_000),
                "maxAgeDays": lambda n, k: self.number(n, k, 0, 100_000),
            },
        )
        if "policyFile" not in found:
            raise self.fail(node, f"{key}.policyFile", "missing: an audit.k8s.io/v1 Policy says what is logged")
        return AuditSpec(
            str(Path(found["policyFile"]).absolute()),
            str(Path(found["logFile"]).absolute()) if "logFile" in found else "",
            found.get("maxSizeMB", 100),
            found.get("maxBackups", 10),
            found.get("maxAgeDays", 0),
        )

    def api_server(self, node: yaml.Node, key: str) -> AccessFiles:
        """Files that configure access; see docs/access.md."""
        hook: dict[str, Callable[[yaml.Node, str], Any]] = {
            "config": self.file,
            "version": self.text,
            "cacheTTL": self.text,
        }
        found = self.mapping(
            node,
            key,
            {
                "authenticationConfig": self.file,
                "authorizationConfig": self.file,
                "authenticationTokenWebhook": lambda n, k: self.mapping(n, k, hook),
            },
        )
        webhook = found.get("authenticationTokenWebhook") or {}
        return AccessFiles(
            found.get("authenticationConfig", ""),
            found.get("authorizationConfig", ""),
            webhook.get("config", ""),
            webhook.get("version", "v1"),
            webhook.get("cacheTTL", "2m"),
        )

    def file(self, node: yaml.Node, key: str) -> str:
        """A path, from the fleet file's own folder."""
        path = Path(self._source).parent / self.text(node, key)
        if not path.is_file():
            raise self.fail(node, key, f"there is no file {path}")
        return str(path.resolve())

    def nodes(self, node: yaml.Node, key: str) -> dict[str, Any]:
        def simulated(value: yaml.Node, path: str) -> list[NodeGroup]:
            if isinstance(value, yaml.ScalarNode):
                return [NodeGroup(self.number(value, path))]
            groups: list[NodeGroup] = self.items(value, path, self.group)
            return groups

        return self.mapping(node, key, {"simulated": simulated, "process": lambda n, k: self.number(n, k, 0, 64)})

    def group(self, node: yaml.Node, key: str) -> NodeGroup:
        known: dict[str, Callable[[yaml.Node, str], Any]] = {
            "count": self.number,
            "cpu": self.amount,
            "memory": self.amount,
            "pods": self.number,
            "resources": self.amounts,
            "labels": self.labels,
            "taints": lambda n, k: self.items(n, k, self.labels),
            "zone": self.text,
            "annotations": self.labels,
            "gpus": self.gpus,
        }
        found = self.mapping(node, key, known)
        if "count" not in found:
            raise self.fail(node, f"{key}.count", "missing")
        return NodeGroup(**found)

    def gpus(self, node: yaml.Node, key: str) -> str:
        text = self.text(node, key)
        try:
            parse_machine(text)
        except UserError as error:
            raise self.fail(node, key, f"{error.message} ({error.hint})") from None
        return text

    def image(self, node: yaml.Node, key: str) -> dict[str, Any]:
        if not isinstance(node, yaml.MappingNode):
            raise self.fail(node, key, "must be a mapping")
        known = ("image", "program", "args", "root", "path", "mounts", "env", "workingDir", "user")
        for name_node, _ in node.value:
            if name_node.value not in known:
                path = f"{key}.{name_node.value}"
                raise self.fail(name_node, path, f"unknown key; known here: {', '.join(known)}")
        found: dict[str, Any] = plain(node, self._source)
        if not isinstance(found.get("image"), str):
            raise self.fail(node, f"{key}.image", "missing: the pattern of image names that this entry is for")
        if not found.get("program") and not found.get("root"):
            raise self.fail(node, key, "names neither a program of this machine nor an unpacked root folder")
        return found
