"""May this API be a hub? Refused where templates would run there, or where somebody else owns the hub's kinds.

For a hub on a kube-apiserver that is not ours: the embedded one has no workload controllers by construction.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from atoll.base.clock import Clock, parse_rfc3339
from atoll.base.errors import AlreadyExists, ApiError, NotFound, UserError
from atoll.client.port import Client, Object
from atoll.fleet.names import SYSTEM_NAMESPACE
from atoll.kinds.builtin import API_SERVICES, DEPLOYMENTS, LEASES, NAMESPACES

PROBE = "atoll-preflight"
_STEP_SECONDS = 0.1


async def preflight(hub: Client, clock: Clock, *, wait_seconds: float = 3.0) -> None:
    """Raises UserError, saying what is in the way. Leaves nothing behind."""
    await _check_owners(hub, clock)
    with suppress(AlreadyExists):
        await hub.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM_NAMESPACE}})
    with suppress(NotFound):
        await hub.delete(DEPLOYMENTS, PROBE, SYSTEM_NAMESPACE)
    await hub.create(DEPLOYMENTS, _probe())
    try:
        waited = 0.0
        while waited < wait_seconds:
            status = (await hub.get(DEPLOYMENTS, PROBE, SYSTEM_NAMESPACE)).get("status") or {}
            if status.get("observedGeneration"):
                raise UserError(
                    "this API server runs Deployments: a hub holds templates only",
                    hint="give kube-controller-manager --controllers=namespace-controller,garbage-collector-controller,"
                    "serviceaccount-controller there, or choose another API server for the hub",
                )
            await asyncio.sleep(_STEP_SECONDS)
            waited += _STEP_SECONDS
    finally:
        with suppress(ApiError):
            await hub.delete(DEPLOYMENTS, PROBE, SYSTEM_NAMESPACE)


def _probe() -> Object:
    labels = {"app": PROBE}
    pod = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "none", "image": "none"}]}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": PROBE, "namespace": SYSTEM_NAMESPACE},
        "spec": {"replicas": 0, "selector": {"matchLabels": labels}, "template": pod},
    }


async def _check_owners(hub: Client, clock: Clock) -> None:
    """A Karmada control plane serves the same groups, by controllers of its own."""
    with suppress(ApiError):
        service = await hub.get(API_SERVICES, "v1alpha1.cluster.karmada.io")
        backend = (service.get("spec") or {}).get("service") or {}
        if backend.get("namespace") and backend["namespace"] != SYSTEM_NAMESPACE:
            raise UserError(
                f"cluster.karmada.io is served by {backend['namespace']} here: a hub has one owner",
                hint="use another API server, or take that control plane away first",
            )
    with suppress(ApiError):
        for lease in (await hub.list(LEASES)).items:
            name, spec = lease["metadata"]["name"], lease.get("spec") or {}
            if not name.startswith("karmada-") or not spec.get("renewTime"):
                continue
            age = clock.wall() - parse_rfc3339(spec["renewTime"])
            if age < float(spec.get("leaseDurationSeconds") or 15) * 2:
                raise UserError(
                    f"{spec.get('holderIdentity') or name} is at work here as {name}: a hub has one owner",
                    hint="stop it, or use another API server",
                )
