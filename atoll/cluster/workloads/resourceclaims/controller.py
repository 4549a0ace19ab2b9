"""The loop of ResourceClaims: carries out what `plan.py` says. Keys are (kind, namespace, name) of pods and claims."""

from __future__ import annotations

from collections.abc import Iterable

from atoll.base.errors import AtollError, NotFound
from atoll.client.port import STRATEGIC_PATCH, DeleteOptions, Object
from atoll.cluster.workloads.common.context import Context
from atoll.cluster.workloads.resourceclaims.plan import (
    Entry,
    claims_to_reserve,
    entries_to_make,
    new_claim,
    orphan,
    settle,
    uses_claim,
)
from atoll.kinds.builtin import PODS, RESOURCE_CLAIM_TEMPLATES, RESOURCE_CLAIMS
from atoll.objects import meta
from atoll.objects.resource_claims import FINALIZER, controller_uid, is_done, known_names, pod_claims, reference, users
from atoll.runtime.controller import Controller
from atoll.runtime.events import WARNING

NAME = "resourceclaim-controller"
_ACCOUNT = "resource-claim-controller"  # as its roles name it
_POD, _CLAIM = "pod", "claim"

Key = tuple[str, str, str]


class ResourceClaimController:
    """Makes, reserves and frees the claims of pods."""

    def __init__(self, context: Context) -> None:
        self.name = NAME
        self._client = context.client(_ACCOUNT)
        self._events = context.recorder("resource_claim")
        self._pods = context.informers.of(PODS)
        self._claims = context.informers.of(RESOURCE_CLAIMS)
        self._templates = context.informers.of(RESOURCE_CLAIM_TEMPLATES)
        self._pods.add_index("resource-claims", _claims_of)
        self._pods.add_index("resource-claim-templates", _templates_of)
        self._claims.add_index("owner", lambda claim: (controller_uid(claim),))
        self._made: dict[tuple[str, str], Object] = {}  # (pod uid, entry) → a claim that the cache may not have yet
        self.loop: Controller[Key] = Controller(
            NAME,
            self._reconcile,
            workers=context.options.workers,
            wait_for=(self._pods, self._claims, self._templates),
        )
        self._pods.add_handler(self._pod_changed)
        self._claims.add_handler(self._claim_changed)
        self._templates.add_handler(self._template_changed)

    async def run(self) -> None:
        await self.loop.run()

    # what has changed

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        pod = new or old or {}
        namespace = pod["metadata"].get("namespace") or ""
        if new is None or is_done(new):
            for claim in self._used_by(pod):
                self.loop.queue.add((_CLAIM, namespace, claim["metadata"]["name"]))
            if new is None:
                for entry in pod_claims(pod):
                    self._made.pop((meta.uid(pod), entry["name"]), None)
        elif pod_claims(new):
            self.loop.queue.add((_POD, namespace, new["metadata"]["name"]))

    def _used_by(self, pod: Object) -> Iterable[Object]:
        namespace = pod["metadata"].get("namespace")
        yield from (claim for name in known_names(pod) if (claim := self._claims.get(name, namespace)) is not None)
        yield from self._claims.by_index("owner", meta.uid(pod))

    def _claim_changed(self, old: Object | None, new: Object | None) -> None:
        claim = new or old or {}
        namespace, name = claim["metadata"].get("namespace") or "", claim["metadata"]["name"]
        if new is not None:
            self.loop.queue.add((_CLAIM, namespace, name))
        for pod in self._pods.by_index("resource-claims", (namespace, name)):
            self.loop.queue.add((_POD, namespace, pod["metadata"]["name"]))

    def _template_changed(self, old: Object | None, new: Object | None) -> None:
        if old is None and new is not None:  # the spec never changes
            namespace = new["metadata"].get("namespace") or ""
            for pod in self._pods.by_index("resource-claim-templates", (namespace, new["metadata"]["name"])):
                self.loop.queue.add((_POD, namespace, pod["metadata"]["name"]))

    async def _reconcile(self, key: Key) -> float | None:
        kind, namespace, name = key
        if kind == _POD:
            pod = self._pods.get(name, namespace)
            if pod is not None and not meta.is_deleting(pod) and not is_done(pod):
                await self._serve(pod)
        else:
            claim = self._claims.get(name, namespace)
            if claim is not None:
                await self._settle(claim)
        return None

    # pods

    async def _serve(self, pod: Object) -> None:
        namespace = pod["metadata"]["namespace"]

        def find(name: str) -> Object | None:
            return self._claims.get(name, namespace)

        made = []
        for entry in entries_to_make(pod, find):
            if entry.told and await self._exists(namespace, entry.told):
                continue  # whatever the cache says
            claim = await self._claim_for(pod, entry)
            made.append({"name": entry.name, "resourceClaimName": claim["metadata"]["name"]})
        if made:
            seen = {"uid": meta.uid(pod), "resourceVersion": pod["metadata"]["resourceVersion"]}
            patch = {"metadata": seen, "status": {"resourceClaimStatuses": made}}  # never over what was told before
            await self._client.patch(
                PODS, pod["metadata"]["name"], patch, namespace, content_type=STRATEGIC_PATCH, subresource="status"
            )
        for claim in claims_to_reserve(pod, find):
            status = {**(claim.get("status") or {}), "reservedFor": [*users(claim), reference(pod)]}
            await self._client.update(RESOURCE_CLAIMS, {**claim, "status": status}, subresource="status")

    async def _claim_for(self, pod: Object, entry: Entry) -> Object:
        found = orphan(entry, self._claims.by_index("owner", meta.uid(pod)))
        remembered = (meta.uid(pod), entry.name)
        if found is None and remembered in self._made:
            made = self._made[remembered]
            if self._claims.get(made["metadata"]["name"], made["metadata"]["namespace"]) is None:
                found = await self._still_there(made)
        if found is not None:
            return found
        namespace = pod["metadata"]["namespace"]
        template = self._templates.get(entry.template, namespace)
        try:
            if template is None:
                told = f'resourceclaimtemplate.resource.k8s.io "{entry.template}" not found'
                raise NotFound(f'resource claim template "{entry.template}": {told}')
            created = await self._client.create(RESOURCE_CLAIMS, new_claim(pod, entry, template), namespace)
        except AtollError as error:
            message = f"PodResourceClaim {entry.name}: {error.message}"
            self._events.event(pod, WARNING, "FailedResourceClaimCreation", message)
            raise
        self._made[remembered] = created
        return created

    async def _exists(self, namespace: str, name: str) -> bool:
        try:
            await self._client.get(RESOURCE_CLAIMS, name, namespace)
        except NotFound:
            return False
        return True

    async def _still_there(self, made: Object) -> Object | None:
        """A claim that the cache does not have (yet, or any more)."""
        metadata = made["metadata"]
        try:
            found = await self._client.get(RESOURCE_CLAIMS, metadata["name"], metadata["namespace"])
        except NotFound:
            return None
        return found if meta.uid(found) == metadata["uid"] else None

    # claims

    async def _settle(self, claim: Object) -> None:
        remaining = [user for user in users(claim) if await self._uses(claim, user)]
        owner = self._owner(claim)
        plan = settle(claim, remaining, owner)
        if plan.status is not None:
            claim = await self._client.update(RESOURCE_CLAIMS, {**claim, "status": plan.status}, subresource="status")
        if plan.unprotect:
            kept = [item for item in claim["metadata"].get("finalizers") or () if item != FINALIZER]
            claim = {**claim, "metadata": {**claim["metadata"], "finalizers": kept}}
            claim = await self._client.update(RESOURCE_CLAIMS, claim)
        if plan.delete:
            metadata = claim["metadata"]
            try:
                options = DeleteOptions(uid=metadata["uid"])
                await self._client.delete(RESOURCE_CLAIMS, metadata["name"], metadata["namespace"], options=options)
            except NotFound:
                return

    async def _uses(self, claim: Object, user: Object) -> bool:
        """What is no pod is never taken for gone; a pod that the cache lacks is asked for."""
        if user.get("apiGroup") or user.get("resource") != "pods":
            return True
        namespace = claim["metadata"]["namespace"]
        pod = self._pods.get(user["name"], namespace)
        if pod is None:
            try:
                pod = await self._client.get(PODS, user["name"], namespace)
            except NotFound:
                return False
        return uses_claim(user, pod)

    def _owner(self, claim: Object) -> Object | None:
        """The pod that a claim was made for; one of another uid stands for a pod that is no more."""
        reference = meta.controller_of(claim)
        if reference is None or reference.get("kind") != "Pod" or reference.get("apiVersion") != "v1":
            return None
        pod = self._pods.get(reference["name"], claim["metadata"]["namespace"])
        if pod is None or meta.uid(pod) == reference.get("uid"):
            return pod
        return {"metadata": pod["metadata"], "status": {"phase": "Failed"}}


def _claims_of(pod: Object) -> tuple[tuple[str, str], ...]:
    if "resourceClaims" not in (pod.get("spec") or ()) and "extendedResourceClaimStatus" not in (
        pod.get("status") or ()
    ):
        return ()  # as most pods: this is asked at each of their changes
    namespace = pod["metadata"].get("namespace") or ""
    return tuple({(namespace, name): None for name in known_names(pod)})


def _templates_of(pod: Object) -> tuple[tuple[str, str], ...]:
    entries = pod_claims(pod)
    if not entries:
        return ()
    namespace = pod["metadata"].get("namespace") or ""
    names = (entry.get("resourceClaimTemplateName") for entry in entries)
    return tuple({(namespace, name): None for name in names if name})
