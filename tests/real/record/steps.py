"""Little language in which scenarios are written; it only makes data (see tests/differential/exchange.py)."""

from __future__ import annotations

from typing import Any

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"

_CORE = {
    "pods": 1, "services": 1, "configmaps": 1, "secrets": 1, "endpoints": 1, "serviceaccounts": 1, "events": 1,
    "persistentvolumeclaims": 1, "resourcequotas": 1, "limitranges": 1, "replicationcontrollers": 1,
    "podtemplates": 1, "namespaces": 0, "nodes": 0, "persistentvolumes": 0,
}  # fmt: skip
_GROUPS = {
    "apps/v1": {"deployments": 1, "replicasets": 1, "statefulsets": 1, "daemonsets": 1, "controllerrevisions": 1},
    "batch/v1": {"jobs": 1, "cronjobs": 1},
    "autoscaling/v2": {"horizontalpodautoscalers": 1},
    "policy/v1": {"poddisruptionbudgets": 1},
    "coordination.k8s.io/v1": {"leases": 1},
    "discovery.k8s.io/v1": {"endpointslices": 1},
    "networking.k8s.io/v1": {"ingresses": 1, "networkpolicies": 1, "ingressclasses": 0},
    "rbac.authorization.k8s.io/v1": {"roles": 1, "rolebindings": 1, "clusterroles": 0, "clusterrolebindings": 0},
    "storage.k8s.io/v1": {"storageclasses": 0, "volumeattachments": 0, "csinodes": 0, "csidrivers": 0},
    "scheduling.k8s.io/v1": {"priorityclasses": 0},
    "node.k8s.io/v1": {"runtimeclasses": 0},
    "certificates.k8s.io/v1": {"certificatesigningrequests": 0},
    "apiextensions.k8s.io/v1": {"customresourcedefinitions": 0},
    "admissionregistration.k8s.io/v1": {
        "mutatingwebhookconfigurations": 0, "validatingwebhookconfigurations": 0,
        "validatingadmissionpolicies": 0, "validatingadmissionpolicybindings": 0,
        "mutatingadmissionpolicies": 0, "mutatingadmissionpolicybindings": 0,
    },
    "flowcontrol.apiserver.k8s.io/v1": {"flowschemas": 0, "prioritylevelconfigurations": 0},
    "apiregistration.k8s.io/v1": {"apiservices": 0},
    "events.k8s.io/v1": {"events.events": 1},
    "resource.k8s.io/v1": {
        "deviceclasses": 0, "resourceclaims": 1, "resourceclaimtemplates": 1, "resourceslices": 0,
    },
}  # fmt: skip


class Scenario:
    """Steps in one namespace named after the scenario, which is made first with its default service account."""

    def __init__(self, name: str, *, namespace: bool = True, previews: bool = False) -> None:
        """`previews`: against a server with what 1.36 has of devices but leaves off by default."""
        self.name = name
        self.previews = previews
        self.namespace = name
        self.steps: list[dict[str, Any]] = []
        if namespace:
            self.create("namespaces", {"metadata": {"name": name}}, id="namespace")
            account = {"metadata": {"name": "default"}}
            self.create("serviceaccounts", account, id="default-service-account")

    def path(self, resource: str, name: str | None = None, sub: str | None = None, namespace: str | None = None) -> str:
        plural = resource.partition(".")[0] if resource.endswith(".events") else resource
        if resource in _CORE:
            root, namespaced = "/api/v1", _CORE[resource]
        elif "/" in resource:  # group/version/plural, namespaced; with a ! cluster-scoped
            root, _, plural = resource.rpartition("/")
            root, namespaced = f"/apis/{root}", not plural.endswith("!")
            plural = plural.rstrip("!")
        else:
            root, namespaced = next(
                (f"/apis/{version}", found[resource]) for version, found in _GROUPS.items() if resource in found
            )
        path = root
        if namespaced:
            path += f"/namespaces/{namespace or self.namespace}"
        path += f"/{plural}"
        if name:
            path += f"/{name}"
        return f"{path}/{sub}" if sub else path

    def raw(self, id: str, method: str, path: str, **options: Any) -> None:
        """Any request: body, raw (text), type, accept, query, headers, user, groups, save."""
        request: dict[str, Any] = {"method": method, "path": path}
        headers = dict(options.pop("headers", {}))
        if "query" in options:
            request["path"] += "?" + options.pop("query")
        for option in ("body", "raw"):
            if option in options:
                request[option] = options.pop(option)
                headers.setdefault("Content-Type", "application/json")
        if "type" in options:
            headers["Content-Type"] = options.pop("type")
        headers["Accept"] = options.pop("accept", "application/json")
        if "user" in options:
            headers["Impersonate-User"] = options.pop("user")
        if "groups" in options:
            headers["Impersonate-Group"] = options.pop("groups")
        request["headers"] = headers
        step: dict[str, Any] = {"id": f"{self.name}/{id}", "request": request}
        if "save" in options:
            step["save"] = options.pop("save")
        settle = options.pop("settle", False)  # True, or the text to wait for
        if settle:
            step["settle"] = settle
        if options:
            raise TypeError(f"unknown options {options}")
        if any(other["id"] == step["id"] for other in self.steps):
            raise ValueError(f"two steps named {step['id']}")
        self.steps.append(step)

    def create(self, resource: str, obj: Any, id: str | None = None, **options: Any) -> None:
        sub, namespace = options.pop("sub", None), options.pop("namespace", None)
        name = obj.get("metadata", {}).get("name") if isinstance(obj, dict) else None
        path = self.path(resource, options.pop("under", None), sub, namespace)
        if "kind" not in options:
            obj = _typed(resource, obj)
        options.pop("kind", None)
        self.raw(id or f"create-{resource}-{name}", "POST", path, body=obj, **options)

    def get(self, resource: str, name: str | None = None, id: str | None = None, **options: Any) -> None:
        path = self.path(resource, name, options.pop("sub", None), options.pop("namespace", None))
        self.raw(id or f"get-{resource}-{name}", "GET", path, **options)

    def update(self, resource: str, name: str, body: Any, id: str, **options: Any) -> None:
        path = self.path(resource, name, options.pop("sub", None), options.pop("namespace", None))
        if isinstance(body, dict) and "$from" not in body:
            body = _typed(resource, body)
        self.raw(id, "PUT", path, body=body, **options)

    def patch(self, resource: str, name: str, body: Any, id: str, **options: Any) -> None:
        path = self.path(resource, name, options.pop("sub", None), options.pop("namespace", None))
        options.setdefault("type", MERGE_PATCH)
        self.raw(id, "PATCH", path, body=body, **options)

    def apply(self, resource: str, name: str, obj: Any, id: str, manager: str = "tester", **options: Any) -> None:
        query = options.pop("query", "")
        query = f"fieldManager={manager}" + (f"&{query}" if query else "")
        body = _typed(resource, obj)
        self.patch(resource, name, body, id, type=APPLY_PATCH, query=query, **options)

    def delete(self, resource: str, name: str, id: str | None = None, **options: Any) -> None:
        path = self.path(resource, name, options.pop("sub", None), options.pop("namespace", None))
        self.raw(id or f"delete-{resource}-{name}", "DELETE", path, **options)


