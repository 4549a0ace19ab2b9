"""Kinds that few people write by hand: admission, flow control, devices, storage; warnings; subresources."""

from steps import STRATEGIC_PATCH, Scenario, deployment, pod, pod_spec

warn = Scenario("warnings")
for name, spec in {
    "node-selector": pod_spec(nodeSelector={"beta.kubernetes.io/os": "linux"}),
    "affinity": pod_spec(
        affinity={
            "nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {
                    "nodeSelectorTerms": [
                        {"matchExpressions": [{"key": "failure-domain.beta.kubernetes.io/zone", "operator": "Exists"}]}
                    ]
                }
            },
            "podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "zone"}]},
            "podAntiAffinity": {
                "preferredDuringSchedulingIgnoredDuringExecution": [
                    {"weight": 1, "podAffinityTerm": {"topologyKey": "zone"}}
                ]
            },
        }
    ),
    "spread": pod_spec(
        topologySpreadConstraints=[
            {"maxSkew": 1, "topologyKey": "beta.kubernetes.io/arch", "whenUnsatisfiable": "ScheduleAnyway"}
        ]
    ),
    "volumes": pod_spec(
        volumes=[{"name": "g", "gitRepo": {"repository": "x"}}, {"name": "c", "rbd": {"monitors": ["m"], "image": "i"}}]
    ),
    "aliases": pod_spec(hostAliases=[{"ip": "10.0.0.1", "hostnames": ["a"]}, {"ip": "10.0.0.1", "hostnames": ["b"]}]),
    "pull-secrets": pod_spec(imagePullSecrets=[{"name": "a"}, {"name": "a"}, {"name": ""}]),
    "fraction": {
        "containers": [
            {
                "name": "c",
                "image": "a",
                "resources": {"limits": {"memory": "1.5"}, "requests": {"ephemeral-storage": "100m"}},
            }
        ]
    },
    "env": {
        "containers": [
            {
                "name": "c",
                "image": "a",
                "env": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}, {"name": "A", "value": "$(A):3"}],
            }
        ]
    },
    "ports": {
        "containers": [
            {"name": "c", "image": "a", "ports": [{"containerPort": 80, "name": "x"}]},
            {
                "name": "d",
                "image": "a",
                "ports": [{"containerPort": 80, "name": "x"}, {"containerPort": 80, "hostPort": 81}],
            },
        ]
    },
    "grace": pod_spec(terminationGracePeriodSeconds=-5),
}.items():
    warn.create("pods", {"metadata": {"name": name}, "spec": spec})
warn.create("pods", pod("dotted.name"))
warn.create("deployments", deployment("dotted.name"), save="d")
warn.create(
    "deployments",
    deployment(
        "selector",
        template={
            "metadata": {"labels": {"app": "selector"}},
            "spec": pod_spec(nodeSelector={"beta.kubernetes.io/arch": "x"}),
        },
    ),
    save="s",
)
warn.update(
    "deployments", "selector", {"$from": "s", "$set": {"metadata.labels": {"a": "b"}}}, "label-no-warning", save="s"
)
warn.update("deployments", "selector", {"$from": "s", "$set": {"spec.replicas": 2}}, "replicas-warns")
warn.create(
    "services",
    {
        "metadata": {"name": "headless"},
        "spec": {
            "clusterIP": "None",
            "ports": [{"port": 1}],
            "sessionAffinity": "ClientIP",
            "externalName": "x",
            "trafficDistribution": "PreferClose",
        },
    },
)
warn.create(
    "persistentvolumes",
    {
        "metadata": {"name": "warnings-pv"},
        "spec": {
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadWriteOnce"],
            "hostPath": {"path": "/x"},
            "persistentVolumeReclaimPolicy": "Recycle",
        },
    },
)
warn.create(
    "persistentvolumeclaims",
    {
        "metadata": {"name": "fraction"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "100m"}}},
    },
)
warn.create(
    "statefulsets",
    {
        "metadata": {"name": "sts"},
        "spec": {
            "selector": {"matchLabels": {"a": "b"}},
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": pod_spec()},
            "revisionHistoryLimit": -1,
        },
    },
)
warn.create(
    "resourcequotas",
    {"metadata": {"name": "q"}, "spec": {"hard": {"limits.cpu": "1", "example.com/gpu": "1"}}},
    id="quota-ok",
)

