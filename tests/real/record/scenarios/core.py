"""Config maps, secrets, services, namespaces, nodes, quotas, limits, volumes, events, tokens."""

from steps import Scenario, pod, pod_spec

config = Scenario("config")
config.create("configmaps", {"metadata": {"name": "cm"}, "data": {"a": "b"}, "binaryData": {"c": "AAE="}}, save="cm")
config.create("configmaps", {"metadata": {"name": "empty"}})
config.create("configmaps", {"metadata": {"name": "frozen"}, "data": {"a": "b"}, "immutable": True}, save="frozen")
for name, body in {
    "cm-key": {"data": {"a b": "c"}},
    "cm-key-dots": {"data": {"..": "d"}},
    "cm-both": {"data": {"a": "b"}, "binaryData": {"a": "AAE="}},
    "cm-binary": {"binaryData": {"a": "not base64!"}},
    "cm-data-type": {"data": {"a": 1}},
    "cm-data-list": {"data": ["a"]},
    "cm-name": {"metadata": {"name": "A B"}},
}.items():
    config.create("configmaps", {"metadata": {"name": "x"}, **body}, id=name)
config.update("configmaps", "cm", {"$from": "cm", "$set": {"data.a": "c"}}, "cm-update", save="cm")
config.update("configmaps", "cm", {"$from": "cm"}, "cm-no-change", save="cm")
config.update("configmaps", "frozen", {"$from": "frozen", "$set": {"data.a": "c"}}, "cm-frozen")
config.update("configmaps", "frozen", {"$from": "frozen", "$unset": ["immutable"]}, "cm-unfreeze")
config.update("configmaps", "frozen", {"$from": "frozen", "$set": {"metadata.labels": {"a": "b"}}}, "cm-frozen-label")
config.create("secrets", {"metadata": {"name": "s"}, "data": {"a": "Yg=="}, "stringData": {"b": "text"}}, save="s")
config.create(
    "secrets", {"metadata": {"name": "basic"}, "type": "kubernetes.io/basic-auth", "stringData": {"username": "u"}}
)
for name, body in {
    "tls-missing": {"type": "kubernetes.io/tls", "data": {"tls.crt": ""}},
    "ssh-missing": {"type": "kubernetes.io/ssh-auth"},
    "basic-missing": {"type": "kubernetes.io/basic-auth"},
    "docker-missing": {"type": "kubernetes.io/dockerconfigjson"},
    "docker-bad": {"type": "kubernetes.io/dockerconfigjson", "stringData": {".dockerconfigjson": "nope"}},
    "token-annotation": {"type": "kubernetes.io/service-account-token"},
    "secret-key": {"data": {"a/b": "Yg=="}},
    "secret-base64": {"data": {"a": "%%"}},
}.items():
    config.create("secrets", {"metadata": {"name": "x"}, **body}, id=name)
config.update("secrets", "s", {"$from": "s", "$set": {"type": "other"}}, "secret-type")
config.patch("secrets", "s", {"stringData": {"b": "new"}}, "secret-string-data")
config.get("secrets", id="secrets-by-type", query="fieldSelector=type%3DOpaque")
config.raw("table-secrets", "GET", config.path("secrets"), accept="application/json;as=Table;v=v1;g=meta.k8s.io")
config.raw("table-configmaps", "GET", config.path("configmaps"), accept="application/json;as=Table;v=v1;g=meta.k8s.io")
config.delete("configmaps", "cm")
config.create(
    "serviceaccounts",
    {
        "metadata": {"name": "robot"},
        "automountServiceAccountToken": False,
        "secrets": [{"name": "s"}],
        "imagePullSecrets": [{"name": "pull"}],
    },
    save="robot",
)
token = {
    "apiVersion": "authentication.k8s.io/v1",
    "kind": "TokenRequest",
    "spec": {"audiences": ["me"], "expirationSeconds": 600},
}
config.create("serviceaccounts", token, id="token", under="robot", sub="token", kind=True)
config.create(
    "serviceaccounts",
    {**token, "spec": {"expirationSeconds": 10}},
    id="token-short",
    under="robot",
    sub="token",
    kind=True,
)
config.create("serviceaccounts", token, id="token-absent", under="nobody", sub="token", kind=True)

