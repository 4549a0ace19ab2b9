"""What admission does to a pod: service account and its token, priority, default tolerations, runtime class."""

from __future__ import annotations

from typing import Any

from atoll.base.chance import Chance
from atoll.base.names import PROCESS_LABEL
from atoll.cluster.apiserver.admission.errors import forbidden
from atoll.cluster.apiserver.ports import AdmissionRequest, User
from atoll.cluster.store.port import Key, Store

Object = dict[str, Any]
_PODS = frozenset(("pods",))
_TOKEN_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"
_TOKEN_SECONDS = 3607
_TOKEN_VOLUME = "kube-api-access-"
_DRAWN_AT_ONCE = 64
_MIRROR = "kubernetes.io/config.mirror"


def _is_pod_create(request: AdmissionRequest) -> bool:
    return request.operation == "CREATE" and not request.subresource and request.obj is not None


class ServiceAccounts:
    """Every pod has a service account that exists; its token is mounted unless told otherwise."""

    resources = _PODS

    def __init__(self, store: Store, chance: Chance) -> None:
        self._store = store
        self._chance = chance  # its only use is the names of volumes, so that they can be drawn in advance
        self._drawn: list[str] = []

    def depends_on(self, user: User) -> tuple[str, ...]:
        return ("serviceaccounts",)

    def mutate(self, request: AdmissionRequest) -> None:
        if not _is_pod_create(request):
            return
        assert request.obj is not None
        spec = request.obj["spec"]
        if _MIRROR in (request.obj["metadata"].get("annotations") or {}):
            if spec.get("serviceAccountName"):
                raise forbidden(request, "a mirror pod may not reference service accounts")
            return
        name = spec.get("serviceAccountName") or "default"
        spec["serviceAccountName"] = spec["serviceAccount"] = name
        record = self._store.get(Key("serviceaccounts", request.namespace, name))
        if record is None:
            raise forbidden(
                request,
                f'error looking up service account {request.namespace}/{name}: serviceaccount "{name}" not found',
            )
        account = record.object
        wanted = spec.get("automountServiceAccountToken", account.get("automountServiceAccountToken", True))
        if wanted:
            self._mount_token(spec)
        if not spec.get("imagePullSecrets") and account.get("imagePullSecrets"):
            spec["imagePullSecrets"] = [{"name": item["name"]} for item in account["imagePullSecrets"]]

    def drawn(self, obj: Object) -> str:
        """The name of the token's volume."""
        volumes = obj["spec"].get("volumes") or ()
        return next((volume["name"] for volume in volumes if volume["name"].startswith(_TOKEN_VOLUME)), "")

    def draw(self) -> str:
        if not self._drawn:
            self._drawn = self._chance.name_suffixes(_DRAWN_AT_ONCE)[::-1]
        return _TOKEN_VOLUME + self._drawn.pop()

    def _mount_token(self, spec: Object) -> None:
        volumes = spec.get("volumes") or ()
        existing = next((v["name"] for v in volumes if v.get("name", "").startswith(_TOKEN_VOLUME)), None)
        volume = existing or self.draw()
        used = False
        for container in [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]:
            mounts = container.get("volumeMounts") or []
            if all(mount.get("mountPath") != _TOKEN_PATH for mount in mounts):
                container["volumeMounts"] = [*mounts, {"name": volume, "readOnly": True, "mountPath": _TOKEN_PATH}]
                used = True
        if used and not existing:
            spec["volumes"] = [*volumes, {"name": volume, "projected": _token_sources()}]


