"""The PodSecurity plugin: pods are refused, pods and their controllers warned of, namespaces' labels checked.

A namespace without labels costs one look at it.
"""

from __future__ import annotations

from atoll.cluster.apiserver.admission.errors import forbidden
from atoll.cluster.apiserver.admission.pod_security import standards
from atoll.cluster.apiserver.admission.pod_security.checks import Problem
from atoll.cluster.apiserver.admission.pod_security.levels import NOTHING, PREFIX, Level, Levels, levels_of
from atoll.cluster.apiserver.ports import AdmissionRequest, Object, User
from atoll.cluster.apiserver.problems import invalid
from atoll.cluster.store.port import Key, Store

_TEMPLATES: dict[str, tuple[str, ...]] = {
    "podtemplates": ("template",),
    "replicationcontrollers": ("spec", "template"),
    "replicasets.apps": ("spec", "template"),
    "deployments.apps": ("spec", "template"),
    "statefulsets.apps": ("spec", "template"),
    "daemonsets.apps": ("spec", "template"),
    "jobs.batch": ("spec", "template"),
    "cronjobs.batch": ("spec", "jobTemplate", "spec", "template"),
}
_IGNORED = frozenset(
    {"exec", "attach", "binding", "eviction", "log", "portforward", "proxy", "status"}  # they do not change the spec
)
_MOST_PODS = 3000


class PodSecurity:
    resources = frozenset({"pods", "namespaces", *_TEMPLATES})

    def __init__(self, store: Store) -> None:
        self._store = store

    def depends_on(self, user: User) -> tuple[str, ...]:
        return ("namespaces",)

    def validate(self, request: AdmissionRequest) -> None:
        if request.operation not in ("CREATE", "UPDATE") or request.obj is None:
            return
        name = request.resource.group_resource
        if name == "namespaces":
            self._namespace(request, request.obj)
            return
        levels = self._levels(request.namespace)
        if levels is NOTHING or (levels.privileged and not levels.errors):
            return
        if name == "pods":
            self._pod(request, request.obj, levels)
        elif not request.subresource and not (levels.warn.level == levels.audit.level == "privileged"):
            template: Object | None = request.obj
            for step in _TEMPLATES[name]:
                template = (template or {}).get(step)
            if template:
                _evaluate(request, levels, template.get("metadata") or {}, template.get("spec") or {}, enforce=False)

    def _levels(self, namespace: str) -> Levels:
        record = self._store.newest(Key("namespaces", "", namespace))
        return levels_of(record.labels if record is not None else {})

    def _pod(self, request: AdmissionRequest, pod: Object, levels: Levels) -> None:
        if request.subresource in _IGNORED:
            return
        if request.operation == "UPDATE" and not _is_significant(pod["spec"], (request.old or {}).get("spec") or {}):
            return
        _evaluate(request, levels, pod["metadata"], pod["spec"], enforce=True)

    def _namespace(self, request: AdmissionRequest, namespace: Object) -> None:
        if request.subresource:
            return
        new = levels_of((namespace["metadata"].get("labels")) or {})
        old = levels_of(((request.old or {}).get("metadata") or {}).get("labels") or {})
        if new.errors and (request.operation == "CREATE" or new.errors != old.errors):
            raise invalid("", "Namespace", request.name, new.errors)
        same = new.enforce == old.enforce or new.enforce.level == "privileged"
        if request.operation == "CREATE" or same:
            return
        if new.enforce.minor == old.enforce.minor and not new.enforce.stricter_than(old.enforce):
            return
        for text in self._standing(request.name, new.enforce):
            request.warnings.append(text)

    def _standing(self, namespace: str, enforce: Level) -> list[str]:
        """Warnings of the pods that the new level would not let in."""
        pods = _prioritised([record.object for record in self._store.scan("pods", namespace)])
        found: dict[str, list[str]] = {}
        for pod in pods[:_MOST_PODS]:
            problems = standards.problems_of(enforce.level, enforce.minor, pod["metadata"], pod["spec"])
            if problems:
                found.setdefault(standards.reasons(problems), []).append(pod["metadata"]["name"])
        warnings = []
        if len(pods) > _MOST_PODS:
            counted = f"the first {_MOST_PODS} of {len(pods)} existing pods"
            warnings.append(f"new PodSecurity enforce level only checked against {counted}")
        if found:
            level = f'the new PodSecurity enforce level "{enforce}"'
            warnings.append(f'existing pods in namespace "{namespace}" violate {level}')
        return warnings + sorted(f"{_these(names)}: {why}" for why, names in found.items())


def _these(names: list[str]) -> str:
    others = len(names) - 1
    more = f" (and {others} other {'pod' if others == 1 else 'pods'})" if others else ""
    return min(names) + more


def _prioritised(pods: list[Object]) -> list[Object]:
    """One of each controller first."""
    first: list[Object] = []
    others: list[Object] = []
    seen: set[str] = set()
    for pod in pods:
        owners = pod["metadata"].get("ownerReferences") or ()
        owner = next((item["uid"] for item in owners if item.get("controller")), None)
        (others if owner in seen else first).append(pod)
        if owner is not None:
            seen.add(owner)
    return first + others


def _evaluate(request: AdmissionRequest, levels: Levels, metadata: Object, spec: Object, *, enforce: bool) -> None:
    """Raises Forbidden where `enforce` and the enforced level says no."""
    found: dict[Level, list[Problem]] = {}

    def problems(level: Level) -> list[Problem]:
        if level not in found:
            found[level] = standards.problems_of(level.level, level.minor, metadata, spec)
        return found[level]

    if levels.errors:
        listed = ", ".join(f"{cause.field}: {cause.message}" for cause in levels.errors)
        told = f"[{listed}]" if len(levels.errors) > 1 else listed
        request.annotate(PREFIX + "error", f"Failed to parse policy: {told}")
    if enforce:
        request.annotate(PREFIX + "enforce-policy", str(levels.enforce))
    if audited := problems(levels.audit):
        why = f'would violate PodSecurity "{levels.audit}": {standards.detail(audited)}'
        request.annotate(PREFIX + "audit-violations", why)
    if enforce and (denied := problems(levels.enforce)):
        raise forbidden(request, f'violates PodSecurity "{levels.enforce}": {standards.detail(denied)}')
    if warned := problems(levels.warn):
        request.warnings.append(f'would violate PodSecurity "{levels.warn}": {standards.detail(warned)}')


def _is_significant(new: Object, old: Object) -> bool:
    """Whether a pod's update could change what the checks say: new containers or images."""
    for field in ("containers", "initContainers"):
        ours, theirs = new.get(field) or (), old.get(field) or ()
        if len(ours) != len(theirs):
            return True
        if any(a.get("image") != b.get("image") for a, b in zip(ours, theirs, strict=True)):
            return True
    before = {item.get("name"): item for item in old.get("ephemeralContainers") or ()}
    return any(
        item.get("name") not in before or item.get("image") != before[item["name"]].get("image")
        for item in new.get("ephemeralContainers") or ()
    )