services = Scenario("services")
port = {"ports": [{"port": 80}], "selector": {"a": "b"}}
services.create("services", {"metadata": {"name": "plain"}, "spec": port}, save="plain")
services.create("services", {"metadata": {"name": "headless"}, "spec": {**port, "clusterIP": "None"}})
services.create("services", {"metadata": {"name": "node"}, "spec": {**port, "type": "NodePort"}}, save="node")
services.create("services", {"metadata": {"name": "lb"}, "spec": {**port, "type": "LoadBalancer"}}, save="lb")
services.create(
    "services",
    {"metadata": {"name": "name"}, "spec": {"type": "ExternalName", "externalName": "example.com"}},
    save="name",
)
services.create(
    "services",
    {
        "metadata": {"name": "sticky"},
        "spec": {
            "ports": [{"port": 80, "name": "a", "targetPort": "http"}, {"port": 53, "protocol": "UDP", "name": "b"}],
            "sessionAffinity": "ClientIP",
            "publishNotReadyAddresses": True,
            "internalTrafficPolicy": "Local",
        },
    },
)
services.create(
    "services", {"metadata": {"name": "fixed"}, "spec": {**port, "clusterIP": "10.96.200.200"}}, save="fixed"
)
services.create("services", {"metadata": {"name": "dry"}, "spec": port}, id="dry-run", query="dryRun=All")
services.create("services", {"metadata": {"name": "outside"}, "spec": {**port, "externalIPs": ["1.2.3.4"]}})
for name, spec in {
    "no-ports": {},
    "port-range": {"ports": [{"port": 0}, {"port": 70000}]},
    "names-missing": {"ports": [{"port": 1}, {"port": 2}]},
    "port-twice": {"ports": [{"port": 1, "name": "a"}, {"port": 1, "name": "b"}]},
    "name-twice": {"ports": [{"port": 1, "name": "a"}, {"port": 2, "name": "a"}]},
    "protocol": {"ports": [{"port": 1, "protocol": "ICMP"}]},
    "type": {**port, "type": "Magic"},
    "external-name-none": {"type": "ExternalName"},
    "selector": {**port, "selector": {"a b": "c"}},
    "affinity": {**port, "sessionAffinity": "Cookie"},
    "node-port-on-cluster-ip": {"ports": [{"port": 1, "nodePort": 30000}]},
    "ip-bad": {**port, "clusterIP": "not-an-ip"},
    "ip-out-of-range": {**port, "clusterIP": "192.168.1.1"},
    "ip-taken": {**port, "clusterIP": "10.96.200.200"},
    "headless-node-port": {**port, "clusterIP": "None", "type": "NodePort"},
    "node-port-range": {"type": "NodePort", "ports": [{"port": 1, "nodePort": 80}]},
    "external-ip": {**port, "externalIPs": ["127.0.0.1", "x"]},
    "traffic-policy": {**port, "externalTrafficPolicy": "Local"},
    "internal-policy": {**port, "internalTrafficPolicy": "x"},
    "family": {**port, "ipFamilies": ["IPv5"], "ipFamilyPolicy": "x"},
    "family-dual": {**port, "ipFamilyPolicy": "RequireDualStack"},
    "target-port": {"ports": [{"port": 1, "targetPort": "UPPER"}]},
    "lb-class": {**port, "loadBalancerClass": "x"},
    "distribution": {**port, "trafficDistribution": "x"},
}.items():
    services.create("services", {"metadata": {"name": "x"}, "spec": spec}, id=name)
