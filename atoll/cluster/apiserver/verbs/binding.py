"""pods/binding: gives a pod its node, once (registry/core/pod/storage/storage.go)."""

from __future__ import annotations

from atoll.base.clock import rfc3339
from atoll.base.errors import BadRequest, Conflict, ServerError
from atoll.cluster.apiserver import problems
from atoll.cluster.apiserver.api import Api
from atoll.cluster.apiserver.ports import AdmissionRequest, Object
from atoll.cluster.apiserver.request import Context
from atoll.cluster.apiserver.served import Served
from atoll.cluster.apiserver.verbs.commit import put, repeat, settle
from atoll.cluster.store.port import StaleVersion

_ATTEMPTS = 64


async def bind(api: Api, context: Context, served: Served, namespace: str, name: str, binding: Object) -> Object:
    """A Status of success. Raises NotFound, Conflict, ServerError (a malformed target, as upstream)."""
    metadata = binding["metadata"]
    if (metadata.get("name") or "") != name:
        raise BadRequest("name in URL does not match name in Binding object")
    target = binding.get("target") or {}
    _check_target(target)
    request = AdmissionRequest(
        "CREATE", served.resource, "binding", namespace, name, binding, None, context.user,
        context.dry_run, context.operation_options(), context.warnings, "Binding", context.annotations,
    )  # fmt: skip
    await api.hooks.admission.mutate(request)
    await api.hooks.admission.validate(request)
    key = served.key(namespace, name)
    for _ in range(_ATTEMPTS):
        current = api.store.newest(key)
        if current is None:
            raise problems.not_found(served.resource, name)
        now = rfc3339(api.clock.wall())
        change = api.recasts.binding(context, current, target["name"], metadata, now)
        if change is not None and change.recast is not None:
            if await repeat(api, change, change.recast) is not None:
                break
            continue
        pod = current.object
        try:
            _check_pod(pod, name, metadata, current.uid, str(current.version))
        except Conflict:
            await settle(api, key)
            raise
        if context.dry_run:
            break
        try:
            record = await put(api, key, current.version, _bound(pod, target["name"], metadata, now))
            if change is not None:
                api.recasts.learn(context, change, record)
            break
        except StaleVersion:
            continue
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}


def _check_target(target: Object) -> None:
    kind = target.get("kind") or ""
    if kind not in ("", "Node"):
        raise ServerError(f'target.kind: Unsupported value: "{kind}": supported values: "Node", "<empty>"', reason="")
    if not target.get("name"):
        raise ServerError("target.name: Required value", reason="")


def _conflict(name: str, why: str) -> Conflict:
    return Conflict(
        f'Operation cannot be fulfilled on pods/binding "{name}": {why}',
        details={"name": name, "kind": "pods/binding"},
    )


def _check_pod(pod: Object, name: str, wanted: Object, uid: str, version: str) -> None:
    asked_uid, asked_version = wanted.get("uid"), wanted.get("resourceVersion")
    if asked_uid and asked_uid != uid:
        raise _conflict(name, f"Precondition failed: UID in precondition: {asked_uid}, UID in object meta: {uid}")
    if asked_version and asked_version != version:
        why = f"Precondition failed: ResourceVersion in precondition: {asked_version}, ResourceVersion in object meta: "
        raise _conflict(name, why + version)
    spec = pod.get("spec") or {}
    if "deletionTimestamp" in pod["metadata"]:
        raise _conflict(name, f"pod {name} is being deleted, cannot be assigned to a host")
    if spec.get("nodeName"):
        raise _conflict(name, f'pod {name} is already assigned to node "{spec["nodeName"]}"')
    if spec.get("schedulingGates"):
        raise _conflict(name, f"pod {name} has non-empty .spec.schedulingGates")


def _bound(pod: Object, node: str, binding: Object, now: str) -> Object:
    """A copy along what changes: node, annotations and labels of the binding, the PodScheduled condition."""
    metadata = dict(pod["metadata"])
    for field in ("annotations", "labels"):
        added = binding.get(field)
        if added:
            metadata[field] = {**(metadata.get(field) or {}), **added}
    status = dict(pod.get("status") or {})
    status.pop("nominatedNodeName", None)
    kept = [item for item in status.get("conditions") or () if item.get("type") != "PodScheduled"]
    scheduled: Object = {"type": "PodScheduled", "status": "True", "lastProbeTime": None, "lastTransitionTime": now}
    status["conditions"] = [*kept, scheduled]
    return {**pod, "metadata": metadata, "spec": {**pod["spec"], "nodeName": node}, "status": status}
