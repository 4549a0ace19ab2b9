"""pods/eviction: a delete that a PodDisruptionBudget may refuse (registry/core/pod/storage/eviction.go)."""

from __future__ import annotations

from typing import Any

from atoll.base.clock import rfc3339
from atoll.base.errors import BadRequest, Conflict, ServerError, TooManyRequests
from atoll.cluster.apiserver import problems
from atoll.cluster.apiserver.api import Api
from atoll.cluster.apiserver.ports import Object
from atoll.cluster.apiserver.request import Context, DeleteRequest, delete_options
from atoll.cluster.apiserver.served import Served
from atoll.cluster.apiserver.verbs.commit import put
from atoll.cluster.apiserver.verbs.delete import delete
from atoll.cluster.store.port import Record, StaleVersion
from atoll.kinds.builtin import POD_DISRUPTION_BUDGETS
from atoll.objects.selectors import SelectorError, from_object

_BUDGETS = POD_DISRUPTION_BUDGETS.group_resource
_MOST_DISRUPTED = 2000
_ATTEMPTS = 20
_DISRUPTION_BUDGET = "DisruptionBudget"


async def evict(api: Api, context: Context, served: Served, namespace: str, name: str, eviction: Object) -> Object:
    """A Status of success. Raises NotFound, TooManyRequests (429), Forbidden, ServerError."""
    if (eviction["metadata"].get("name") or "") != name:
        raise BadRequest("name in URL does not match name in Eviction object")
    options, dry_run = delete_options("", eviction.get("deleteOptions") or {"kind": "DeleteOptions"})
    context.dry_run = context.dry_run or dry_run
    for attempt in range(_ATTEMPTS):
        pod = _pod(api, served, namespace, name)
        if not _ignores_budgets(pod.object):
            break
        try:
            return await _delete(api, context, served, pod, options, _is_pending(pod.object))
        except Conflict:
            if options.resource_version is not None or attempt + 1 == _ATTEMPTS:
                raise
    at_version = await _ask_budget(api, context, namespace, pod)
    try:
        return await _delete(api, context, served, pod, options, at_version is not None)
    except Conflict:
        if at_version is not None and options.resource_version is None:
            raise _too_many(at_version) from None
        raise


def _pod(api: Api, served: Served, namespace: str, name: str) -> Record:
    pod = api.store.newest(served.key(namespace, name))
    if pod is None:
        raise problems.not_found(served.resource, name)
    return pod


def _phase(pod: Object) -> str:
    return str((pod.get("status") or {}).get("phase") or "")


def _ignores_budgets(pod: Object) -> bool:
    return _phase(pod) in ("Succeeded", "Failed", "Pending") or "deletionTimestamp" in pod["metadata"]


def _is_pending(pod: Object) -> bool:
    """A delete of a pod that is not terminal must not race with its becoming healthy."""
    return _phase(pod) not in ("Succeeded", "Failed") and "deletionTimestamp" not in pod["metadata"]


def _is_ready(pod: Object) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(item.get("type") == "Ready" and item.get("status") == "True" for item in conditions)


async def _ask_budget(api: Api, context: Context, namespace: str, pod: Record) -> str | None:
    """Charge the budget; the budget's name where the pod, unhealthy, may go uncharged but at this version only."""
    budgets = [item for item in api.store.scan(_BUDGETS, namespace) if _selects(item.object, pod)]
    if len(budgets) > 1:
        raise ServerError(
            "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
            reason="",
        )
    if not budgets:
        return None
    budget = budgets[0]
    if not _is_ready(pod.object) and _may_go_unhealthy(budget.object):
        return budget.key.name
    for _ in range(_ATTEMPTS):
        current = api.store.newest(budget.key)
        if current is None:
            return None
        charged = check_and_decrement(current.object, pod.key.name, rfc3339(api.clock.wall()))
        if context.dry_run:
            return None
        try:
            await put(api, current.key, current.version, charged)
            return None
        except StaleVersion:
            continue
    raise _too_many(budget.key.name)


def _selects(budget: Object, pod: Record) -> bool:
    try:
        return from_object((budget.get("spec") or {}).get("selector")).matches(pod.labels)
    except SelectorError:
        return False


def _may_go_unhealthy(budget: Object) -> bool:
    spec, status = budget.get("spec") or {}, budget.get("status") or {}
    if spec.get("unhealthyPodEvictionPolicy") == "AlwaysAllow":
        return True
    desired = status.get("desiredHealthy") or 0
    return (status.get("currentHealthy") or 0) >= desired > 0


