"""The main job: a fleet runs a published application and one of our own, and each cluster answers over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from atoll.app.launch import member_kubeconfig
from atoll.app.state import FleetState
from atoll.base.clock import Clock
from atoll.base.errors import AtollError, UserError
from atoll.client.http import HttpClient
from atoll.client.kubeconfig import load
from atoll.client.portforward import http_get
from atoll.fleet.kindmap import KindMap
from atoll.kinds.builtin import DEPLOYMENTS, PODS
from atoll.kinds.hub import PROPAGATION_POLICIES

Object = dict[str, Any]
Tell = Callable[[str], None]
HELLO, PUBLISHED = "hello", "boutique"
_WAIT_SECONDS = 180.0
_STEP_SECONDS = 0.2
_FRONTEND_PORT = 8080


def documents(text: str, source: str) -> list[Object]:
    """The objects of a manifest. Raises UserError."""
    try:
        found = [item for item in yaml.load_all(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)) if item]
    except yaml.YAMLError as error:
        raise UserError(f"{source}: not YAML: {error}") from None
    if not all(isinstance(item, dict) and item.get("kind") for item in found):
        raise UserError(f"{source}: not a Kubernetes manifest")
    return found


def read_documents(path: Path) -> list[Object]:
    """The objects of a manifest file. Raises UserError."""
    try:
        return documents(path.read_text(), str(path))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None


def published_policy(objects: list[Object]) -> Object:
    """Every kind of the application, in all clusters."""
    kinds = sorted({(item["apiVersion"], item["kind"]) for item in objects})
    return {
        "apiVersion": PROPAGATION_POLICIES.api_version,
        "kind": PROPAGATION_POLICIES.kind,
        "metadata": {"name": PUBLISHED, "namespace": PUBLISHED},
        "spec": {
            "resourceSelectors": [{"apiVersion": version, "kind": kind} for version, kind in kinds],
            "placement": {"clusterAffinity": {}},
        },
    }


def hello_objects() -> list[Object]:
    """Our own application (package data)."""
    text = resources.files("atoll.app").joinpath("demo_manifests/hello.yaml").read_text()
    return documents(text, "hello.yaml")


class Demo:
    """`run` carries it out and returns what each cluster answered. Raises UserError where it does not come true."""

    def __init__(self, state: FleetState, clusters: list[str], clock: Clock, tell: Tell) -> None:
        self._state = state
        self._clusters = clusters
        self._clock = clock
        self._tell = tell

    async def run(self, application: Path | None) -> dict[str, str]:
        hub = self._client("hub")
        members = {name: self._client(name) for name in self._clusters}
        try:
            if application is not None:
                self._tell(f"applying {application}")
                await self._apply_published(hub, await asyncio.to_thread(read_documents, application))
            await self._apply(hub, hello_objects())
            namespaces = [HELLO] + ([PUBLISHED] if application is not None else [])
            await self._until_running(hub, members, namespaces)
            self._tell("asking each cluster over HTTP, through port-forward")
            answers = await asyncio.gather(*(self._ask(name, member) for name, member in members.items()))
            return dict(zip(members, answers, strict=True))
        finally:
            await asyncio.gather(hub.close(), *(member.close() for member in members.values()))

    def _client(self, name: str) -> HttpClient:
        access = load(member_kubeconfig(self._state, name)).access()
        return HttpClient(access, clock=self._clock, field_manager="kubectl", timeout_seconds=10.0)

    async def _apply_published(self, hub: HttpClient, objects: list[Object]) -> None:
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": PUBLISHED}}
        placed = [{**item, "metadata": {**item["metadata"], "namespace": PUBLISHED}} for item in objects]
        await self._apply(hub, [namespace, published_policy(objects), *placed])

    async def _apply(self, hub: HttpClient, objects: list[Object]) -> None:
        kinds = KindMap(hub)
        for obj in objects:
            resource = await kinds.resource(obj["apiVersion"], obj["kind"])
            if resource is None:
                raise UserError(f"the hub serves no {obj['apiVersion']} {obj['kind']}")
            await hub.apply(resource, obj)

    async def _until_running(self, hub: HttpClient, members: dict[str, HttpClient], namespaces: list[str]) -> None:
        deadline = self._clock.monotonic() + _WAIT_SECONDS
        while True:
            waiting = await self._not_ready(hub, members, namespaces)
            if not waiting:
                return
            if self._clock.monotonic() > deadline:
                raise UserError("not all is Running: " + "; ".join(waiting[:5]), hint="atoll get pods --clusters -A")
            self._tell(f"waiting for {len(waiting)}: {', '.join(waiting[:3])}")
            await asyncio.sleep(_STEP_SECONDS)

    async def _not_ready(self, hub: HttpClient, members: dict[str, HttpClient], namespaces: list[str]) -> list[str]:
        waiting: list[str] = []
        for namespace in namespaces:
            for item in (await hub.list(DEPLOYMENTS, namespace)).items:
                status = item.get("status") or {}
                ready = status.get("readyReplicas") or 0
                if ready < item["spec"].get("replicas", 1) or not status.get("replicas"):
                    waiting.append(f"{namespace}/{item['metadata']['name']}")
            for name, member in members.items():
                for pod in (await member.list(PODS, namespace)).items:
                    if (pod.get("status") or {}).get("phase") != "Running" and "deletionTimestamp" not in pod[
                        "metadata"
                    ]:
                        waiting.append(f"{name}:{pod['metadata']['name']}")
        return waiting

    async def _ask(self, name: str, member: HttpClient) -> str:
        """The frontend's answer, through a port-forward to its pod in that cluster."""
        pods = (await member.list(PODS, HELLO, label_selector="app=frontend")).items
        if not pods:
            raise UserError(f"{name}: no frontend pod runs there", hint="atoll explain deployment/frontend -n hello")
        last = ""
        for _ in range(50):
            try:
                status, body = await http_get(
                    member.access, self._clock, HELLO, pods[0]["metadata"]["name"], _FRONTEND_PORT
                )
                if status == 200:
                    return body.decode(errors="replace").strip()
                last = f"status {status}: {body[:200]!r}"
            except (AtollError, ConnectionError) as error:
                last = str(error)
            await asyncio.sleep(_STEP_SECONDS)
        raise UserError(f"{name}: the frontend does not answer: {last}", hint=f"atoll logs {name}")
