"""The loop of claims and volumes: binds what fits, provisions for any storage class, reclaims what is released."""

from __future__ import annotations

from atoll.base.clock import rfc3339
from atoll.base.errors import AlreadyExists, NotFound
from atoll.client.port import DeleteOptions, Object
from atoll.cluster.workloads.common.context import Context
from atoll.cluster.workloads.volumes import matching
from atoll.kinds.builtin import PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, PODS, STORAGE_CLASSES
from atoll.objects import meta
from atoll.objects.meta import is_deleting, key
from atoll.runtime.controller import Controller
from atoll.runtime.events import NORMAL, WARNING
from atoll.runtime.informer import Key

NAME = "persistent-volume-binder"
_SOURCE = "persistentvolume-controller"


class VolumeController:
    """A claim's key is (namespace, name), a volume's (None, name)."""

    def __init__(self, context: Context) -> None:
        self.name = NAME
        self._client = context.client(NAME)
        self._events = context.recorder(_SOURCE)
        self._clock = context.clock
        self._provisions = context.options.provision_volumes
        self._claims = context.informers.of(PERSISTENT_VOLUME_CLAIMS)
        self._volumes = context.informers.of(PERSISTENT_VOLUMES)
        self._classes = context.informers.of(STORAGE_CLASSES)
        self._pods = context.informers.of(PODS)
        self._pods.add_index("claims", claims_of)
        self.loop: Controller[Key] = Controller(
            NAME, self._reconcile, wait_for=(self._claims, self._volumes, self._classes, self._pods)
        )
        self._claims.add_handler(self._claim_changed)
        self._volumes.add_handler(self._volume_changed)
        self._classes.add_handler(self._class_changed)

    async def run(self) -> None:
        await self.loop.run()

    def _claim_changed(self, old: Object | None, new: Object | None) -> None:
        claim = new or old or {}
        self.loop.queue.add(key(claim))
        volume = claim["spec"].get("volumeName")
        if volume:
            self.loop.queue.add((None, volume))

    def _volume_changed(self, old: Object | None, new: Object | None) -> None:
        volume = new or old or {}
        self.loop.queue.add(key(volume))
        reference = volume["spec"].get("claimRef")
        if reference:
            self.loop.queue.add((reference["namespace"], reference["name"]))
        elif new is not None:
            self._wake_pending()

    def _class_changed(self, old: Object | None, new: Object | None) -> None:
        if new is not None and (old is None or meta.annotations(old) != meta.annotations(new)):
            self._wake_pending()

    def _wake_pending(self) -> None:
        for claim in self._claims:
            if (claim.get("status") or {}).get("phase") != "Bound":
                self.loop.queue.add(key(claim))

    async def _reconcile(self, name: Key) -> float | None:
        if name[0] is None:
            volume = self._volumes.by_key(name)
            if volume is not None:
                await self._settle_volume(volume)
            return None
        claim = self._claims.by_key(name)
        if claim is not None and not is_deleting(claim):
            return await self._settle_claim(claim)
        return None

    # -- claims

    async def _settle_claim(self, claim: Object) -> float | None:
        wanted = claim["spec"].get("volumeName")
        if wanted:
            return await self._settle_named(claim, wanted)
        if await self._take_default_class(claim):
            return None
        waits = self._waits_for_consumer(claim)
        volume = None if waits else matching.best_match(claim, self._volumes)
        if volume is not None:
            await self._bind(claim, volume)
            return None
        if waits:
            self._tell_waiting(claim)
        elif matching.class_of(claim):
            return await self._provision(claim)
        else:
            message = "no persistent volumes available for this claim and no storage class is set"
            self._events.event(claim, NORMAL, "FailedBinding", message)
        await self._set_pending(claim)
        return None

    async def _take_default_class(self, claim: Object) -> bool:
        """A claim older than the default class gets it now (upstream's retroactive default)."""
        if claim["spec"].get("storageClassName") is not None or matching.BETA_CLASS in meta.annotations(claim):
            return False
        found = matching.default_class(self._classes)
        if found is None:
            return False
        spec = claim["spec"] | {"storageClassName": found["metadata"]["name"]}
        await self._client.update(PERSISTENT_VOLUME_CLAIMS, claim | {"spec": spec})
        return True

    async def _settle_named(self, claim: Object, name: str) -> float | None:
        volume = self._volumes.get(name)
        status = claim.get("status") or {}
        if volume is None:
            if matching.BIND_COMPLETED in meta.annotations(claim) and status.get("phase") != "Lost":
                try:
                    await self._client.get(PERSISTENT_VOLUMES, name)
                except NotFound:
                    await self._lose(claim)
            else:
                await self._set_pending(claim)
            return None
        if not volume["spec"].get("claimRef") or matching.is_bound_to(volume, claim):
            await self._bind(claim, volume)
        else:
            message = f'volume "{name}" already bound to a different claim.'
            self._events.event(claim, WARNING, "FailedBinding", message)
            await self._set_pending(claim)
        return None

    def _waits_for_consumer(self, claim: Object) -> bool:
        """Its class binds only once a pod that uses the claim has been placed."""
        storage_class = self._classes.get(matching.class_of(claim))
        if storage_class is None or storage_class.get("volumeBindingMode") != "WaitForFirstConsumer":
            return False
        return not meta.annotations(claim).get(matching.SELECTED_NODE)

    def _tell_waiting(self, claim: Object) -> None:
        users = self._pods.by_index("claims", (claim["metadata"]["namespace"], claim["metadata"]["name"]))
        names = [pod["metadata"]["name"] for pod in users if not pod["spec"].get("nodeName")]
        if not names:
            message = "waiting for first consumer to be created before binding"
            self._events.event(claim, NORMAL, "WaitForFirstConsumer", message)
        else:
            many = "pods" if len(names) > 1 else "pod"
            message = f"waiting for {many} {','.join(names)} to be scheduled"
            self._events.event(claim, NORMAL, "WaitForPodScheduled", message)

    async def _provision(self, claim: Object) -> float | None:
        name = matching.class_of(claim)
        storage_class = self._classes.get(name)
        if storage_class is None:
            message = f'storageclass.storage.k8s.io "{name}" not found'
            self._events.event(claim, WARNING, "ProvisioningFailed", message)
        elif storage_class["provisioner"] == matching.NO_PROVISIONER or not self._provisions:
            provisioner = storage_class["provisioner"]
            message = (
                f"Waiting for a volume to be created either by the external provisioner '{provisioner}' or manually by "
                "the system administrator. If volume creation is delayed, please verify that the provisioner is "
                "running and correctly registered."
            )
            self._events.event(claim, NORMAL, "ExternalProvisioning", message)
        else:
            await self._make_volume(claim, storage_class)
            return None
        await self._set_pending(claim)
        return None

    async def _make_volume(self, claim: Object, storage_class: Object) -> None:
        provisioner = storage_class["provisioner"]
        told = {matching.PROVISIONER: provisioner, matching.BETA_PROVISIONER: provisioner}
        notes = meta.annotations(claim)
        if any(notes.get(name) != value for name, value in told.items()):
            metadata = {**claim["metadata"], "annotations": {**notes, **told}}
            claim = await self._client.update(PERSISTENT_VOLUME_CLAIMS, {**claim, "metadata": metadata})
        volume = matching.provisioned_volume(claim, storage_class)
        try:
            volume = await self._client.create(PERSISTENT_VOLUMES, volume)
        except AlreadyExists:
            volume = await self._client.get(PERSISTENT_VOLUMES, volume["metadata"]["name"])
        else:
            message = f"Successfully provisioned volume {volume['metadata']['name']}"
            self._events.event(claim, NORMAL, "ProvisioningSucceeded", message)
        await self._bind(claim, volume)

    async def _bind(self, claim: Object, volume: Object) -> None:
        """Four writes, each repeated until it is so; the volume's claim first, so that no one else takes it."""
        reference = volume["spec"].get("claimRef") or {}
        if reference.get("uid") != claim["metadata"]["uid"]:
            volume = await self._client.update(PERSISTENT_VOLUMES, matching.with_claim(volume, claim))
        volume = await self._set_phase(volume, "Bound")
        name = volume["metadata"]["name"]
        if claim["spec"].get("volumeName") != name or matching.BIND_COMPLETED not in meta.annotations(claim):
            claim = await self._client.update(PERSISTENT_VOLUME_CLAIMS, matching.with_volume(claim, volume))
        volume = await self._expand(claim, volume)
        status = matching.bound_status(claim, volume)
        if status != (claim.get("status") or {}):
            await self._client.update(PERSISTENT_VOLUME_CLAIMS, {**claim, "status": status}, subresource="status")

    async def _expand(self, claim: Object, volume: Object) -> Object:
        """A claim that asks for more has its provisioned volume grown (admission has asked its class)."""
        wanted = matching.requested(claim)
        if matching.PROVISIONED_BY not in meta.annotations(volume) or not matching.is_bigger(wanted, volume):
            return volume
        capacity = {**(volume["spec"].get("capacity") or {}), "storage": wanted}
        grown = {**volume, "spec": {**volume["spec"], "capacity": capacity}}
        grown = await self._client.update(PERSISTENT_VOLUMES, grown)
        self._events.event(claim, NORMAL, "FileSystemResizeSuccessful", "MountVolume.NodeExpandVolume succeeded")
        return grown

    async def _set_pending(self, claim: Object) -> None:
        status = claim.get("status") or {}
        if status.get("phase") in ("Pending", "Bound"):
            return
        changed = {**claim, "status": {**status, "phase": "Pending"}}
        await self._client.update(PERSISTENT_VOLUME_CLAIMS, changed, subresource="status")

    async def _lose(self, claim: Object) -> None:
        status = {name: value for name, value in (claim.get("status") or {}).items() if name == "conditions"}
        changed = {**claim, "status": {**status, "phase": "Lost"}}
        await self._client.update(PERSISTENT_VOLUME_CLAIMS, changed, subresource="status")
        message = "Bound claim has lost its PersistentVolume. Data on the volume is lost!"
        self._events.event(claim, WARNING, "ClaimLost", message)

    # -- volumes

    async def _set_phase(self, volume: Object, phase: str) -> Object:
        status = volume.get("status") or {}
        if status.get("phase") == phase:
            return volume
        now = rfc3339(self._clock.wall())
        changed = {**volume, "status": {**status, "phase": phase, "lastPhaseTransitionTime": now}}
        return await self._client.update(PERSISTENT_VOLUMES, changed, subresource="status")

    async def _settle_volume(self, volume: Object) -> None:
        reference = volume["spec"].get("claimRef")
        if not reference or not reference.get("uid"):
            if not is_deleting(volume):
                await self._set_phase(volume, "Available")
            return
        claim = self._claims.get(reference["name"], reference["namespace"])
        if claim is None or claim["metadata"]["uid"] != reference["uid"]:
            claim = await self._fresh_claim(reference)
        if claim is not None:
            if claim["spec"].get("volumeName") == volume["metadata"]["name"]:
                await self._set_phase(volume, "Bound")
            return
        volume = await self._set_phase(volume, "Released")  # one that is being deleted, too: that is what it waits for
        if is_deleting(volume):
            return
        policy = volume["spec"].get("persistentVolumeReclaimPolicy", "Retain")
        if policy == "Delete" and matching.PROVISIONED_BY in meta.annotations(volume):
            metadata = volume["metadata"]
            options = DeleteOptions(uid=metadata["uid"])
            try:
                await self._client.delete(PERSISTENT_VOLUMES, metadata["name"], options=options)
            except NotFound:
                return

    async def _fresh_claim(self, reference: Object) -> Object | None:
        """As the server has it now: a volume is not released because a cache is behind."""
        try:
            claim = await self._client.get(PERSISTENT_VOLUME_CLAIMS, reference["name"], reference["namespace"])
        except NotFound:
            return None
        return claim if claim["metadata"]["uid"] == reference["uid"] else None