def check_and_decrement(budget: Object, pod_name: str, now: str) -> Object:
    """The budget with one disruption less. Raises TooManyRequests, Forbidden."""
    name = budget["metadata"]["name"]
    status: Object = dict(budget.get("status") or {})
    if (status.get("observedGeneration") or 0) < (budget["metadata"].get("generation") or 0):
        raise _too_many(name)
    allowed = status.get("disruptionsAllowed") or 0
    if allowed < 0:
        raise problems.forbidden(POD_DISRUPTION_BUDGETS, name, "pdb disruptions allowed is negative")
    if len(status.get("disruptedPods") or {}) > _MOST_DISRUPTED:
        why = "DisruptedPods map too big - too many evictions not confirmed by PDB controller"
        raise problems.forbidden(POD_DISRUPTION_BUDGETS, name, why)
    if allowed == 0:
        raise _refused(_why_not(name, status))
    status["disruptionsAllowed"] = allowed - 1
    if allowed == 1:
        status["conditions"] = _no_more_allowed(budget, status, now)
    status["disruptedPods"] = {**(status.get("disruptedPods") or {}), pod_name: now}
    return {**budget, "metadata": dict(budget["metadata"]), "status": status}


def _no_more_allowed(budget: Object, status: Object, now: str) -> list[Any]:
    kept = [item for item in status.get("conditions") or () if item.get("type") != "DisruptionAllowed"]
    condition = {
        "type": "DisruptionAllowed",
        "status": "False",
        "observedGeneration": status.get("observedGeneration") or 0,
        "lastTransitionTime": now,
        "reason": "InsufficientPods",
        "message": "",
    }
    return [*kept, condition]


def _why_not(name: str, status: Object) -> str:
    conditions = status.get("conditions") or ()
    found = next((item for item in conditions if item.get("type") == "DisruptionAllowed"), None)
    is_false = found is not None and found.get("status") == "False" and bool(found.get("message"))
    if is_false and found is not None and found.get("reason") == "SyncFailed":
        return (
            f"The disruption budget {name} does not allow evicting pods currently because it failed sync:"
            f" {found['message']}"
        )
    current, desired = status.get("currentHealthy") or 0, status.get("desiredHealthy") or 0
    if current <= desired:
        return f"The disruption budget {name} needs {desired} healthy pods and has {current} currently"
    if is_false and found is not None:
        reason = found.get("reason", "")
        return f"The disruption budget {name} does not allow evicting pods currently ({reason}): {found['message']}"
    return f"The disruption budget {name} does not allow evicting pods currently"


def _refused(why: str, seconds: int | None = None) -> TooManyRequests:
    details: Object = {"causes": [{"reason": _DISRUPTION_BUDGET, "message": why}]}
    return TooManyRequests(
        "Cannot evict pod as it would violate the pod's disruption budget.",
        details=details,
        retry_after_seconds=seconds,
    )


def _too_many(name: str) -> TooManyRequests:
    return _refused(f"The disruption budget {name} is still being processed by the server.", 10)


async def _delete(
    api: Api, context: Context, served: Served, pod: Record, options: DeleteRequest, at_version: bool
) -> Object:
    """Note the disruption in the pod's conditions, then delete it."""
    version = options.resource_version or (str(pod.version) if at_version else None)
    if not context.dry_run:
        for _ in range(_ATTEMPTS):
            current = api.store.newest(pod.key)
            if current is None:
                raise problems.not_found(served.resource, pod.key.name)
            if version is not None and version != str(current.version):
                raise problems.kind_conflict(
                    served.resource,
                    pod.key.name,
                    f"the ResourceVersion in the precondition ({version}) does not match the ResourceVersion in record"
                    f" ({current.version}). The object might have been modified",
                )
            try:
                marked = await put(api, pod.key, current.version, _marked(current.object, rfc3339(api.clock.wall())))
            except StaleVersion:
                continue
            version = str(marked.version) if version is not None else None
            break
    wanted = DeleteRequest(
        options.grace_period_seconds, options.propagation, options.orphan_dependents, options.uid, version
    )
    await delete(api, context, served, pod.key.namespace, pod.key.name, wanted, admitted=True)
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}


def _marked(pod: Object, now: str) -> Object:
    status = dict(pod.get("status") or {})
    kept = [item for item in status.get("conditions") or () if item.get("type") != "DisruptionTarget"]
    condition = {
        "type": "DisruptionTarget",
        "status": "True",
        "lastProbeTime": None,
        "lastTransitionTime": now,
        "reason": "EvictionByEvictionAPI",
        "message": "Eviction API: evicting",
    }
    return {**pod, "metadata": dict(pod["metadata"]), "status": {**status, "conditions": [*kept, condition]}}
