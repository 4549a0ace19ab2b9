"""Carries the scheduler's decisions about ResourceClaims out: allocation and reservation are written in one step before
the pod is bound, and taken back where it is not (upstream's DynamicResources: PreBind, Unreserve, PostFilter).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any
from weakref import WeakValueDictionary

from atoll.base.backoff import Backoff
from atoll.base.clock import Clock, parse_rfc3339, rfc3339
from atoll.base.errors import AtollError, Conflict, NotFound, OutcomeUnknown
from atoll.client.port import STRATEGIC_PATCH, Client, DeleteOptions
from atoll.kinds.builtin import PODS, RESOURCE_CLAIMS
from atoll.objects.meta import copy
from atoll.objects.resource_claims import (
    EXTENDED_RESOURCE_CLAIM,
    FINALIZER,
    DeviceId,
    allocation,
    device_id,
    is_reserved_for,
    reference,
    users,
)
from atoll.scheduling.dra import binding_conditions
from atoll.scheduling.dra.needs import ClaimPlan, DevicePlan
from atoll.scheduling.dra.state import Devices, plan_uid
from atoll.scheduling.pod import PodInfo

Object = dict[str, Any]
BINDING_TIMEOUT_SECONDS = 600.0
_ATTEMPTS = 5
_BACKOFF = Backoff(first_seconds=0.2, most_seconds=10.0)


class ClaimNotBound(AtollError):
    """A claim could not be had for a pod after all."""

    retryable = True


class ClaimBinder:
    """Writes claims. `watch(changed)` calls `changed` on every change of a claim, until what it returns is called."""

    def __init__(
        self,
        client: Client,
        devices: Devices,
        clock: Clock,
        watch: Callable[[Callable[[], None]], Callable[[], None]],
    ) -> None:
        self._client = client
        self._devices = devices
        self._clock = clock
        self._watch = watch
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()  # pods that share a claim

    async def bind(self, pod: PodInfo, plan: DevicePlan) -> None:
        """All claims allocated and reserved for the pod. Raises AtollError."""
        for item in plan.claims:
            item.claim = await self._bind(pod, item)
        bound = [item.claim for item in plan.claims if item.claim is not None]
        waiting = [claim for claim in bound if binding_conditions.has_conditions(claim)]
        if waiting:
            await self._wait(waiting)

    async def unbind(self, pod: PodInfo, plan: DevicePlan) -> None:
        """The pod was not bound: it is none of its claims' users, and what was made for it alone goes."""
        for item in plan.claims:
            claim = item.claim
            if item.allocation is not None:
                self._devices.release(plan_uid(None, pod.uid))
                if claim is not None:
                    claim = await self._truth(claim, pod.uid)
            if claim is None:
                continue
            if item.spec:
                await self.delete(claim)
            elif is_reserved_for(claim, pod.obj):
                claim = await self._leave(pod, claim)
                if item.allocation is None or claim is None or users(claim):
                    continue
                if binding_conditions.missing(claim):
                    await self.deallocate(claim)  # its devices can't be made ready: others may

    async def _truth(self, claim: Object, user: str) -> Object | None:
        """The claim as it is, whatever became of our writes: until that is known its devices count as taken."""
        metadata, failures = claim["metadata"], 0
        while True:
            try:
                found = await self._client.get(RESOURCE_CLAIMS, metadata["name"], metadata["namespace"])
                break
            except NotFound:
                self._devices.release(metadata["uid"])
                return None
            except AtollError:
                await asyncio.sleep(_BACKOFF.delay(failures))
                failures += 1
        if allocation(found) is None or found["metadata"]["uid"] != metadata["uid"]:
            self._devices.release(metadata["uid"], user)
        else:
            self._devices.written(metadata["uid"], int(found["metadata"]["resourceVersion"]))
        return found

    async def deallocate(self, claim: Object) -> None:
        """Nobody uses it, and it is in the way: it may be had elsewhere."""
        status = {
            key: value
            for key, value in (claim.get("status") or {}).items()
            if key not in ("allocation", "reservedFor", "devices")
        }
        await self._client.update(RESOURCE_CLAIMS, {**claim, "status": status}, subresource="status")

    async def delete(self, claim: Object) -> None:
        """A claim that the scheduler made for a pod's extended resources."""
        metadata = claim["metadata"]
        try:
            for _ in range(_ATTEMPTS):
                kept = [name for name in metadata.get("finalizers") or () if name != FINALIZER]
                try:
                    await self._client.update(RESOURCE_CLAIMS, {**claim, "metadata": {**metadata, "finalizers": kept}})
                    break
                except Conflict:
                    claim = await self._client.get(RESOURCE_CLAIMS, metadata["name"], metadata["namespace"])
                    metadata = claim["metadata"]
            options = DeleteOptions(uid=metadata["uid"])
            await self._client.delete(RESOURCE_CLAIMS, metadata["name"], metadata["namespace"], options=options)
        except NotFound:
            return

    # one claim

    async def _bind(self, pod: PodInfo, item: ClaimPlan) -> Object:
        claim = item.claim if item.claim is not None else await self._create(pod, item)
        if is_reserved_for(claim, pod.obj) and allocation(claim) is not None:
            return claim
        async with self._turns.setdefault(claim["metadata"]["uid"], asyncio.Lock()):
            claim = await self._written(pod, claim, item.allocation)
        if item.allocation is not None:
            self._devices.written(claim["metadata"]["uid"], int(claim["metadata"]["resourceVersion"]))
        if item.spec:
            await self._tell(pod, claim, item)
        return claim

    async def _written(self, pod: PodInfo, claim: Object, given: Object | None) -> Object:
        """The claim with its devices, reserved for the pod."""
        name, namespace = claim["metadata"]["name"], claim["metadata"]["namespace"]
        for attempt in range(_ATTEMPTS):
            try:
                return await self._write(pod, claim, given)
            except (Conflict, OutcomeUnknown):
                if attempt == _ATTEMPTS - 1:
                    raise
                claim = await self._client.get(RESOURCE_CLAIMS, name, namespace)
                if is_reserved_for(claim, pod.obj) and allocation(claim) is not None:
                    break  # it was carried out, only the answer was lost
        return claim

    async def _write(self, pod: PodInfo, claim: Object, given: Object | None) -> Object:
        """One attempt, on a version of the claim. Raises Conflict: there is a newer one."""
        name = f"{claim['metadata']['namespace']}/{claim['metadata']['name']}"
        if "deletionTimestamp" in claim["metadata"]:
            raise ClaimNotBound(f"claim {name} got deleted in the meantime")
        status = copy(claim.get("status") or {})
        if given is not None and status.get("allocation") is not None:
            if _devices(status["allocation"]) != _devices(given):  # else a fellow of its gang was faster
                raise ClaimNotBound(f"claim {name} got allocated elsewhere in the meantime")
        elif given is not None:
            claim = await self._protected(claim)
            status["allocation"] = copy(given)
        if status.get("allocation") is None:
            raise ClaimNotBound(f"claim {name} got deallocated elsewhere in the meantime")
        status["allocation"].setdefault("allocationTimestamp", rfc3339(self._clock.wall()))
        if not is_reserved_for(claim, pod.obj):
            status["reservedFor"] = [*users(claim), reference(pod.obj)]
        return await self._client.update(RESOURCE_CLAIMS, {**claim, "status": status}, subresource="status")

    async def _protected(self, claim: Object) -> Object:
        finalizers = claim["metadata"].get("finalizers") or []
        if FINALIZER in finalizers:
            return claim
        metadata = {**claim["metadata"], "finalizers": [*finalizers, FINALIZER]}
        return await self._client.update(RESOURCE_CLAIMS, {**claim, "metadata": metadata})

    async def _leave(self, pod: PodInfo, claim: Object) -> Object | None:
        metadata = claim["metadata"]
        patch = {
            "metadata": {"uid": metadata["uid"]},
            "status": {"reservedFor": [{"$patch": "delete", "uid": pod.uid}]},
        }
        try:
            return await self._client.patch(
                RESOURCE_CLAIMS, metadata["name"], patch, metadata["namespace"],
                content_type=STRATEGIC_PATCH, subresource="status",
            )  # fmt: skip
        except (NotFound, Conflict):
            return None

    # extended resources

    async def _create(self, pod: PodInfo, item: ClaimPlan) -> Object:
        metadata = pod.obj["metadata"]
        owner = {
            "apiVersion": "v1", "kind": "Pod", "name": metadata["name"], "uid": metadata["uid"], "controller": True,
        }  # fmt: skip
        claim = {
            "apiVersion": "resource.k8s.io/v1",
            "kind": "ResourceClaim",
            "metadata": {
                "generateName": f"{metadata['name']}-extended-resources-",
                "namespace": metadata["namespace"],
                "annotations": {EXTENDED_RESOURCE_CLAIM: "true"},
                "ownerReferences": [owner],
            },
            "spec": item.spec,
        }
        created = await self._client.create(RESOURCE_CLAIMS, claim, metadata["namespace"])
        item.claim = created  # from now on it is to be deleted where the pod is not bound
        self._devices.renamed(plan_uid(None, pod.uid), created["metadata"]["uid"])
        return created

    async def _tell(self, pod: PodInfo, claim: Object, item: ClaimPlan) -> None:
        """The pod's status says which request stands for the resources of which container."""
        metadata = pod.obj["metadata"]
        told = {"requestMappings": item.mappings, "resourceClaimName": claim["metadata"]["name"]}
        patch = {"metadata": {"uid": metadata["uid"]}, "status": {"extendedResourceClaimStatus": told}}
        await self._client.patch(
            PODS, metadata["name"], patch, metadata["namespace"], content_type=STRATEGIC_PATCH, subresource="status"
        )

    # devices that must be made ready first

    async def _wait(self, claims: list[Object]) -> None:
        changed = asyncio.Event()
        stop = self._watch(changed.set)
        try:
            while not all(self._ready(claim) for claim in claims):
                changed.clear()
                left = min(self._until_timeout(claim) for claim in claims)
                async with asyncio.timeout(max(left, 0)):
                    await changed.wait()
        except TimeoutError as error:
            raise ClaimNotBound("device binding timeout") from error
        finally:
            stop()

    def _ready(self, written: Object) -> bool:
        """By the claim as it is seen, or as it was `written` where that is newer than what is seen."""
        metadata = written["metadata"]
        claim = self._devices.claims.get((metadata["namespace"], metadata["name"]))
        if claim is None:
            raise NotFound(f'resourceclaim "{metadata["name"]}" not found')
        if int(claim["metadata"]["resourceVersion"]) < int(metadata["resourceVersion"]):
            claim = written
        failed = binding_conditions.failure(claim)
        if failed:
            raise ClaimNotBound(failed)
        if allocation(claim) is None:
            name = f"{metadata['namespace']}/{metadata['name']}"
            raise ClaimNotBound(f"claim {name} got deallocated elsewhere in the meantime")
        return not binding_conditions.missing(claim)

    def _until_timeout(self, claim: Object) -> float:
        since = (allocation(claim) or {}).get("allocationTimestamp")
        start = parse_rfc3339(since) if since else self._clock.wall()
        return start + BINDING_TIMEOUT_SECONDS - self._clock.wall()


def _devices(given: Object) -> list[tuple[str, DeviceId]]:
    """What an allocation gives to which request."""
    return [(result["request"], device_id(result)) for result in given["devices"]["results"]]
