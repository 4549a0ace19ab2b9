"""Whether an API server may be a hub: nothing runs templates on it, and nobody else owns the hub's kinds.

A hub's Deployments are templates: a deployment controller on the same API would start their pods there, and Karmada's
controllers would write the same bindings and works. Both are found by looking, and refused with the next step.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from atoll.base.clock import Clock, parse_rfc3339
from atoll.base.errors import AlreadyExists, ApiError, AtollError, Forbidden, NotFound, UserError
from atoll.client.port import Client
from atoll.fleet.names import SYSTEM_NAMESPACE
from atoll.kinds.builtin import API_SERVICES, DEPLOYMENTS, LEASES, NAMESPACES
from atoll.kinds.hub import CLUSTERS

Object = dict[str, Any]
API_SERVICE = f"{CLUSTERS.version}.{CLUSTERS.group}"
PROBE_SECONDS = 3.0  # a deployment controller at work takes milliseconds
_STEP_SECONDS = 0.1
_OTHER_LEASES = (
    ("karmada-system", "karmada-controller-manager"),
    ("karmada-system", "karmada-scheduler"),
)
_FRESH_SECONDS = 60.0
_OWN_HUB = (
    "give the hub a kube-apiserver of its own, whose kube-controller-manager runs with --controllers="
    "namespace-controller,garbage-collector-controller,serviceaccount-controller,serviceaccount-token-controller"
)


async def check_hub(client: Client, clock: Clock, *, probe_seconds: float = PROBE_SECONDS) -> None:
    """Raises UserError where the hub must not start, with the reason."""
    await _check_owner(client, clock)
    await _check_workloads(client, clock, probe_seconds)


async def _check_owner(client: Client, clock: Clock) -> None:
    for namespace, name in _OTHER_LEASES:
        try:
            spec = (await client.get(LEASES, name, namespace)).get("spec") or {}
        except (NotFound, Forbidden):
            continue
        if spec.get("holderIdentity") and clock.wall() - parse_rfc3339(spec["renewTime"]) < _FRESH_SECONDS:
            raise UserError(
                f"{name} is at work here ({spec['holderIdentity']}): it owns the kinds that the hub would write",
                hint=f"stop it first, or {_OWN_HUB}",
            )
    try:
        service = ((await client.get(API_SERVICES, API_SERVICE)).get("spec") or {}).get("service") or {}
    except (NotFound, Forbidden):
        return
    if service and service.get("namespace") != SYSTEM_NAMESPACE:
        where = f"{service.get('namespace')}/{service.get('name')}"
        raise UserError(
            f"{CLUSTERS.group} is served by {where}: another control plane owns the hub's kinds",
            hint=f"remove the APIService {API_SERVICE} with what it belongs to, or {_OWN_HUB}",
        )


async def _check_workloads(client: Client, clock: Clock, seconds: float) -> None:
    """A Deployment of no replicas: whoever observes it would run templates too."""
    with suppress(AlreadyExists):
        space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM_NAMESPACE}}
        await client.create(NAMESPACES, space)
    try:
        made = await client.create(DEPLOYMENTS, _probe(), SYSTEM_NAMESPACE)
    except NotFound:
        return
    name = made["metadata"]["name"]
    try:
        deadline = clock.monotonic() + seconds
        while clock.monotonic() < deadline:
            await asyncio.sleep(_STEP_SECONDS)
            live = await client.get(DEPLOYMENTS, name, SYSTEM_NAMESPACE)
            if (live.get("status") or {}).get("observedGeneration"):
                raise UserError(
                    "a deployment controller is at work here: it would run the hub's templates on the hub itself",
                    hint=_OWN_HUB,
                )
    except ApiError as error:
        raise UserError(f"the hub could not find out whether templates run here: {error.message}") from error
    finally:
        with suppress(AtollError):
            await client.delete(DEPLOYMENTS, name, SYSTEM_NAMESPACE)


def _probe() -> Object:
    labels = {"app.kubernetes.io/managed-by": "atoll", "app.kubernetes.io/name": "atoll-probe"}
    return {
        "apiVersion": DEPLOYMENTS.api_version,
        "kind": DEPLOYMENTS.kind,
        "metadata": {"generateName": "atoll-probe-", "namespace": SYSTEM_NAMESPACE, "labels": labels},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "none", "image": "none"}]},
            },
        },
    }