hooks = Scenario("hooks")
webhook = {
    "name": "a.example.com",
    "clientConfig": {"service": {"namespace": "hooks", "name": "s"}},
    "sideEffects": "None",
    "admissionReviewVersions": ["v1"],
    "rules": [
        {"operations": ["CREATE"], "apiGroups": ["hooks.example.com"], "apiVersions": ["v1"], "resources": ["things"]}
    ],
}
for kind, resource in (
    ("Mutating", "mutatingwebhookconfigurations"),
    ("Validating", "validatingwebhookconfigurations"),
):
    low = kind.lower()
    hooks.create(resource, {"metadata": {"name": f"hooks-{low}"}, "webhooks": [webhook]}, save=low)
    hooks.update(
        resource, f"hooks-{low}", {"$from": low, "$set": {"webhooks.0.timeoutSeconds": 5}}, f"{low}-update", save=low
    )
    hooks.update(
        resource, f"hooks-{low}", {"$from": low, "$unset": ["metadata.resourceVersion"]}, f"{low}-unconditional"
    )
    for name, change in {
        "name": {"name": "x"},
        "no-client": {"clientConfig": {}},
        "side-effects": {"sideEffects": "Some"},
        "no-versions": {"admissionReviewVersions": []},
        "timeout": {"timeoutSeconds": 60},
        "failure": {"failurePolicy": "Maybe"},
        "url": {"clientConfig": {"url": "http://x"}},
        "rules": {"rules": [{"operations": ["EAT"], "apiGroups": [], "apiVersions": [], "resources": ["*", "x"]}]},
        "versions-old": {"admissionReviewVersions": ["v0"]},
    }.items():
        hooks.create(
            resource, {"metadata": {"name": "hooks-x"}, "webhooks": [{**webhook, **change}]}, id=f"{low}-bad-{name}"
        )
    hooks.create(resource, {"metadata": {"name": "hooks-x"}, "webhooks": [webhook, webhook]}, id=f"{low}-twice")
    hooks.delete(resource, f"hooks-{low}")
policy = {
    "failurePolicy": "Ignore",
    "matchConstraints": {
        "resourceRules": [
            {
                "operations": ["CREATE"],
                "apiGroups": ["hooks.example.com"],
                "apiVersions": ["v1"],
                "resources": ["things"],
            }
        ]
    },
    "validations": [{"expression": "object.metadata.name != 'x'"}],
}
hooks.create("validatingadmissionpolicies", {"metadata": {"name": "hooks-policy"}, "spec": policy}, save="vap")
for name, change in {
    "no-rules": {"matchConstraints": None},
    "no-validations": {"validations": []},
    "expression": {"validations": [{"expression": "object.x +"}]},
    "reason": {"validations": [{"expression": "true", "reason": "Odd"}]},
}.items():
    hooks.create(
        "validatingadmissionpolicies",
        {"metadata": {"name": "hooks-x"}, "spec": {**policy, **change}},
        id=f"policy-{name}",
    )
hooks.create(
    "validatingadmissionpolicybindings",
    {"metadata": {"name": "hooks-binding"}, "spec": {"policyName": "hooks-policy", "validationActions": ["Deny"]}},
)
hooks.create(
    "validatingadmissionpolicybindings",
    {"metadata": {"name": "hooks-x"}, "spec": {"policyName": "", "validationActions": ["Deny", "Warn", "Odd"]}},
    id="binding-bad",
)
hooks.delete("validatingadmissionpolicybindings", "hooks-binding")
hooks.delete("validatingadmissionpolicies", "hooks-policy")
level = {
    "type": "Limited",
    "limited": {"nominalConcurrencyShares": 5, "limitResponse": {"type": "Queue", "queuing": {}}},
}
hooks.create("prioritylevelconfigurations", {"metadata": {"name": "hooks-level"}, "spec": level}, save="level")
hooks.update(
    "prioritylevelconfigurations",
    "hooks-level",
    {"$from": "level", "$set": {"spec.limited.nominalConcurrencyShares": 6}},
    "level-update",
)
for name, spec in {
    "type": {"type": "Odd"},
    "limited-none": {"type": "Limited"},
    "queue-none": {"type": "Limited", "limited": {"limitResponse": {"type": "Queue"}}},
}.items():
    hooks.create("prioritylevelconfigurations", {"metadata": {"name": "hooks-x"}, "spec": spec}, id=f"level-{name}")
