"""Names, ordinals, claims of a StatefulSet's pods, and who owns the claims (stateful_set_utils.go). Pure."""

from __future__ import annotations

import re

from atoll.cluster.workloads.common import pods
from atoll.objects.meta import Object, labels, owner_reference

NAME_LABEL = "statefulset.kubernetes.io/pod-name"
INDEX_LABEL = "apps.kubernetes.io/pod-index"
REVISION_LABEL = "controller-revision-hash"
_ORDINAL = re.compile(r"^(.*)-([0-9]+)$", re.DOTALL)


def parent_and_ordinal(name: str) -> tuple[str, int]:
    """("web", 2) of "web-2"; ("", -1) for other names."""
    match = _ORDINAL.match(name)
    return (match[1], int(match[2])) if match else ("", -1)


def ordinal(pod: Object) -> int:
    return parent_and_ordinal(pod["metadata"]["name"])[1]


def is_member(owner: Object, pod: Object) -> bool:
    return parent_and_ordinal(pod["metadata"]["name"])[0] == str(owner["metadata"]["name"])


def first_ordinal(owner: Object) -> int:
    return int((owner["spec"].get("ordinals") or {}).get("start") or 0)


def replicas(owner: Object) -> int:
    found = owner["spec"].get("replicas")
    return 1 if found is None else int(found)


def in_range(owner: Object, number: int) -> bool:
    start = first_ordinal(owner)
    return start <= number < start + replicas(owner)


def claim_name(owner: Object, template: Object, number: int) -> str:
    return f"{template['metadata']['name']}-{owner['metadata']['name']}-{number}"


def claims(owner: Object, number: int) -> list[Object]:
    """The PersistentVolumeClaims of that pod, as they are created."""
    made = []
    exact = (owner["spec"].get("selector") or {}).get("matchLabels") or {}
    for template in owner["spec"].get("volumeClaimTemplates") or ():
        given = template.get("metadata") or {}
        metadata = {
            "name": claim_name(owner, template, number),
            "namespace": owner["metadata"]["namespace"],
            "labels": {**(given.get("labels") or {}), **exact},
        }
        if given.get("annotations"):
            metadata["annotations"] = dict(given["annotations"])
        claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": template["spec"]}
        references = wanted_claim_owners(owner, None, number, [])
        if references:
            metadata["ownerReferences"] = references
        made.append(claim)
    return made


def new_pod(owner: Object, template: Object, revision: str, number: int) -> Object:
    pod = pods.pod_from_template(template, owner)
    metadata = pod["metadata"]
    del metadata["generateName"]
    name = f"{owner['metadata']['name']}-{number}"
    metadata |= {"name": name, "namespace": owner["metadata"]["namespace"]}
    identity = {NAME_LABEL: name, INDEX_LABEL: str(number), REVISION_LABEL: revision}
    metadata["labels"] = {**(metadata.get("labels") or {}), **identity}
    spec = {**template["spec"], "hostname": name, "volumes": _volumes(owner, template["spec"], number)}
    if owner["spec"].get("serviceName"):
        spec["subdomain"] = owner["spec"]["serviceName"]
    if not spec["volumes"]:
        del spec["volumes"]
    pod["spec"] = spec
    return pod


def _volumes(owner: Object, spec: Object, number: int) -> list[Object]:
    own = {
        template["metadata"]["name"]: claim_name(owner, template, number)
        for template in owner["spec"].get("volumeClaimTemplates") or ()
    }
    made: list[Object] = [{"name": name, "persistentVolumeClaim": {"claimName": claim}} for name, claim in own.items()]
    return made + [volume for volume in spec.get("volumes") or () if volume["name"] not in own]


def identity_matches(pod: Object) -> bool:
    return labels(pod).get(NAME_LABEL) == str(pod["metadata"]["name"])


# -- who owns the claims: persistentVolumeClaimRetentionPolicy


def retention(owner: Object) -> tuple[bool, bool]:
    """(delete when scaled down, delete with the set)."""
    policy = owner["spec"].get("persistentVolumeClaimRetentionPolicy") or {}
    return policy.get("whenScaled") == "Delete", policy.get("whenDeleted") == "Delete"


def wanted_claim_owners(owner: Object, pod: Object | None, number: int, others: list[Object]) -> list[Object]:
    """`others` stay; the set or the condemned pod is added as the policy says."""
    when_scaled, when_deleted = retention(owner)
    scaled_down = not in_range(owner, number)
    made = list(others)
    if when_scaled and scaled_down and pod is not None:
        made.append(owner_reference({"apiVersion": "v1", "kind": "Pod", **pod}))
    elif when_deleted and not (when_scaled and scaled_down):
        made.append(owner_reference(owner))
    return made


def claim_with_owners(owner: Object, pod: Object, claim: Object) -> Object | None:
    """The claim with its owners put right, or None where they are right, stale, or someone else's."""
    references = claim["metadata"].get("ownerReferences") or []
    if any(_is_stale(reference, item) for reference in references for item in (owner, pod)):
        return None  # the garbage collector is about to take it
    ours = {owner["metadata"]["uid"], pod["metadata"].get("uid")}
    others = [item for item in references if item["uid"] not in ours]
    if any(item.get("controller") for item in others) and any(retention(owner)):
        return None
    wanted = wanted_claim_owners(owner, pod, ordinal(pod), others)
    if {item["uid"] for item in wanted} == {item["uid"] for item in references}:
        return None
    return {**claim, "metadata": {**claim["metadata"], "ownerReferences": wanted}}


def _is_stale(reference: Object, item: Object) -> bool:
    """It names a predecessor of the same name."""
    same = reference["kind"] == item.get("kind", "Pod") and reference["name"] == item["metadata"]["name"]
    uid = item["metadata"].get("uid")
    return same and uid is not None and reference["uid"] != uid


def claim_is_stale(owner: Object, pod: Object, claim: Object) -> bool:
    """A claim that still belongs to the pod's predecessor: it must go before the new pod comes."""
    if not retention(owner)[0]:
        return False
    references = claim["metadata"].get("ownerReferences") or ()
    return any(item["kind"] == "Pod" and item["name"] == pod["metadata"]["name"] for item in references)
