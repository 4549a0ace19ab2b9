"""Every kind through every verb: create, no-op update, label by each patch, apply, status, table, delete."""

from steps import JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH, Scenario, pod_spec, template

_SELECTED = {"selector": {"matchLabels": {"app": "e"}}, "template": template("e")}
_NEVER = {"template": {"spec": pod_spec(restartPolicy="Never")}}
_RULE = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]
_CLAIM = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
_TARGET = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "x"}

NAMESPACED = {
    "pods": {"spec": pod_spec()},
    "podtemplates": {"template": template("e")},
    "replicationcontrollers": {"spec": {"template": template("e"), "replicas": 0}},
    "services": {"spec": {"ports": [{"port": 80}]}},
    "endpoints": {"subsets": []},
    "configmaps": {"data": {"a": "b"}},
    "secrets": {"stringData": {"a": "b"}},
    "serviceaccounts": {},
    "events": {"involvedObject": {"namespace": "every"}, "reason": "R", "message": "m"},
    "persistentvolumeclaims": {"spec": _CLAIM},
    "resourcequotas": {"spec": {"hard": {"count/widgets.example.com": "10"}}},
    "limitranges": {"spec": {"limits": [{"type": "Pod", "max": {"cpu": "10"}}]}},
    "deployments": {"spec": {**_SELECTED, "replicas": 0}},
    "replicasets": {"spec": {**_SELECTED, "replicas": 0}},
    "statefulsets": {"spec": {**_SELECTED, "replicas": 0}},
    "daemonsets": {"spec": _SELECTED},
    "controllerrevisions": {"revision": 1, "data": {}},
    "jobs": {"spec": {**_NEVER, "suspend": True}},
    "cronjobs": {"spec": {"schedule": "@daily", "jobTemplate": {"spec": _NEVER}}},
    "horizontalpodautoscalers": {"spec": {"scaleTargetRef": _TARGET, "maxReplicas": 2}},
    "poddisruptionbudgets": {"spec": {"minAvailable": 1, "selector": {"matchLabels": {"a": "b"}}}},
    "leases": {"spec": {"holderIdentity": "me"}},
    "endpointslices": {"addressType": "IPv4", "endpoints": []},
    "ingresses": {"spec": {"defaultBackend": {"service": {"name": "s", "port": {"number": 80}}}}},
    "networkpolicies": {"spec": {"podSelector": {}}},
    "roles": {"rules": _RULE},
    "rolebindings": {"roleRef": {"kind": "Role", "name": "e", "apiGroup": "rbac.authorization.k8s.io"}},
}
CLUSTER = {
    "namespaces": {},
    "nodes": {},
    "persistentvolumes": {
        "spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/x"}}
    },
    "storageclasses": {"provisioner": "example.com/p"},
    "priorityclasses": {"value": 5},
    "runtimeclasses": {"handler": "runc"},
    "ingressclasses": {"spec": {"controller": "example.com/c"}},
    "csidrivers": {"spec": {}},
    "csinodes": {"spec": {"drivers": []}},
    "volumeattachments": {"spec": {"attacher": "a", "nodeName": "n", "source": {"persistentVolumeName": "p"}}},
    "clusterroles": {"rules": _RULE},
    "clusterrolebindings": {"roleRef": {"kind": "ClusterRole", "name": "e", "apiGroup": "rbac.authorization.k8s.io"}},
    "validatingwebhookconfigurations": {},
    "prioritylevelconfigurations": {"spec": {"type": "Limited", "limited": {"limitResponse": {"type": "Reject"}}}},
}
_STATUS = (
    "pods",
    "services",
    "persistentvolumeclaims",
    "resourcequotas",
    "deployments",
    "replicasets",
    "statefulsets",
    "daemonsets",
    "jobs",
    "cronjobs",
    "horizontalpodautoscalers",
    "poddisruptionbudgets",
    "ingresses",
    "nodes",
    "namespaces",
    "persistentvolumes",
)

every = Scenario("every")
for resource, body in {**NAMESPACED, **CLUSTER}.items():
    name = "e" if resource in NAMESPACED else f"every-{resource}"
    label = {"metadata": {"labels": {"by": "merge"}}}
    add = [{"op": "add", "path": "/metadata/annotations", "value": {"by": "json"}}]
    every.create(resource, {"metadata": {"name": name}, **body}, id=f"{resource}-create", save=resource)
    every.update(resource, name, {"$from": resource}, f"{resource}-no-op", save=resource)
    every.update(
        resource, name, {"$from": resource, "$set": {"metadata.labels.by": "put"}}, f"{resource}-put", save=resource
    )
    every.patch(resource, name, label, f"{resource}-merge", type=MERGE_PATCH)
    every.patch(
        resource, name, {"metadata": {"labels": {"by": "strategic"}}}, f"{resource}-strategic", type=STRATEGIC_PATCH
    )
    every.patch(resource, name, add, f"{resource}-json", type=JSON_PATCH)
    applied = {"metadata": {"name": name, "labels": {"applied": "yes"}}}
    every.apply(resource, name, applied, f"{resource}-apply")
    if resource in _STATUS:
        every.patch(
            resource,
            name,
            {"metadata": {"labels": {"via": "status"}}, "status": {}},
            f"{resource}-status",
            sub="status",
        )
    every.raw(
        f"{resource}-table", "GET", every.path(resource, name), accept="application/json;as=Table;v=v1;g=meta.k8s.io"
    )
    every.get(resource, id=f"{resource}-list", query="labelSelector=applied%3Dyes,by%3Dstrategic")
    every.delete(resource, name, id=f"{resource}-delete", query="propagationPolicy=Background")

SCENARIOS = [every]