_KINDS = {
    "endpoints": "Endpoints", "ingresses": "Ingress", "networkpolicies": "NetworkPolicy",
    "storageclasses": "StorageClass", "priorityclasses": "PriorityClass", "runtimeclasses": "RuntimeClass",
    "ingressclasses": "IngressClass", "events.events": "Event", "limitranges": "LimitRange",
    "deviceclasses": "DeviceClass",
}  # fmt: skip
_WORDS = (
    "Pod", "Service", "ConfigMap", "Secret", "ServiceAccount", "Event", "PersistentVolumeClaim", "ResourceQuota",
    "ReplicationController", "PodTemplate", "Namespace", "Node", "PersistentVolume", "Deployment", "ReplicaSet",
    "StatefulSet", "DaemonSet", "ControllerRevision", "Job", "CronJob", "HorizontalPodAutoscaler",
    "PodDisruptionBudget", "Lease", "EndpointSlice", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding",
    "VolumeAttachment", "CSINode", "CSIDriver", "CertificateSigningRequest", "CustomResourceDefinition",
    "MutatingWebhookConfiguration", "ValidatingWebhookConfiguration", "ValidatingAdmissionPolicyBinding",
    "FlowSchema", "PriorityLevelConfiguration", "APIService", "ResourceClaim", "ResourceClaimTemplate",
    "ResourceSlice",
)  # fmt: skip
for _word in _WORDS:
    _KINDS.setdefault(_word.lower() + "s", _word)
_KINDS["validatingadmissionpolicies"] = "ValidatingAdmissionPolicy"


def _typed(resource: str, obj: Any) -> Any:
    if not isinstance(obj, dict) or "kind" in obj or resource not in _KINDS:
        return obj
    version = "v1" if resource in _CORE else next(v for v, found in _GROUPS.items() if resource in found)
    return {"apiVersion": version, "kind": _KINDS[resource], **obj}


def pod_spec(**fields: Any) -> dict[str, Any]:
    return {"containers": [{"name": "main", "image": "nginx:1.27"}], **fields}


def pod(name: str, labels: dict[str, str] | None = None, **fields: Any) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": name}
    if labels:
        metadata["labels"] = labels
    return {"metadata": metadata, "spec": pod_spec(**fields)}


def template(app: str, **fields: Any) -> dict[str, Any]:
    return {"metadata": {"labels": {"app": app}}, "spec": pod_spec(**fields)}


def deployment(name: str, **fields: Any) -> dict[str, Any]:
    spec = {"selector": {"matchLabels": {"app": name}}, "template": template(name), **fields}
    return {"metadata": {"name": name}, "spec": spec}