services.create("services", {"metadata": {"name": "1-digit"}, "spec": port}, id="digit-name")
services.update("services", "plain", {"$from": "plain", "$set": {"spec.ports.0.port": 81}}, "port", save="plain")
services.update(
    "services",
    "plain",
    {"$from": "plain", "$set": {"spec.clusterIP": "10.96.7.7", "spec.clusterIPs": ["10.96.7.7"]}},
    "ip-immutable",
)
services.update(
    "services",
    "plain",
    {"$from": "plain", "$unset": ["spec.clusterIP", "spec.clusterIPs", "metadata.resourceVersion"]},
    "ip-left-out",
    save="plain",
)
services.update(
    "services", "plain", {"$from": "plain", "$set": {"spec.type": "NodePort"}}, "to-node-port", save="plain"
)
services.update(
    "services", "plain", {"$from": "plain", "$set": {"spec.type": "ClusterIP"}}, "to-cluster-ip", save="plain"
)
services.update(
    "services",
    "plain",
    {"$from": "plain", "$set": {"spec.type": "ExternalName", "spec.externalName": "a.b"}},
    "to-external-name",
)
services.update("services", "created-by-put", {"metadata": {"name": "created-by-put"}, "spec": port}, "put-creates")
services.patch(
    "services", "lb", {"status": {"loadBalancer": {"ingress": [{"ip": "9.9.9.9"}]}}}, "lb-status", sub="status"
)
services.patch(
    "services",
    "node",
    {"spec": {"ports": [{"port": 80, "name": "x"}, {"port": 81, "name": "y"}]}},
    "strategic-ports",
    type="application/strategic-merge-patch+json",
)
services.get("services", id="by-type", query="fieldSelector=spec.type%3DLoadBalancer")
services.raw("table", "GET", services.path("services"), accept="application/json;as=Table;v=v1;g=meta.k8s.io")
services.delete("services", "plain")
subsets = [{"addresses": [{"ip": "10.1.1.1", "nodeName": "n"}], "ports": [{"port": 80}]}]
services.create("endpoints", {"metadata": {"name": "ep"}, "subsets": subsets}, save="ep")
services.create(
    "endpoints",
    {"metadata": {"name": "x"}, "subsets": [{"addresses": [{"ip": "127.0.0.1"}, {"ip": "x"}], "ports": [{"port": 0}]}]},
    id="ep-bad",
)
services.create(
    "endpoints", {"metadata": {"name": "x"}, "subsets": [{"ports": [{"port": 1}, {"port": 2}]}]}, id="ep-empty"
)
slice_ = {
    "metadata": {"name": "es"},
    "addressType": "IPv4",
    "endpoints": [{"addresses": ["10.1.1.1"]}],
    "ports": [{"port": 80}],
}
services.create("endpointslices", slice_, save="es")
services.create(
    "endpointslices", {**slice_, "metadata": {"name": "x"}, "addressType": "Carrier", "endpoints": []}, id="es-type"
)
services.create(
    "endpointslices",
    {**slice_, "metadata": {"name": "x"}, "endpoints": [{"addresses": ["127.0.0.1"]}, {"addresses": []}]},
    id="es-address",
)
services.update("endpointslices", "es", {"$from": "es", "$set": {"addressType": "IPv6"}}, "es-immutable")
services.update(
    "endpointslices", "es", {"$from": "es", "$set": {"endpoints.0.conditions": {"ready": True}}}, "es-update"
)
ingress = {
    "metadata": {"name": "in"},
    "spec": {
        "rules": [
            {
                "host": "a.example.com",
                "http": {
                    "paths": [
                        {
                            "path": "/",
                            "pathType": "Prefix",
                            "backend": {"service": {"name": "s", "port": {"number": 80}}},
                        }
                    ]
                },
            }
        ]
    },
}
services.create("ingresses", ingress, save="in")
for name, spec in {
    "in-empty": {},
    "in-host": {"rules": [{"host": "UPPER"}, {"host": "1.2.3.4"}, {"host": "a.*.b"}]},
    "in-path": {"rules": [{"http": {"paths": [{"path": "x", "pathType": "Exact", "backend": {}}, {"backend": {}}]}}]},
    "in-backend": {"defaultBackend": {"service": {"name": "s"}}},
    "in-type": {
        "rules": [
            {
                "http": {
                    "paths": [
                        {
                            "path": "/",
                            "pathType": "Odd",
                            "backend": {"service": {"name": "S", "port": {"name": "p", "number": 1}}},
                        }
                    ]
                }
            }
        ]
    },
    "in-tls": {"defaultBackend": {"service": {"name": "s", "port": {"number": 1}}}, "tls": [{"hosts": ["X"]}]},
}.items():
    services.create("ingresses", {"metadata": {"name": "x"}, "spec": spec}, id=name)