class ProtectionController:
    """Removes kubernetes.io/pvc-protection and pv-protection once nothing uses what is being deleted."""

    def __init__(self, context: Context) -> None:
        self.name = "pvc-protection-controller"
        self._client = context.client(self.name)
        self._claims = context.informers.of(PERSISTENT_VOLUME_CLAIMS)
        self._volumes = context.informers.of(PERSISTENT_VOLUMES)
        self._pods = context.informers.of(PODS)
        self._pods.add_index("claims", claims_of)
        self.loop: Controller[Key] = Controller(
            self.name, self._reconcile, wait_for=(self._claims, self._volumes, self._pods)
        )
        self._claims.add_handler(self._changed)
        self._volumes.add_handler(self._changed)
        self._pods.add_handler(self._pod_changed)

    async def run(self) -> None:
        await self.loop.run()

    def _changed(self, old: Object | None, new: Object | None) -> None:
        if new is not None and is_deleting(new):
            self.loop.queue.add(key(new))

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        ended = new is None or (new.get("status") or {}).get("phase") in ("Succeeded", "Failed")
        if not ended:
            return
        for name in claims_of(new or old or {}):
            claim = self._claims.by_key(name)
            if claim is not None and is_deleting(claim):
                self.loop.queue.add(name)

    async def _reconcile(self, name: Key) -> float | None:
        if name[0] is None:
            volume = self._volumes.by_key(name)
            if volume is not None and is_deleting(volume) and (volume.get("status") or {}).get("phase") != "Bound":
                await self._release(volume, "kubernetes.io/pv-protection")
            return None
        claim = self._claims.by_key(name)
        if claim is None or not is_deleting(claim) or self._is_used(self._pods.by_index("claims", name)):
            return None
        present = await self._client.list(PODS, name[0])  # the cache may be behind: never lose data on that
        users = [pod for pod in present.items if name in claims_of(pod)]
        if not self._is_used(users):
            await self._release(claim, "kubernetes.io/pvc-protection")
        return None

    def _is_used(self, users: list[Object]) -> bool:
        return any(
            pod["spec"].get("nodeName") and (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed")
            for pod in users
        )

    async def _release(self, obj: Object, finalizer: str) -> None:
        present = obj["metadata"].get("finalizers") or []
        if finalizer not in present:
            return
        metadata = {**obj["metadata"], "finalizers": [item for item in present if item != finalizer]}
        resource = PERSISTENT_VOLUME_CLAIMS if "namespace" in metadata else PERSISTENT_VOLUMES
        try:
            await self._client.update(resource, {**obj, "metadata": metadata})
        except NotFound:
            return


class EphemeralClaims:
    """Makes the claims of a pod's ephemeral volumes; they are owned by the pod."""

    def __init__(self, context: Context) -> None:
        self.name = "ephemeral-volume-controller"
        self._client = context.client(self.name)
        self._events = context.recorder("ephemeral_volume")
        self._pods = context.informers.of(PODS)
        self._claims = context.informers.of(PERSISTENT_VOLUME_CLAIMS)
        self.loop: Controller[Key] = Controller(self.name, self._reconcile, wait_for=(self._pods, self._claims))
        self._pods.add_handler(self._pod_changed)

    async def run(self) -> None:
        await self.loop.run()

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        if old is None and new is not None and any("ephemeral" in item for item in new["spec"].get("volumes") or ()):
            self.loop.queue.add(key(new))

    async def _reconcile(self, name: Key) -> float | None:
        pod = self._pods.by_key(name)
        if pod is None or is_deleting(pod):
            return None
        for volume in pod["spec"].get("volumes") or ():
            template = (volume.get("ephemeral") or {}).get("volumeClaimTemplate")
            claim_name = f"{name[1]}-{volume['name']}"
            if template is None or self._claims.get(claim_name, name[0]) is not None:
                continue
            given = template.get("metadata") or {}
            owner = meta.owner_reference({"apiVersion": "v1", "kind": "Pod", "metadata": pod["metadata"]})
            metadata = {**given, "name": claim_name, "ownerReferences": [owner]}
            claim = {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "metadata": metadata,
                "spec": template["spec"],
            }
            try:
                await self._client.create(PERSISTENT_VOLUME_CLAIMS, claim, name[0])
            except AlreadyExists:
                continue
        return None


def claims_of(pod: Object) -> tuple[Key, ...]:
    """The claims that a pod's volumes name, ephemeral ones included."""
    namespace = pod["metadata"].get("namespace")
    found: list[Key] = []
    for volume in pod["spec"].get("volumes") or ():
        if "persistentVolumeClaim" in volume:
            found.append((namespace, volume["persistentVolumeClaim"]["claimName"]))
        elif "ephemeral" in volume:
            found.append((namespace, f"{pod['metadata']['name']}-{volume['name']}"))
    return tuple(found)
