"""What a pod's claims demand of its node: VolumeBinding, VolumeZone and ReadWriteOncePod, decided on a snapshot.

A bound claim ties the pod to where its volume can be; an unbound one that waits for its first consumer is matched
with a free volume or provisioned for the chosen node; any other unbound claim makes the pod wait.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from atoll.base import quantity
from atoll.scheduling import status
from atoll.scheduling.matching import NodeMatcher, label_selector, node_selector, topology_selector
from atoll.scheduling.status import Status

Object = dict[str, Any]

SELECTED_NODE = "volume.kubernetes.io/selected-node"
_BETA_CLASS = "volume.beta.kubernetes.io/storage-class"
_NO_PROVISIONER = "kubernetes.io/no-provisioner"
_ZONE_LABELS = {
    "failure-domain.beta.kubernetes.io/zone": "topology.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region": "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone": "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region": "topology.kubernetes.io/region",
}


def claim_names(pod: Object) -> list[tuple[str, bool]]:
    """(claim name, is a generic ephemeral volume's) of the pod's volumes."""
    found: list[tuple[str, bool]] = []
    for volume in (pod.get("spec") or {}).get("volumes") or ():
        if "persistentVolumeClaim" in volume:
            found.append((volume["persistentVolumeClaim"]["claimName"], False))
        elif "ephemeral" in volume:
            found.append((f"{pod['metadata']['name']}-{volume['name']}", True))
    return found


def claim_class(claim: Object) -> str:
    annotation = (claim["metadata"].get("annotations") or {}).get(_BETA_CLASS)
    return str(annotation or claim["spec"].get("storageClassName") or "")


@dataclass(slots=True)
class VolumePlan:
    """What to write before the pod is bound: volumes to tie to claims, claims to be provisioned for the node."""

    bindings: list[tuple[Object, Object]] = field(default_factory=list)  # (PersistentVolume, claim)
    provisions: list[Object] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class VolumeNeeds:
    """A pod's claims, resolved. `error` means that it can be placed nowhere for now."""

    key: tuple[Any, ...] = ()
    error: str = ""
    bound: list[tuple[NodeMatcher | None, list[tuple[str, frozenset[str]]]]] = field(default_factory=list)
    delayed: list[Object] = field(default_factory=list)
    exclusive: frozenset[tuple[str, str]] = frozenset()  # ReadWriteOncePod claims in use by another pod
    volumes: Volumes | None = None

    @property
    def demanding(self) -> bool:
        """Whether nodes differ to it at all."""
        return bool(self.bound or self.delayed or self.exclusive)

    def check(self, name: str, labels: dict[str, str]) -> Status | None:
        """Whether the claims can be had on a node."""
        if self.exclusive:
            return status.VOLUME_IN_USE
        bad_zone = False
        for matcher, zones in self.bound:
            if matcher is not None and not matcher(name, labels):
                return status.VOLUME_NODE
            for key, values in zones:
                value = labels.get(key)
                if value is not None and value not in values:
                    bad_zone = True
        if self.delayed and self.plan(name, labels) is None:
            return status.VOLUME_BIND
        return status.VOLUME_ZONE if bad_zone else None

    def plan(self, name: str, labels: dict[str, str]) -> VolumePlan | None:
        """What binding the delayed claims on a node takes; None when it can't be done there."""
        plan = VolumePlan()
        if self.volumes is None:
            return plan
        taken: set[str] = set()
        for claim in self.delayed:
            selected = (claim["metadata"].get("annotations") or {}).get(SELECTED_NODE)
            if selected is not None and selected != name:
                return None
            volume = None if selected else self.volumes.match(claim, name, labels, taken)
            if volume is not None:
                taken.add(volume["metadata"]["name"])
                plan.bindings.append((volume, claim))
            elif self.volumes.provisions(claim, name, labels):
                plan.provisions.append(claim)
            else:
                return None
        return plan


_NONE = VolumeNeeds()


class Volumes:
    """Claims, volumes and storage classes as last seen."""

    def __init__(self) -> None:
        self.claims: dict[tuple[str, str], Object] = {}
        self.volumes: dict[str, Object] = {}
        self.classes: dict[str, Object] = {}
        self.assumed: dict[str, str] = {}  # volume name -> claim uid, chosen but not yet seen as written
        self.used: dict[tuple[str, str], dict[str, None]] = {}  # ReadWriteOncePod: claim -> pod uids on nodes
        self._version = 0

    def changed(self) -> None:
        self._version += 1

    def needs(self, pod: Object) -> VolumeNeeds:
        """Resolve a pod's claims."""
        names = claim_names(pod)
        if not names:
            return _NONE
        namespace = pod["metadata"].get("namespace") or ""
        needs = VolumeNeeds(volumes=self)
        key: list[Any] = []
        exclusive: set[tuple[str, str]] = set()
        for name, ephemeral in names:
            claim = self.claims.get((namespace, name))
            needs.error = self._error(pod, claim, name, ephemeral)
            if needs.error or claim is None:
                return needs
            if "ReadWriteOncePod" in (claim["spec"].get("accessModes") or ()):
                uid = pod["metadata"].get("uid")
                if any(user != uid for user in self.used.get((namespace, name), ())):
                    exclusive.add((namespace, name))
            self._resolve(needs, claim, key)
            if needs.error:
                return needs
        needs.exclusive = frozenset(exclusive)
        needs.key = (*key, needs.exclusive)
        return needs

    def _error(self, pod: Object, claim: Object | None, name: str, ephemeral: bool) -> str:
        if claim is None:
            if ephemeral:
                return f'waiting for ephemeral volume controller to create the persistentvolumeclaim "{name}"'
            return f'persistentvolumeclaim "{name}" not found'
        if (claim.get("status") or {}).get("phase") == "Lost":
            volume = claim["spec"].get("volumeName")
            return f'persistentvolumeclaim "{name}" bound to non-existent persistentvolume "{volume}"'
        if "deletionTimestamp" in claim["metadata"]:
            return f'persistentvolumeclaim "{name}" is being deleted'
        if ephemeral:
            owners = claim["metadata"].get("ownerReferences") or ()
            if not any(owner.get("uid") == pod["metadata"].get("uid") for owner in owners):
                namespace = pod["metadata"].get("namespace")
                return (
                    f"PVC {namespace}/{name} was not created for pod {namespace}/{pod['metadata']['name']}"
                    " (pod is not owner)"
                )
        return ""

    def _resolve(self, needs: VolumeNeeds, claim: Object, key: list[Any]) -> None:
        volume_name = claim["spec"].get("volumeName") or ""
        annotations = claim["metadata"].get("annotations") or {}
        if volume_name and "pv.kubernetes.io/bind-completed" in annotations:
            volume = self.volumes.get(volume_name)
            if volume is None:
                needs.error = f'persistentvolume "{volume_name}" not found'
                return
            affinity = (volume["spec"].get("nodeAffinity") or {}).get("required")
            zones = _zones(volume)
            if affinity is not None or zones:
                needs.bound.append((node_selector(affinity), zones))
                key.append((volume_name, volume["metadata"].get("resourceVersion")))
            return
        name = claim_class(claim)
        storage = self.classes.get(name)
        if storage is None or storage.get("volumeBindingMode") != "WaitForFirstConsumer" or volume_name:
            needs.error = "pod has unbound immediate PersistentVolumeClaims"
            return
        needs.delayed.append(claim)
        free = self._candidates(claim)
        selected = annotations.get(SELECTED_NODE)
        if free or selected:
            key.append((claim["metadata"].get("uid"), self._version))
        else:
            key.append((name, storage["metadata"].get("resourceVersion")))

    def _candidates(self, claim: Object) -> list[Object]:
        """Free volumes that suit a claim, the smallest first."""
        spec = claim["spec"]
        wanted = quantity.units(((spec.get("resources") or {}).get("requests") or {}).get("storage", 0))
        name, modes = claim_class(claim), set(spec.get("accessModes") or ())
        selector = spec.get("selector")
        matches = label_selector(selector) if selector else None
        found: list[tuple[int, str, Object]] = []
        for volume in self.volumes.values():
            body = volume["spec"]
            if (body.get("storageClassName") or "") != name or "deletionTimestamp" in volume["metadata"]:
                continue
            reference = body.get("claimRef")
            mine = reference is not None and _refers(reference, claim)
            if reference is not None and not mine:
                continue
            if reference is None and (volume.get("status") or {}).get("phase") != "Available":
                continue
            holder = self.assumed.get(volume["metadata"]["name"])
            if holder is not None and holder != claim["metadata"].get("uid"):
                continue
            size = quantity.units((body.get("capacity") or {}).get("storage", 0))
            if size < wanted or not modes <= set(body.get("accessModes") or ()):
                continue
            if (body.get("volumeMode") or "Filesystem") != (spec.get("volumeMode") or "Filesystem"):
                continue
            if matches is not None and not matches(volume["metadata"].get("labels") or {}):
                continue
            found.append((-1 if mine else size, volume["metadata"]["name"], volume))
        found.sort(key=lambda item: item[:2])
        return [volume for _, _, volume in found]

    def match(self, claim: Object, node: str, labels: dict[str, str], taken: set[str]) -> Object | None:
        """The free volume that a claim would get on a node."""
        for volume in self._candidates(claim):
            if volume["metadata"]["name"] in taken:
                continue
            affinity = (volume["spec"].get("nodeAffinity") or {}).get("required")
            matcher = node_selector(affinity)
            if matcher is None or matcher(node, labels):
                return volume
        return None

    def provisions(self, claim: Object, node: str, labels: dict[str, str]) -> bool:
        """Whether the claim's class can make a volume for a node."""
        storage = self.classes.get(claim_class(claim))
        if storage is None or (storage.get("provisioner") or _NO_PROVISIONER) == _NO_PROVISIONER:
            return False
        matcher = topology_selector(storage.get("allowedTopologies"))
        return matcher is None or matcher(node, labels)


def _refers(reference: Object, claim: Object) -> bool:
    metadata = claim["metadata"]
    if reference.get("name") != metadata["name"] or reference.get("namespace") != metadata.get("namespace"):
        return False
    return reference.get("uid") in (None, "", metadata.get("uid"))


def _zones(volume: Object) -> list[tuple[str, frozenset[str]]]:
    """The zones and regions that a volume's labels tie it to (`a__b` means either)."""
    labels = volume["metadata"].get("labels") or {}
    return [(_ZONE_LABELS[key], frozenset(value.split("__"))) for key, value in labels.items() if key in _ZONE_LABELS]