services.update("ingresses", "in", {"$from": "in", "$set": {"spec.ingressClassName": "c"}}, "in-update")
services.create(
    "networkpolicies", {"metadata": {"name": "np"}, "spec": {"podSelector": {}, "egress": [{"ports": [{"port": 53}]}]}}
)
services.create(
    "networkpolicies",
    {
        "metadata": {"name": "x"},
        "spec": {
            "podSelector": {},
            "policyTypes": ["Sideways"],
            "ingress": [
                {"from": [{}, {"ipBlock": {"cidr": "x"}}], "ports": [{"port": 0}, {"endPort": 5}, {"protocol": "X"}]}
            ],
        },
    },
    id="np-bad",
)
services.create(
    "ingressclasses", {"metadata": {"name": "services-class"}, "spec": {"controller": "example.com/c"}}, save="ic"
)
services.update(
    "ingressclasses", "services-class", {"$from": "ic", "$set": {"spec.controller": "example.com/d"}}, "ic-immutable"
)
services.create("ingressclasses", {"metadata": {"name": "services-x"}, "spec": {"controller": "nope"}}, id="ic-bad")
for resource in ("ingresses", "networkpolicies", "endpoints", "endpointslices"):
    services.raw(
        f"table-{resource}", "GET", services.path(resource), accept="application/json;as=Table;v=v1;g=meta.k8s.io"
    )

cluster = Scenario("cluster", namespace=False)
cluster.create("namespaces", {"metadata": {"name": "cluster-a", "labels": {"cl": "1"}}}, save="ns")
cluster.create("namespaces", {"metadata": {"generateName": "cluster-gen-"}}, id="ns-generated")
cluster.create("namespaces", {"metadata": {"name": "Bad_Name"}}, id="ns-bad")
cluster.create("namespaces", {"metadata": {"name": "a" * 64}}, id="ns-long")
cluster.create("namespaces", {"metadata": {"name": "x", "namespace": "y"}}, id="ns-in-ns")
cluster.update(
    "namespaces",
    "cluster-a",
    {"$from": "ns", "$set": {"metadata.labels.kubernetes|io/metadata|name": "other"}},
    "ns-label",
    save="ns",
)
cluster.update("namespaces", "cluster-a", {"$from": "ns", "$set": {"spec.finalizers": []}}, "ns-finalizers-kept")
cluster.create("configmaps", {"metadata": {"name": "in-absent"}}, id="in-absent-namespace", namespace="cluster-absent")
cluster.delete("namespaces", "cluster-a", save="ns")
cluster.get("namespaces", "cluster-a", id="ns-terminating", save="ns")
cluster.create("configmaps", {"metadata": {"name": "late"}}, id="in-terminating", namespace="cluster-a")
cluster.delete("namespaces", "cluster-a", id="ns-delete-again")
cluster.update(
    "namespaces", "cluster-a", {"$from": "ns", "$set": {"spec.finalizers": []}}, "ns-finalize", sub="finalize"
)
cluster.get("namespaces", "cluster-a", id="ns-gone")
cluster.delete("namespaces", "default", id="ns-protected")
cluster.delete("namespaces", "kube-system", id="ns-protected-system")
cluster.get("namespaces", id="ns-by-phase", query="fieldSelector=status.phase%3DActive%2Cmetadata.name%3Ddefault")
cluster.raw(
    "ns-table", "GET", cluster.path("namespaces", "default"), accept="application/json;as=Table;v=v1;g=meta.k8s.io"
)
cluster.create("nodes", {"metadata": {"name": "cluster-node"}}, save="node")
cluster.create(
    "nodes",
    {
        "metadata": {"name": "cluster-taints"},
        "spec": {
            "taints": [
                {"key": "a b", "effect": "Odd"},
                {"key": "x", "effect": "NoSchedule"},
                {"key": "x", "effect": "NoSchedule"},
            ]
        },
    },
    id="node-taints",
)
cluster.update(
    "nodes",
    "cluster-node",
    {
        "$from": "node",
        "$set": {"spec.podCIDR": "10.0.0.0/24", "spec.podCIDRs": ["10.0.0.0/24"], "spec.providerID": "a://b"},
    },
    "node-cidr",
    save="node",
)
cluster.update(
    "nodes",
    "cluster-node",
    {
        "$from": "node",
        "$set": {"spec.podCIDR": "10.0.1.0/24", "spec.podCIDRs": ["10.0.1.0/24"], "spec.providerID": "c://d"},
    },
    "node-cidr-change",
)
cluster.patch(
    "nodes",
    "cluster-node",
    {
        "status": {
            "capacity": {"cpu": "4", "memory": "8Gi", "example.com/gpu": "2"},
            "addresses": [{"type": "InternalIP", "address": "10.0.0.9"}],
            "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"}],
            "nodeInfo": {"kubeletVersion": "v1.36.3"},
        }
    },
    "node-status",
    sub="status",
)
cluster.raw(
    "node-table", "GET", cluster.path("nodes", "cluster-node"), accept="application/json;as=Table;v=v1;g=meta.k8s.io"
)
cluster.get("nodes", id="node-by-field", query="fieldSelector=spec.unschedulable%3Dtrue")
cluster.delete("nodes", "cluster-node")
pv = {
    "metadata": {"name": "cluster-pv"},
    "spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/d"}},
}
cluster.create("persistentvolumes", pv, save="pv")
cluster.update(
    "persistentvolumes", "cluster-pv", {"$from": "pv", "$set": {"spec.capacity.storage": "2Gi"}}, "pv-grow", save="pv"
)
cluster.update("persistentvolumes", "cluster-pv", {"$from": "pv", "$set": {"spec.volumeMode": "Block"}}, "pv-mode")
for name, spec in {
    "pv-empty": {},
    "pv-modes": {**pv["spec"], "accessModes": ["Odd"]},
    "pv-capacity": {**pv["spec"], "capacity": {"cpu": "1"}},
    "pv-two": {**pv["spec"], "nfs": {"server": "a", "path": "/b"}},
    "pv-local": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "local": {"path": "/x"}},
    "pv-policy": {**pv["spec"], "persistentVolumeReclaimPolicy": "Odd", "volumeMode": "Odd", "storageClassName": "A B"},
}.items():
    cluster.create("persistentvolumes", {"metadata": {"name": "cluster-x"}, "spec": spec}, id=name)