def _token_sources() -> Object:
    field = {"apiVersion": "v1", "fieldPath": "metadata.namespace"}
    return {
        "sources": [
            {"serviceAccountToken": {"expirationSeconds": _TOKEN_SECONDS, "path": "token"}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": field}]}},
        ],
        "defaultMode": 420,
    }


_POD_GROUPS = frozenset(("podgroups.scheduling.k8s.io", "workloads.scheduling.k8s.io"))


class Priority:
    """priorityClassName → priority and preemptionPolicy; the global default where none is named.

    Of pods, and of PodGroups and Workloads of `scheduling.k8s.io` (priority alone).
    """

    resources = frozenset(("pods", "priorityclasses.scheduling.k8s.io")) | _POD_GROUPS

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: tuple[int, Object | None] = (-1, None)  # the default as of a change of the classes

    def depends_on(self, user: User) -> tuple[str, ...]:
        return ("priorityclasses.scheduling.k8s.io",)

    def mutate(self, request: AdmissionRequest) -> None:
        if request.subresource or request.obj is None:
            return
        if request.resource.group_resource in _POD_GROUPS:
            self._admit_groups(request, request.obj.get("spec") or {})
        if request.resource.plural != "pods":
            return
        spec = request.obj["spec"]
        if request.operation == "UPDATE" and request.old is not None:
            for field in ("priority", "preemptionPolicy"):
                if spec.get(field) is None and request.old["spec"].get(field) is not None:
                    spec[field] = request.old["spec"][field]
        elif request.operation == "CREATE":
            self._admit(request, spec)

    def _class(self, request: AdmissionRequest, spec: Object) -> Object | None:
        """The class that a spec names; else the default, which is written into it."""
        name = spec.get("priorityClassName")
        if name:
            record = self._store.get(Key("priorityclasses.scheduling.k8s.io", "", name))
            if record is None:
                raise forbidden(request, f"no PriorityClass with name {name} was found")
            return record.object
        found = self._default()
        if found is not None:
            spec["priorityClassName"] = found["metadata"]["name"]
        return found

    def _admit_groups(self, request: AdmissionRequest, spec: Object) -> None:
        old = ((request.old or {}).get("spec") or {}) if request.operation == "UPDATE" else {}
        known = {item.get("name"): item for item in old.get("podGroupTemplates") or (old,)}
        for group in spec.get("podGroupTemplates") or () if "podGroupTemplates" in spec else (spec,):
            if request.operation == "CREATE":
                self._admit_group(request, group)
            elif request.operation == "UPDATE":
                for field in ("priority", "priorityClassName"):
                    if group.get(field) is None and (was := known.get(group.get("name"), {}).get(field)) is not None:
                        group[field] = was

    def _admit_group(self, request: AdmissionRequest, group: Object) -> None:
        found = self._class(request, group)
        value = found["value"] if found else 0
        if group.get("priority") is not None and group["priority"] != value:
            raise forbidden(
                request,
                f"the integer value of priority ({group['priority']}) must not be provided in pod group spec; priority "
                f"admission controller computed {value} from the given PriorityClass name",
            )
        group["priority"] = value

    def _admit(self, request: AdmissionRequest, spec: Object) -> None:
        found = self._class(request, spec)
        value = found["value"] if found else 0
        policy = (found.get("preemptionPolicy") if found else None) or "PreemptLowerPriority"
        if spec.get("priority") is not None and spec["priority"] != value:
            raise forbidden(
                request,
                f"the integer value of priority ({spec['priority']}) must not be provided in pod spec; priority "
                f"admission controller computed {value} from the given PriorityClass name",
            )
        if spec.get("preemptionPolicy") and spec["preemptionPolicy"] != policy:
            raise forbidden(
                request,
                f"the string value of PreemptionPolicy ({spec['preemptionPolicy']}) must not be provided in pod spec; "
                f"priority admission controller computed {policy} from the given PriorityClass name",
            )
        spec["priority"], spec["preemptionPolicy"] = value, policy

    def _default(self) -> Object | None:
        changed = self._store.last_change("priorityclasses.scheduling.k8s.io")
        if self._known[0] != changed:
            records = self._store.scan("priorityclasses.scheduling.k8s.io")
            defaults = [record.object for record in records if record.object.get("globalDefault")]
            self._known = changed, min(defaults, key=lambda item: int(item["value"]), default=None)
        return self._known[1]

    def validate(self, request: AdmissionRequest) -> None:
        if request.resource.plural != "priorityclasses" or request.obj is None or request.operation == "DELETE":
            return
        if request.obj.get("globalDefault"):
            current = self._default()
            if current is not None and current["metadata"]["name"] != request.name:
                name = current["metadata"]["name"]
                raise forbidden(
                    request, f"PriorityClass {name} is already marked as default. Only one default can exist"
                )


class DefaultTolerationSeconds:
    """A pod stays 300 s on a node that is not ready or unreachable, unless it says otherwise."""

    resources = _PODS

    def depends_on(self, user: User) -> tuple[str, ...]:
        return ()

    def mutate(self, request: AdmissionRequest) -> None:
        if request.operation == "DELETE" or request.subresource or request.obj is None:
            return
        spec = request.obj["spec"]
        tolerations = spec.get("tolerations") or []
        added = []
        for key in ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"):
            if not any(
                t.get("key") in (key, None, "") and t.get("effect") in ("NoExecute", None, "") for t in tolerations
            ):
                added.append({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300})
        if added:
            spec["tolerations"] = [*tolerations, *added]


class ProcessNodes:
    """In a fleet, process nodes are tainted so that pods go to simulated ones; a pod that selects the process
    label means to run there, and gets the toleration."""

    resources = _PODS

    def depends_on(self, user: User) -> tuple[str, ...]:
        return ()

    def mutate(self, request: AdmissionRequest) -> None:
        if not _is_pod_create(request):
            return
        assert request.obj is not None
        spec = request.obj["spec"]
        if (spec.get("nodeSelector") or {}).get(PROCESS_LABEL) != "true" and not _requires_process(spec):
            return
        tolerations = spec.get("tolerations") or []
        if not any(t.get("key") == PROCESS_LABEL for t in tolerations):
            spec["tolerations"] = [*tolerations, {"key": PROCESS_LABEL, "operator": "Exists", "effect": "NoSchedule"}]


def _requires_process(spec: Object) -> bool:
    required = ((spec.get("affinity") or {}).get("nodeAffinity") or {}).get(
        "requiredDuringSchedulingIgnoredDuringExecution"
    ) or {}
    terms = required.get("nodeSelectorTerms") or []
    return bool(terms) and all(
        any(
            e.get("key") == PROCESS_LABEL and e.get("operator") in ("In", "Exists")
            for e in t.get("matchExpressions") or ()
        )
        for t in terms
    )


class RuntimeClasses:
    """runtimeClassName → overhead, node selector and tolerations of the RuntimeClass."""

    resources = _PODS

    def __init__(self, store: Store) -> None:
        self._store = store

    def depends_on(self, user: User) -> tuple[str, ...]:
        return ("runtimeclasses.node.k8s.io",)

    def mutate(self, request: AdmissionRequest) -> None:
        if not _is_pod_create(request):
            return
        assert request.obj is not None
        spec = request.obj["spec"]
        name = spec.get("runtimeClassName")
        if not name:
            if spec.get("overhead"):
                raise forbidden(
                    request, "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"
                )
            return
        record = self._store.get(Key("runtimeclasses.node.k8s.io", "", name))
        if record is None:
            raise forbidden(request, f'pod rejected: RuntimeClass "{name}" not found')
        runtime = record.object
        fixed = (runtime.get("overhead") or {}).get("podFixed")
        if fixed:
            if spec.get("overhead") and spec["overhead"] != fixed:
                raise forbidden(request, "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead")
            spec["overhead"] = dict(fixed)
        scheduling = runtime.get("scheduling") or {}
        if scheduling.get("nodeSelector"):
            selector = spec.get("nodeSelector") or {}
            for key, value in scheduling["nodeSelector"].items():
                if selector.get(key, value) != value:
                    ours, theirs = f"runtimeClass.scheduling.nodeSelector[{key}] = {value}", selector[key]
                    raise forbidden(request, f"conflict: {ours}; pod.spec.nodeSelector[{key}] = {theirs}")
            spec["nodeSelector"] = {**(spec.get("nodeSelector") or {}), **scheduling["nodeSelector"]}
        for toleration in scheduling.get("tolerations") or ():
            if toleration not in (spec.get("tolerations") or []):
                spec["tolerations"] = [*(spec.get("tolerations") or ()), toleration]