flow = {
    "priorityLevelConfiguration": {"name": "hooks-level"},
    "distinguisherMethod": {"type": "ByUser"},
    "rules": [
        {
            "subjects": [{"kind": "User", "user": {"name": "hooks-user"}}],
            "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"]}],
        }
    ],
}
hooks.create("flowschemas", {"metadata": {"name": "hooks-flow"}, "spec": flow}, save="flow")
for name, spec in {
    "precedence": {**flow, "matchingPrecedence": 20000},
    "no-level": {**flow, "priorityLevelConfiguration": {}},
    "subject": {**flow, "rules": [{"subjects": [{"kind": "Robot"}], "resourceRules": []}]},
}.items():
    hooks.create("flowschemas", {"metadata": {"name": "hooks-x"}, "spec": spec}, id=f"flow-{name}")
hooks.delete("flowschemas", "hooks-flow")
hooks.delete("prioritylevelconfigurations", "hooks-level")

misc = Scenario("misc")
group = "resource.k8s.io/v1/"
misc.create(
    group + "deviceclasses!",
    {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "DeviceClass",
        "metadata": {"name": "misc-class"},
        "spec": {"selectors": [{"cel": {"expression": "device.driver == 'x'"}}]},
    },
    save="class",
)
claim = {"devices": {"requests": [{"name": "gpu", "exactly": {"deviceClassName": "misc-class"}}]}}
misc.create(
    group + "resourceclaims",
    {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim", "metadata": {"name": "claim"}, "spec": claim},
    save="claim",
)
misc.update(
    group + "resourceclaims",
    "claim",
    {"$from": "claim", "$set": {"spec.devices.requests.0.name": "other"}},
    "claim-immutable",
)
misc.create(
    group + "resourceclaims",
    {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": {"name": "x"},
        "spec": {"devices": {"requests": [{"name": "A B"}]}},
    },
    id="claim-bad",
)
misc.create(
    group + "resourceclaimtemplates",
    {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaimTemplate",
        "metadata": {"name": "t"},
        "spec": {"spec": claim},
    },
)
misc.create(
    group + "resourceslices!",
    {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceSlice",
        "metadata": {"name": "misc-slice"},
        "spec": {
            "driver": "d.example.com",
            "nodeName": "n",
            "pool": {"name": "p", "generation": 1, "resourceSliceCount": 1},
            "devices": [
                {
                    "name": "gpu0",
                    "attributes": {"model": {"string": "H200"}},
                    "capacity": {"memory": {"value": "140Gi"}},
                }
            ],
        },
    },
    save="slice",
)
misc.create(
    group + "resourceslices!",
    {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceSlice",
        "metadata": {"name": "misc-x"},
        "spec": {"driver": "A B", "pool": {}},
    },
    id="slice-bad",
)
misc.create(
    "storage.k8s.io/v1/csistoragecapacities",
    {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "CSIStorageCapacity",
        "metadata": {"name": "cap"},
        "storageClassName": "sc",
        "capacity": "1Gi",
    },
)
misc.create(
    "storage.k8s.io/v1/csistoragecapacities",
    {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "CSIStorageCapacity",
        "metadata": {"name": "x"},
        "storageClassName": "",
        "capacity": "-1",
    },
    id="capacity-bad",
)
misc.create(
    "storage.k8s.io/v1/volumeattributesclasses!",
    {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "VolumeAttributesClass",
        "metadata": {"name": "misc-vac"},
        "driverName": "d",
        "parameters": {"a": "b"},
    },
    save="vac",
)
misc.update(
    "storage.k8s.io/v1/volumeattributesclasses!",
    "misc-vac",
    {"$from": "vac", "$set": {"parameters.a": "c"}},
    "vac-immutable",
)
misc.create(
    "csidrivers",
    {"metadata": {"name": "misc-csi"}, "spec": {"fsGroupPolicy": "Odd", "volumeLifecycleModes": ["Odd"]}},
    id="csi-driver-bad",
)
misc.create(
    "csinodes",
    {"metadata": {"name": "misc-node"}, "spec": {"drivers": [{"name": "d", "nodeID": ""}]}},
    id="csi-node-bad",
)
misc.create(
    "volumeattachments",
    {"metadata": {"name": "misc-x"}, "spec": {"attacher": "", "nodeName": "", "source": {}}},
    id="attachment-bad",
)
misc.create(
    "apiservices",
    {
        "metadata": {"name": "v1.misc.example.com"},
        "spec": {
            "group": "misc.example.com",
            "version": "v1",
            "groupPriorityMinimum": 10,
            "versionPriority": 5,
            "service": {"namespace": "misc", "name": "s"},
        },
    },
    save="api",
)
misc.create(
    "apiservices",
    {"metadata": {"name": "wrong"}, "spec": {"group": "misc.example.com", "version": "v1"}},
    id="apiservice-bad",
)
misc.delete("apiservices", "v1.misc.example.com")
misc.create(
    "networking.k8s.io/v1/servicecidrs!",
    {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "ServiceCIDR",
        "metadata": {"name": "misc-bad"},
        "spec": {"cidrs": ["x"]},
    },
    id="service-cidr-bad",
)
misc.create(
    "networking.k8s.io/v1/ipaddresses!",
    {"apiVersion": "networking.k8s.io/v1", "kind": "IPAddress", "metadata": {"name": "not-an-ip"}, "spec": {}},
    id="ip-address-bad",
)
misc.create("pods", pod("p"), save="p")
misc.patch(
    "pods",
    "p",
    {"spec": {"ephemeralContainers": [{"name": "debug", "image": "busybox", "targetContainerName": "main"}]}},
    "ephemeral",
    sub="ephemeralcontainers",
    type=STRATEGIC_PATCH,
)
misc.patch(
    "pods",
    "p",
    {"spec": {"ephemeralContainers": [{"name": "debug", "image": "other"}]}},
    "ephemeral-change",
    sub="ephemeralcontainers",
    type=STRATEGIC_PATCH,
)
misc.patch(
    "pods",
    "p",
    {
        "spec": {
            "ephemeralContainers": [
                {"name": "main", "image": "x"},
                {"name": "port", "image": "y", "ports": [{"containerPort": 1}]},
            ]
        }
    },
    "ephemeral-bad",
    sub="ephemeralcontainers",
    type=STRATEGIC_PATCH,
)
misc.get("pods", "p", id="ephemeral-get", sub="ephemeralcontainers")
misc.patch(
    "pods",
    "p",
    {"spec": {"containers": [{"name": "main", "resources": {"requests": {"cpu": "100m"}}}]}},
    "resize",
    sub="resize",
    type=STRATEGIC_PATCH,
)
misc.get("pods", "p", id="log-unassigned", sub="log")
misc.get("pods", "absent", id="log-absent", sub="log")
misc.get("pods", "p", id="log-bad-options", sub="log", query="tailLines=-1")
misc.get("pods", "p", id="exec-unassigned", sub="exec", query="command=ls")
misc.get("pods", "p", id="attach-unassigned", sub="attach")
misc.get("nodes", "absent", id="node-proxy", sub="proxy/healthz")
misc.get("services", "absent", id="service-proxy", sub="proxy")
misc.raw("component-statuses", "GET", "/api/v1/componentstatuses/absent")
misc.raw(
    "bindings",
    "POST",
    "/api/v1/namespaces/misc/bindings",
    body={"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p"}, "target": {"name": "misc-n"}},
)
misc.raw(
    "bindings-again",
    "POST",
    "/api/v1/namespaces/misc/bindings",
    body={"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p"}, "target": {"name": "misc-n"}},
)
misc.create(
    "replicationcontrollers",
    {"metadata": {"name": "rc"}, "spec": {"template": {"metadata": {"labels": {"a": "b"}}, "spec": pod_spec()}}},
    save="rc",
)
misc.delete("replicationcontrollers", "rc", id="rc-delete-default")
misc.create("limitranges", {"metadata": {}, "spec": {}}, id="limit-range-without-name")
misc.update("roles", "made", {"metadata": {"name": "made"}, "rules": []}, "role-put-creates")
misc.update("configmaps", "made", {"metadata": {"name": "made"}}, "configmap-put-absent")
misc.update("endpoints", "made", {"metadata": {"name": "made"}}, "endpoints-put-creates")
misc.raw("table-pods", "GET", misc.path("pods"), accept="application/json;as=Table;v=v1;g=meta.k8s.io")
misc.delete("pods", "p", query="gracePeriodSeconds=0")

SCENARIOS = [warn, hooks, misc]