cluster.raw(
    "pv-table",
    "GET",
    cluster.path("persistentvolumes", "cluster-pv"),
    accept="application/json;as=Table;v=v1;g=meta.k8s.io",
)
cluster.delete("persistentvolumes", "cluster-pv")
cluster.create("storageclasses", {"metadata": {"name": "cluster-sc"}, "provisioner": "example.com/p"}, save="sc")
cluster.update(
    "storageclasses",
    "cluster-sc",
    {"$from": "sc", "$set": {"provisioner": "other/p", "parameters": {"a": "b"}, "reclaimPolicy": "Retain"}},
    "sc-immutable",
)
cluster.create(
    "storageclasses",
    {"metadata": {"name": "cluster-x"}, "provisioner": "", "reclaimPolicy": "x", "volumeBindingMode": "y"},
    id="sc-bad",
)
cluster.delete("storageclasses", "cluster-sc")
cluster.create("priorityclasses", {"metadata": {"name": "cluster-high"}, "value": 1000}, save="pc")
cluster.update(
    "priorityclasses",
    "cluster-high",
    {"$from": "pc", "$set": {"value": 5, "preemptionPolicy": "Never"}},
    "pc-immutable",
)
cluster.create("priorityclasses", {"metadata": {"name": "cluster-x"}, "value": 2000000000}, id="pc-high")
cluster.create("priorityclasses", {"metadata": {"name": "system-x"}, "value": 1}, id="pc-system")
cluster.create("runtimeclasses", {"metadata": {"name": "cluster-rc"}, "handler": "runc"}, save="rc")
cluster.update("runtimeclasses", "cluster-rc", {"$from": "rc", "$set": {"handler": "kata"}}, "rc-immutable")
cluster.create("runtimeclasses", {"metadata": {"name": "cluster-x"}, "handler": "A B"}, id="rc-bad")
cluster.create("csidrivers", {"metadata": {"name": "cluster.csi.example.com"}, "spec": {}})
cluster.create("csinodes", {"metadata": {"name": "cluster-csi"}, "spec": {"drivers": None}})
cluster.create(
    "volumeattachments",
    {
        "metadata": {"name": "cluster-va"},
        "spec": {"attacher": "a", "nodeName": "n", "source": {"persistentVolumeName": "p"}},
    },
)
for resource, name in (
    ("storageclasses", ""),
    ("priorityclasses", "system-node-critical"),
    ("runtimeclasses", "cluster-rc"),
):
    cluster.raw(
        f"table-{resource}",
        "GET",
        cluster.path(resource, name or None),
        accept="application/json;as=Table;v=v1;g=meta.k8s.io",
    )

