"""The objects that a LeaderWorkerSet makes: StatefulSets of leaders and of each group's workers, services. Pure."""

from __future__ import annotations

from typing import Any

from atoll.capacity.groups.leaderworkerset import model
from atoll.capacity.groups.leaderworkerset.model import Object
from atoll.capacity.groups.leaderworkerset.rollout import Rollout
from atoll.objects import meta
from atoll.objects.meta import copy, labels, owner_reference


def leaders(lws: Object, rollout: Rollout, revision: str) -> Object:
    """The leader StatefulSet, of the template that the LeaderWorkerSet has now."""
    template, name = model.template_of(lws), lws["metadata"]["name"]
    found = template["leaderWorkerTemplate"]
    pod = copy(found.get("leaderTemplate") or found["workerTemplate"])
    own = {model.NAME: name, model.WORKER_INDEX: "0", model.REVISION: revision}
    pod["metadata"] = _described(pod.get("metadata"), own, _notes(lws, template))
    spec = {
        "replicas": rollout.replicas,
        "serviceName": name,
        "podManagementPolicy": "Parallel",
        "selector": {"matchLabels": {model.NAME: name, model.WORKER_INDEX: "0"}},
        "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": rollout.partition}},
        "template": pod,
        **_claims(found),
    }
    return _made(lws, lws, "StatefulSet", name, {model.NAME: name, model.REVISION: revision}, spec)


def workers(lws: Object, template: Object, leader: Object) -> Object:
    """The StatefulSet of one group's workers, of the template of its leader's revision."""
    name, set_name = leader["metadata"]["name"], lws["metadata"]["name"]
    found = template["leaderWorkerTemplate"]
    group = {key: labels(leader)[key] for key in (model.GROUP_INDEX, model.GROUP_KEY)} | {model.NAME: set_name}
    own = {**group, model.REVISION: labels(leader)[model.REVISION]}
    pod = copy(found["workerTemplate"])
    pod["metadata"] = _described(pod.get("metadata"), own, {**_notes(lws, template), model.LEADER: name})
    spec = {
        "replicas": model.size(template) - 1,
        "ordinals": {"start": 1},
        "serviceName": set_name if model.is_shared(template) else name,
        "podManagementPolicy": "Parallel",
        "selector": {"matchLabels": group},
        "template": pod,
        **_claims(found),
    }
    return _made(lws, leader, "StatefulSet", name, own, spec)


def _claims(template: Object) -> dict[str, Any]:
    names = ("volumeClaimTemplates", "persistentVolumeClaimRetentionPolicy")
    return {name: copy(template[name]) for name in names if template.get(name)}


def _described(metadata: Object | None, tags: dict[str, str], notes: dict[str, str]) -> Object:
    found = metadata or {}
    return {
        **found,
        "labels": {**(found.get("labels") or {}), **tags},
        "annotations": {**(found.get("annotations") or {}), **notes},
    }


def _notes(lws: Object, template: Object) -> dict[str, str]:
    found = {model.SIZE: str(model.size(template))}
    for name in (model.EXCLUSIVE, model.SUBGROUP_EXCLUSIVE):
        if meta.annotations(lws).get(name):
            found[name] = meta.annotations(lws)[name]
    if not model.is_shared(template):
        found[model.SUBDOMAIN_POLICY] = "UniquePerReplica"
    policy = template["leaderWorkerTemplate"].get("subGroupPolicy")
    if policy and policy.get("subGroupSize"):
        found[model.SUBGROUP_SIZE] = str(policy["subGroupSize"])
        found[model.SUBGROUP_POLICY] = policy.get("subGroupPolicyType", "LeaderWorker")
    return found


def _made(lws: Object, owner: Object, kind: str, name: str, tags: dict[str, str], spec: Object) -> Object:
    reference = owner_reference(
        {**owner, "apiVersion": owner.get("apiVersion") or "v1", "kind": owner.get("kind") or "Pod"}
    )
    metadata = {
        "name": name,
        "namespace": lws["metadata"]["namespace"],
        "labels": tags,
        "ownerReferences": [reference],
    }
    version = "apps/v1" if kind == "StatefulSet" else "v1"
    return {"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec}


def service(lws: Object, leader: Object | None = None) -> Object:
    """The headless service of all groups, or of one leader's group."""
    set_name = lws["metadata"]["name"]
    selector = {model.NAME: set_name}
    if leader is not None:
        selector[model.GROUP_INDEX] = labels(leader)[model.GROUP_INDEX]
    spec = {"clusterIP": "None", "selector": selector, "publishNotReadyAddresses": True}
    owner = lws if leader is None else leader
    return _made(lws, owner, "Service", owner["metadata"]["name"], {model.NAME: set_name}, spec)


def revision(lws: Object, name: str, number: int) -> Object:
    """Keeps the template, for groups that have it after it was changed."""
    metadata = lws["metadata"]
    tags = {model.NAME: metadata["name"], model.REVISION: name}
    found = _made(lws, lws, "ControllerRevision", f"{metadata['name']}-{name}", tags, {})
    del found["spec"]
    return {**found, "apiVersion": "apps/v1", "data": {"spec": model.template_of(lws)}, "revision": number}
