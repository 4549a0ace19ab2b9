"""Plays a scenario (YAML: a list of steps) on a cluster in virtual time, and tells what could be seen (YAML).

Steps: `apply` objects, `run` seconds, `patch`, `delete`, `evict`, `show` resources. Names with random parts are shown
by order of appearance (`web-h1-~2`: the second pod of the first template), times as seconds since the start.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from typing import Any

from scenario_cluster import ScenarioCluster, cluster

from atoll.base.clock import parse_rfc3339
from atoll.base.errors import AtollError
from atoll.client.port import STRATEGIC_PATCH, DeleteOptions, Object
from atoll.kinds.builtin import CONTROLLER_REVISIONS, ENDPOINT_SLICES, JOBS, PODS, REPLICA_SETS
from atoll.kinds.resource import Resource
from atoll.runtime.virtual import START_WALL_SECONDS, run_virtual

_HASH_LABELS = ("pod-template-hash", "controller-revision-hash", "controller.kubernetes.io/hash")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
_UID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")
_DROPPED = ("managedFields", "uid", "resourceVersion", "creationTimestamp", "generation")


class Names:
    """Stable names for what is random."""

    def __init__(self, made: ScenarioCluster) -> None:
        self._known: dict[str, str] = {}
        self._counts: Counter[str] = Counter()
        self._prefixes: dict[str, None] = {}
        self._uids: dict[str, str] = {}
        for resource in (PODS, REPLICA_SETS, JOBS, CONTROLLER_REVISIONS, ENDPOINT_SLICES):
            made.informers.of(resource).add_handler(self._seen)

    def _seen(self, old: Object | None, new: Object | None) -> None:
        if old is not None or new is None:
            return
        metadata = new["metadata"]
        for label in _HASH_LABELS:
            code = (metadata.get("labels") or {}).get(label, "")
            if code and "-" not in code and code not in self._known:
                self._counts["hash"] += 1
                self._known[code] = f"h{self._counts['hash']}"
        prefix = metadata.get("generateName")
        if prefix:
            self._prefixes[prefix] = None
            family = f"{new['kind']}/{prefix}"
            self._counts[family] += 1
            self._known[metadata["name"]] = f"{self.plain(prefix)}~{self._counts[family]}"

    def plain(self, text: str) -> str:
        for name in sorted(self._known, key=len, reverse=True):
            if name in text:
                text = text.replace(name, self._known[name])
        for prefix in self._prefixes:  # names of what was refused
            text = re.sub(rf"\b{re.escape(prefix)}[bcdfghjklmnpqrstvwxz2456789]{{5}}\b", f"{prefix}~?", text)
        text = _UID.sub(self._uid, text)
        return _TIME.sub(lambda match: f"t+{parse_rfc3339(match[0]) - START_WALL_SECONDS:g}", text)

    def _uid(self, match: re.Match[str]) -> str:
        return self._uids.setdefault(match[0], f"uid{len(self._uids) + 1}")

    def clean(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {self.plain(key): self.clean(item) for key, item in value.items() if key not in _DROPPED}
        if isinstance(value, list):
            return [self.clean(item) for item in value]
        return self.plain(value) if isinstance(value, str) else value


class Scenario:
    def __init__(self, made: ScenarioCluster, namespace: str = "default") -> None:
        self._cluster = made
        self._namespace = namespace
        self._names = Names(made)
        self.shown: list[Any] = []

    def _resource(self, plural: str) -> Resource:
        for served in self._cluster.api.registry:
            if plural in (served.resource.plural, served.resource.group_resource):
                found: Resource = served.resource
                return found
        raise LookupError(plural)

    async def step(self, step: dict[str, Any]) -> None:
        (verb, given), *_ = step.items()
        client = self._cluster.client
        try:
            if verb == "apply":
                for obj in given:
                    served = self._cluster.api.registry.of_kind(obj["apiVersion"], obj["kind"])
                    assert served is not None
                    space = obj["metadata"].get("namespace", self._namespace) if served.resource.namespaced else None
                    await client.create(served.resource, obj, space)
            elif verb == "run":
                await asyncio.sleep(float(given))
            elif verb == "patch":
                resource = self._resource(given["resource"])
                space = self._namespace if resource.namespaced else None
                await client.patch(resource, given["name"], given["patch"], space, content_type=STRATEGIC_PATCH)
            elif verb == "delete":
                resource = self._resource(given["resource"])
                space = self._namespace if resource.namespaced else None
                options = DeleteOptions(propagation=given.get("propagation"))
                await client.delete(resource, given["name"], space, options=options)
            elif verb == "evict":
                await self._evict(given)
            elif verb == "show":
                await self._show(given)
            else:
                raise LookupError(verb)
        except AtollError as error:
            self.shown.append({"refused": f"{type(error).__name__}: {self._names.plain(error.message)}"})

    async def _evict(self, given: dict[str, Any]) -> None:
        pods = (await self._cluster.client.list(PODS, self._namespace, label_selector=given["selector"])).items
        for pod in sorted(pods, key=lambda item: self._names.plain(item["metadata"]["name"]))[: given.get("count", 1)]:
            name = pod["metadata"]["name"]
            eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}
            try:
                await self._cluster.client.create(PODS, eviction, self._namespace, name=name, subresource="eviction")
            except AtollError as error:
                self.shown.append({"refused": f"{type(error).__name__}: {self._names.plain(error.message)}"})

    async def _show(self, plurals: list[str]) -> None:
        rows: dict[str, Any] = {"at": f"t+{self._cluster.clock.monotonic():g}"}
        for plural in plurals:
            resource = self._resource(plural)
            space = self._namespace if resource.namespaced else None
            items = (await self._cluster.client.list(resource, space)).items
            if plural == "events":
                rows[plural] = sorted(self._names.plain(_event_row(item)) for item in items)
            else:
                named = {self._names.plain(item["metadata"]["name"]): self._row(plural, item) for item in items}
                rows[plural] = dict(sorted(named.items()))
        self.shown.append(rows)

    def _row(self, plural: str, item: Object) -> Any:
        status = item.get("status") or {}
        if plural == "pods":
            ready = any(it["type"] == "Ready" and it["status"] == "True" for it in status.get("conditions") or ())
            words = [status.get("phase", ""), item["spec"].get("nodeName", "unplaced"), "ready" if ready else "unready"]
            if "deletionTimestamp" in item["metadata"]:
                words.append("leaving")
            index = (item["metadata"].get("labels") or {}).get("batch.kubernetes.io/job-completion-index")
            return " ".join([*words, f"index {index}"] if index else words)
        if plural == "endpointslices":
            return [
                f"{it['addresses'][0]} {'ready' if it['conditions']['ready'] else 'unready'}"
                for it in item.get("endpoints") or ()
            ]
        if plural == "endpoints":
            return [
                {
                    "addresses": [it["ip"] for it in part.get("addresses") or ()],
                    "notReady": [it["ip"] for it in part.get("notReadyAddresses") or ()],
                    "ports": part.get("ports"),
                }
                for part in item.get("subsets") or ()
            ]
        if plural == "controllerrevisions":
            return {"revision": item["revision"]}
        row: dict[str, Any] = {}
        notes = (item["metadata"].get("annotations") or {}).get("deployment.kubernetes.io/revision")
        if notes:
            row["revision"] = notes
        for name in ("replicas", "volumeName", "claimRef", "finalizers"):
            if name in (item.get("spec") or {}):
                row[name] = item["spec"][name]
        for name in ("finalizers", "ownerReferences"):
            if item["metadata"].get(name):
                row[name] = item["metadata"][name]
        return self._names.clean({**row, "status": status} if status else row)


def _event_row(event: Object) -> str:
    about = event["involvedObject"]
    times = f" (x{event['count']})" if event.get("count", 1) > 1 else ""
    return f"{about['kind']}/{about['name']} {event['type']} {event['reason']}{times}: {event['message']}"


def play(steps: list[dict[str, Any]], seed: int = 1) -> tuple[list[Any], str]:
    """What was shown, and the digest of the event log."""

    async def main() -> tuple[list[Any], str]:
        async with cluster(seed) as made:
            scenario = Scenario(made)
            for step in steps:
                await scenario.step(step)
            return scenario.shown, made.digest()

    return run_virtual(main())