limits = Scenario("limits")
limits.create(
    "resourcequotas",
    {"metadata": {"name": "q"}, "spec": {"hard": {"pods": "2", "requests.cpu": "1", "count/configmaps": "3"}}},
    save="q",
)
limits.create(
    "resourcequotas",
    {"metadata": {"name": "x"}, "spec": {"hard": {"bananas": "1"}}},
    id="quota-bad",
)
limits.create(
    "resourcequotas",
    {"metadata": {"name": "x"}, "spec": {"hard": {"pods": "1"}, "scopes": ["BestEffort", "NotBestEffort", "Odd"]}},
    id="quota-scopes",
)
limits.update("resourcequotas", "q", {"$from": "q", "$set": {"spec.scopes": ["BestEffort"]}}, "quota-scope-change")
limits.patch(
    "resourcequotas",
    "q",
    {
        "status": {
            "hard": {"pods": "2", "requests.cpu": "1", "count/configmaps": "3"},
            "used": {"pods": "0", "requests.cpu": "0", "count/configmaps": "2"},
        }
    },
    "quota-status",
    sub="status",
)
small = [{"name": "c", "image": "a", "resources": {"requests": {"cpu": "600m"}}}]
limits.create("pods", {"metadata": {"name": "no-request"}, "spec": pod_spec()}, id="quota-must-specify")
limits.create("pods", {"metadata": {"name": "one"}, "spec": {"containers": small}})
limits.create("pods", {"metadata": {"name": "two"}, "spec": {"containers": small}}, id="quota-cpu-exceeded")
limits.create(
    "pods",
    {
        "metadata": {"name": "dry"},
        "spec": {"containers": [{"name": "c", "image": "a", "resources": {"requests": {"cpu": "1m"}}}]},
    },
    id="quota-dry",
    query="dryRun=All",
)
limits.create("configmaps", {"metadata": {"name": "third"}}, id="quota-count-ok")
limits.create("configmaps", {"metadata": {"name": "fourth"}}, id="quota-count-exceeded")
limits.get("resourcequotas", "q", id="quota-used")
limits.raw(
    "quota-table", "GET", limits.path("resourcequotas", "q"), accept="application/json;as=Table;v=v1;g=meta.k8s.io"
)
limits.delete("resourcequotas", "q")
limits.create(
    "limitranges",
    {
        "metadata": {"name": "lr"},
        "spec": {
            "limits": [
                {
                    "type": "Container",
                    "max": {"cpu": "1"},
                    "min": {"cpu": "10m"},
                    "default": {"memory": "64Mi"},
                    "defaultRequest": {"cpu": "50m"},
                },
                {"type": "PersistentVolumeClaim", "max": {"storage": "2Gi"}},
            ]
        },
    },
)
limits.create("pods", pod("ranged"))
limits.create(
    "pods",
    {
        "metadata": {"name": "x"},
        "spec": {"containers": [{"name": "c", "image": "a", "resources": {"limits": {"cpu": "2"}}}]},
    },
    id="lr-max",
)
limits.create(
    "pods",
    {
        "metadata": {"name": "x"},
        "spec": {"containers": [{"name": "c", "image": "a", "resources": {"requests": {"cpu": "1m"}}}]},
    },
    id="lr-min",
)
limits.create(
    "limitranges",
    {
        "metadata": {"name": "x"},
        "spec": {
            "limits": [
                {"type": "Container", "max": {"cpu": "1"}, "min": {"cpu": "2"}},
                {"type": "Odd"},
                {"type": "Pod", "default": {"cpu": "1"}},
                {"type": "PersistentVolumeClaim"},
            ]
        },
    },
    id="lr-bad",
)
claim = {
    "metadata": {"name": "claim"},
    "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
}
limits.create("persistentvolumeclaims", claim, save="claim")
limits.create(
    "persistentvolumeclaims",
    {"metadata": {"name": "x"}, "spec": {**claim["spec"], "resources": {"requests": {"storage": "5Gi"}}}},
    id="lr-claim",
)
limits.update(
    "persistentvolumeclaims",
    "claim",
    {"$from": "claim", "$set": {"spec.resources.requests.storage": "2Gi"}},
    "claim-immutable",
)
limits.update(
    "persistentvolumeclaims",
    "claim",
    {"$from": "claim", "$set": {"metadata.labels": {"a": "b"}}},
    "claim-label",
    save="claim",
)
limits.patch(
    "persistentvolumeclaims",
    "claim",
    {"status": {"phase": "Bound", "capacity": {"storage": "1Gi"}}},
    "claim-bound",
    sub="status",
    save="claim",
)
limits.update(
    "persistentvolumeclaims",
    "claim",
    {"$from": "claim", "$set": {"spec.resources.requests.storage": "2Gi"}},
    "claim-expand",
)
for name, spec in {
    "claim-empty": {},
    "claim-modes": {**claim["spec"], "accessModes": ["Odd"]},
    "claim-zero": {**claim["spec"], "resources": {"requests": {"storage": "0"}}},
    "claim-mode": {**claim["spec"], "volumeMode": "Odd"},
    "claim-class": {**claim["spec"], "storageClassName": "A B"},
    "claim-source": {**claim["spec"], "dataSource": {"kind": "Other", "name": "x"}},
}.items():
    limits.create("persistentvolumeclaims", {"metadata": {"name": "x"}, "spec": spec}, id=name)
limits.create(
    "persistentvolumeclaims",
    {
        "metadata": {"name": "clone"},
        "spec": {**claim["spec"], "dataSource": {"kind": "PersistentVolumeClaim", "name": "claim"}},
    },
)
limits.raw(
    "claim-table", "GET", limits.path("persistentvolumeclaims"), accept="application/json;as=Table;v=v1;g=meta.k8s.io"
)
limits.delete("persistentvolumeclaims", "claim")
limits.get("persistentvolumeclaims", "claim", id="claim-protected")
event = {
    "metadata": {"name": "ev"},
    "involvedObject": {"kind": "Pod", "namespace": "limits", "name": "p"},
    "reason": "Testing",
    "message": "hi",
    "type": "Normal",
    "count": 1,
    "firstTimestamp": "2026-01-01T00:00:00Z",
    "lastTimestamp": "2026-01-01T00:00:00Z",
    "source": {"component": "me"},
}
limits.create("events", event, save="ev")
limits.create(
    "events", {**event, "metadata": {"name": "x"}, "involvedObject": {"namespace": "other"}}, id="event-namespace"
)
limits.get("events", id="event-by-reason", query="fieldSelector=reason%3DTesting%2CinvolvedObject.name%3Dp")
new_event = {
    "apiVersion": "events.k8s.io/v1",
    "kind": "Event",
    "metadata": {"name": "ne"},
    "eventTime": "2026-01-01T00:00:00.000000Z",
    "reason": "New",
    "note": "text",
    "type": "Warning",
    "action": "Act",
    "reportingController": "example.com/me",
    "reportingInstance": "me-1",
    "regarding": {"kind": "Pod", "namespace": "limits", "name": "p"},
}
limits.create("events.k8s.io/v1/events", new_event, id="new-event")
limits.create(
    "events.k8s.io/v1/events",
    {**new_event, "metadata": {"name": "x"}, "eventTime": None, "type": "Odd", "action": ""},
    id="new-event-bad",
)
limits.get("events", "ne", id="new-event-as-core")
limits.get("events.k8s.io/v1/events", "ev", id="core-event-as-new")
limits.create(
    "leases",
    {
        "metadata": {"name": "l"},
        "spec": {"holderIdentity": "me", "leaseDurationSeconds": 15, "renewTime": "2026-01-01T00:00:00.123456Z"},
    },
    save="l",
)
limits.update("leases", "l", {"$from": "l", "$unset": ["metadata.resourceVersion"]}, "lease-unconditional")
limits.create(
    "leases", {"metadata": {"name": "x"}, "spec": {"leaseDurationSeconds": 0, "leaseTransitions": -1}}, id="lease-bad"
)
limits.update("leases", "made", {"metadata": {"name": "made"}, "spec": {}}, "lease-put-creates")
limits.raw("event-table", "GET", limits.path("events", "ev"), accept="application/json;as=Table;v=v1;g=meta.k8s.io")

SCENARIOS = [config, services, cluster, limits]
