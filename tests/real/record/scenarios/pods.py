"""Pods: defaults, validation, updates, status, deletion, binding, eviction."""

from steps import JSON_PATCH, STRATEGIC_PATCH, Scenario, pod, pod_spec

defaults = Scenario("pod-defaults")
for name, spec in {
    "minimal": pod_spec(),
    "full-container": {
        "containers": [
            {
                "name": "c",
                "image": "registry.example:5000/app",
                "command": ["sh"],
                "args": ["-c", "true"],
                "ports": [{"containerPort": 80}, {"name": "dns", "containerPort": 53, "protocol": "UDP"}],
                "env": [
                    {"name": "A", "value": "b"},
                    {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                    {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
                    {"name": "CM", "valueFrom": {"configMapKeyRef": {"name": "x", "key": "y", "optional": True}}},
                    {"name": "EMPTY", "value": ""},
                ],
                "envFrom": [{"configMapRef": {"name": "all"}}, {"prefix": "S_", "secretRef": {"name": "s"}}],
                "resources": {"limits": {"cpu": "1500m", "memory": "1024Mi"}, "requests": {"cpu": "0.5"}},
                "livenessProbe": {"httpGet": {"port": 80}},
                "readinessProbe": {"tcpSocket": {"port": "dns"}, "periodSeconds": 3},
                "startupProbe": {"grpc": {"port": 9000}},
                "lifecycle": {"preStop": {"exec": {"command": ["sleep", "1"]}}},
                "securityContext": {"runAsUser": 1000, "capabilities": {"add": ["NET_ADMIN"], "drop": ["ALL"]}},
                "workingDir": "/",
                "stdin": False,
                "tty": True,
            }
        ]
    },
    "digest": {"containers": [{"name": "c", "image": "nginx@sha256:" + "a" * 64}]},
    "latest": {"containers": [{"name": "c", "image": "nginx:latest"}]},
    "volumes": pod_spec(
        volumes=[
            {"name": "empty"},
            {"name": "host", "hostPath": {"path": "/tmp"}},
            {"name": "secret", "secret": {"secretName": "s", "items": [{"key": "a", "path": "b"}]}},
            {"name": "config", "configMap": {"name": "c", "optional": True}},
            {"name": "down", "downwardAPI": {"items": [{"path": "l", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
            {"name": "claim", "persistentVolumeClaim": {"claimName": "data"}},
            {
                "name": "all",
                "projected": {
                    "sources": [
                        {"serviceAccountToken": {"path": "token"}},
                        {"configMap": {"name": "ca"}},
                        {"downwardAPI": {"items": [{"path": "ns", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
                    ]
                },
            },
            {"name": "mem", "emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}},
            {"name": "nfs", "nfs": {"server": "s", "path": "/p"}},
            {"name": "csi", "csi": {"driver": "d.example.com"}},
            {
                "name": "eph",
                "ephemeral": {
                    "volumeClaimTemplate": {
                        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
                    }
                },
            },
        ]
    ),
    "scheduling": pod_spec(
        nodeSelector={"disk": "ssd"},
        tolerations=[{"key": "a", "operator": "Exists", "effect": "NoSchedule"}, {"operator": "Exists"}],
        affinity={
            "nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {
                    "nodeSelectorTerms": [
                        {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a", "b"]}]}
                    ]
                }
            },
            "podAntiAffinity": {
                "preferredDuringSchedulingIgnoredDuringExecution": [
                    {
                        "weight": 100,
                        "podAffinityTerm": {
                            "topologyKey": "kubernetes.io/hostname",
                            "labelSelector": {"matchLabels": {"app": "x"}},
                        },
                    }
                ]
            },
        },
        topologySpreadConstraints=[
            {
                "maxSkew": 1,
                "topologyKey": "zone",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": {"app": "x"}},
            }
        ],
        priorityClassName="system-node-critical",
    ),
    "host-network": {
        "hostNetwork": True,
        "containers": [{"name": "c", "image": "a", "ports": [{"containerPort": 81}]}],
    },
    "init": pod_spec(
        initContainers=[{"name": "i", "image": "busybox"}, {"name": "side", "image": "b", "restartPolicy": "Always"}],
        restartPolicy="OnFailure",
        terminationGracePeriodSeconds=0,
        automountServiceAccountToken=False,
        enableServiceLinks=False,
        hostname="h",
        subdomain="s",
        shareProcessNamespace=True,
        securityContext={"fsGroup": 5, "runAsNonRoot": True},
        imagePullSecrets=[{"name": "pull"}],
        activeDeadlineSeconds=100,
        dnsPolicy="None",
        dnsConfig={
            "nameservers": ["1.1.1.1"],
            "searches": ["example.com"],
            "options": [{"name": "ndots", "value": "2"}],
        },
        hostAliases=[{"ip": "10.0.0.1", "hostnames": ["db"]}],
    ),
    "gated": pod_spec(schedulingGates=[{"name": "example.com/gate"}]),
    "guaranteed": {"containers": [{"name": "c", "image": "a", "resources": {"limits": {"cpu": "1", "memory": "1Gi"}}}]},
    "odd-amounts": {
        "containers": [
            {
                "name": "c",
                "image": "a",
                "resources": {
                    "requests": {"cpu": "0.0001", "memory": "1500M", "ephemeral-storage": "1.5Gi"},
                    "limits": {"memory": 2e9},
                },
            }
        ]
    },
    "empties": {
        "containers": [{"name": "c", "image": "a", "env": [], "ports": None, "command": []}],
        "volumes": [],
        "nodeSelector": {},
        "tolerations": None,
        "hostNetwork": False,
    },
    "pod-level-resources": pod_spec(resources={"limits": {"cpu": "2", "memory": "1Gi"}}),
}.items():
    defaults.create("pods", {"metadata": {"name": name}, "spec": spec})
defaults.create("pods", {"metadata": {"generateName": "made-"}, "spec": pod_spec()}, id="generated", save="made")
defaults.create("pods", pod("dry"), id="dry-run", query="dryRun=All")
defaults.get("pods", "dry", id="dry-run-left-nothing")
defaults.create("pods", pod("minimal"), id="exists-already")
defaults.create(
    "pods",
    {
        "metadata": {
            "name": "status-is-ignored",
            "generation": 7,
            "uid": "abc",
            "finalizers": ["example.com/x"],
            "annotations": {"a": "b"},
        },
        "spec": pod_spec(),
        "status": {"phase": "Running"},
    },
)
defaults.create(
    "pods", {"metadata": {"name": "template-ns", "namespace": "other"}, "spec": pod_spec()}, id="namespace-differs"
)
defaults.create(
    "pods",
    {"metadata": {"name": "token"}, "spec": {"serviceAccountName": "nobody", **pod_spec()}},
    id="unknown-service-account",
)

invalid = Scenario("pod-invalid")


def bad(name: str, spec: object, /, **metadata: object) -> None:
    invalid.create("pods", {"metadata": {"name": "bad", **metadata}, "spec": spec}, id=name)


def bad_container(name: str, /, **fields: object) -> None:
    bad(name, {"containers": [{"name": "c", "image": "a", **fields}]})


bad("no-spec", {})
bad("no-containers", {"containers": []})
bad("two-of-a-name", {"containers": [{"name": "c", "image": "a"}, {"name": "c", "image": "a"}]})
bad("name-upper", pod_spec(), name="Bad_Name")
bad("name-long", pod_spec(), name="a" * 254)
bad("label-bad", pod_spec(), labels={"ok": "-bad-"})
bad("annotation-bad", pod_spec(), annotations={"/x": "y"})
bad("finalizer-bad", pod_spec(), finalizers=["UPPER/ x"])
bad("owner-bad", pod_spec(), ownerReferences=[{"apiVersion": "v1", "kind": "", "name": "x", "uid": "1"}])
bad("no-name", pod_spec(), name="")
bad("restart-policy", pod_spec(restartPolicy="Sometimes"))
bad("dns-policy", pod_spec(dnsPolicy="Weird"))
bad("dns-none", pod_spec(dnsPolicy="None"))
bad(
    "host-port-network",
    {
        "hostNetwork": True,
        "containers": [{"name": "c", "image": "a", "ports": [{"containerPort": 80, "hostPort": 81}]}],
    },
)
bad("active-deadline", pod_spec(activeDeadlineSeconds=0))
bad("node-selector", pod_spec(nodeSelector={"a/b/c": "x"}))
bad("node-name", pod_spec(nodeName="UPPER"))
bad("service-account", pod_spec(serviceAccountName="UPPER"))
bad("toleration-operator", pod_spec(tolerations=[{"key": "a", "operator": "Is"}]))
bad("toleration-value", pod_spec(tolerations=[{"key": "a", "operator": "Exists", "value": "x"}]))
bad("toleration-seconds", pod_spec(tolerations=[{"key": "a", "operator": "Exists", "tolerationSeconds": 1}]))
bad("toleration-effect", pod_spec(tolerations=[{"key": "a", "operator": "Exists", "effect": "Maybe"}]))
bad("toleration-no-key", pod_spec(tolerations=[{"value": "x"}]))
bad("volume-no-name", pod_spec(volumes=[{"emptyDir": {}}]))
bad("volume-name-bad", pod_spec(volumes=[{"name": "A_b", "emptyDir": {}}]))
bad("volume-twice", pod_spec(volumes=[{"name": "a"}, {"name": "a"}]))
bad("volume-two-kinds", pod_spec(volumes=[{"name": "a", "emptyDir": {}, "hostPath": {"path": "/x"}}]))
bad("volume-secret-no-name", pod_spec(volumes=[{"name": "a", "secret": {}}]))
bad("volume-configmap-no-name", pod_spec(volumes=[{"name": "a", "configMap": {}}]))
bad("volume-host-path", pod_spec(volumes=[{"name": "a", "hostPath": {"path": "/a/../b", "type": "Odd"}}]))
bad("volume-mode", pod_spec(volumes=[{"name": "a", "secret": {"secretName": "s", "defaultMode": 1000}}]))
bad(
    "volume-item-path",
    pod_spec(
        volumes=[
            {
                "name": "a",
                "configMap": {"name": "s", "items": [{"key": "", "path": "/abs"}, {"key": "k", "path": "../x"}]},
            }
        ]
    ),
)
bad("volume-claim", pod_spec(volumes=[{"name": "a", "persistentVolumeClaim": {}}]))
bad(
    "volume-downward",
    pod_spec(
        volumes=[
            {
                "name": "a",
                "downwardAPI": {"items": [{"path": "x"}, {"path": "y", "fieldRef": {"fieldPath": "spec.nodeName"}}]},
            }
        ]
    ),
)
bad(
    "volume-projected",
    pod_spec(
        volumes=[
            {
                "name": "a",
                "projected": {
                    "sources": [{"secret": {}}, {"serviceAccountToken": {"path": "", "expirationSeconds": 10}}]
                },
            }
        ]
    ),
)
bad("init-probe", pod_spec(initContainers=[{"name": "i", "image": "a", "livenessProbe": {"exec": {"command": ["a"]}}}]))
bad("init-name-taken", pod_spec(initContainers=[{"name": "main", "image": "a"}]))
bad("ephemeral", pod_spec(ephemeralContainers=[{"name": "e", "image": "a"}]))
bad("gate-bad", pod_spec(schedulingGates=[{"name": "a/b/c"}, {"name": "x"}, {"name": "x"}]))
bad("gate-and-node", pod_spec(schedulingGates=[{"name": "x"}], nodeName="n"))
bad(
    "affinity",
    pod_spec(
        affinity={
            "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}},
            "podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"labelSelector": {}}]},
        }
    ),
)
bad(
    "affinity-node-operator",
    pod_spec(
        affinity={
            "nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {
                    "nodeSelectorTerms": [
                        {
                            "matchExpressions": [
                                {"key": "a", "operator": "Has"},
                                {"key": "b", "operator": "In"},
                                {"key": "c", "operator": "Exists", "values": ["x"]},
                                {"key": "d", "operator": "Gt", "values": ["1", "2"]},
                            ]
                        }
                    ]
                }
            }
        }
    ),
)
bad(
    "affinity-weight",
    pod_spec(
        affinity={
            "podAntiAffinity": {
                "preferredDuringSchedulingIgnoredDuringExecution": [
                    {"weight": 0, "podAffinityTerm": {"topologyKey": "a"}}
                ]
            }
        }
    ),
)
bad("spread", pod_spec(topologySpreadConstraints=[{"maxSkew": 0, "topologyKey": "", "whenUnsatisfiable": "x"}]))
bad(
    "spread-twice",
    pod_spec(
        topologySpreadConstraints=[
            {"maxSkew": 1, "topologyKey": "z", "whenUnsatisfiable": "DoNotSchedule"},
            {"maxSkew": 1, "topologyKey": "z", "whenUnsatisfiable": "DoNotSchedule", "minDomains": 0},
        ]
    ),
)
bad("priority-unknown", pod_spec(priorityClassName="nope"))
bad("priority-set", pod_spec(priority=5))
bad("host-alias", pod_spec(hostAliases=[{"ip": "x", "hostnames": ["UPPER"]}]))
bad("security-context", pod_spec(securityContext={"runAsUser": -1, "fsGroup": -5, "supplementalGroups": [-1]}))
bad(
    "sysctl-twice",
    pod_spec(securityContext={"sysctls": [{"name": "a.b", "value": "1"}, {"name": "a.b", "value": "2"}]}),
)
bad("grace-wrong-type", pod_spec(terminationGracePeriodSeconds="ten"))
bad("deadline-float", pod_spec(activeDeadlineSeconds=1.5))
bad("hostname", pod_spec(hostname="UPPER", subdomain="a.b"))
bad("readiness-gate", pod_spec(readinessGates=[{"conditionType": "a/b/c"}]))
bad_container("container-name", name="Bad_Name")
bad_container("container-name-empty", name="")
bad_container("container-no-image", image="")
bad_container("container-image-space", image=" nginx ")
bad_container("pull-policy", imagePullPolicy="Sometimes")
bad_container("termination-policy", terminationMessagePolicy="Other")
bad_container("port-range", ports=[{"containerPort": 70000}, {"containerPort": 0}, {"containerPort": -1}])
bad_container("port-name", ports=[{"containerPort": 1, "name": "THIS-is-too-long-a-name"}])
bad_container("port-twice", ports=[{"containerPort": 1, "name": "a"}, {"containerPort": 2, "name": "a"}])
bad_container("port-protocol", ports=[{"containerPort": 1, "protocol": "ICMP"}])
bad_container("port-host-twice", ports=[{"containerPort": 1, "hostPort": 5}, {"containerPort": 2, "hostPort": 5}])
bad_container("env-no-name", env=[{"value": "x"}])
bad_container("env-name", env=[{"name": "a=b"}, {"name": "1ok"}])
bad_container(
    "env-two-sources",
    env=[
        {
            "name": "a",
            "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}, "secretKeyRef": {"name": "s", "key": "k"}},
        }
    ],
)
bad_container("env-no-source", env=[{"name": "a", "valueFrom": {}}])
bad_container(
    "env-value-and-source", env=[{"name": "a", "value": "x", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]
)
bad_container("env-field", env=[{"name": "a", "valueFrom": {"fieldRef": {"fieldPath": "metadata.bogus"}}}])
bad_container("env-field-labels", env=[{"name": "a", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels"}}}])
bad_container("env-resource", env=[{"name": "a", "valueFrom": {"resourceFieldRef": {"resource": "bogus"}}}])
bad_container(
    "env-divisor", env=[{"name": "a", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "2"}}}]
)
bad_container("env-key", env=[{"name": "a", "valueFrom": {"configMapKeyRef": {"name": "x", "key": "a b"}}}])
bad_container("env-from", envFrom=[{}, {"configMapRef": {"name": "x"}, "secretRef": {"name": "y"}}])
bad_container("mount-unknown", volumeMounts=[{"name": "nope", "mountPath": "/x"}])
bad_container("mount-no-path", volumeMounts=[{"name": "nope", "mountPath": ""}])
bad_container("request-over-limit", resources={"requests": {"cpu": "2"}, "limits": {"cpu": "1"}})
bad_container("resource-name", resources={"requests": {"bananas": "2"}})
bad_container("resource-negative", resources={"requests": {"cpu": "-1"}})
bad_container("resource-extended", resources={"requests": {"example.com/gpu": "1"}})
bad_container("resource-extended-fraction", resources={"limits": {"example.com/gpu": "500m"}})
bad_container(
    "resource-extended-differ", resources={"limits": {"example.com/gpu": "2"}, "requests": {"example.com/gpu": "1"}}
)
bad_container("resource-hugepages", resources={"limits": {"hugepages-2Mi": "2Mi"}})
bad_container("resource-text", resources={"limits": {"cpu": "a lot"}})
bad_container("probe-none", livenessProbe={})
bad_container("probe-two", livenessProbe={"exec": {"command": ["a"]}, "tcpSocket": {"port": 1}})
bad_container("probe-exec", livenessProbe={"exec": {}})
bad_container("probe-port", livenessProbe={"httpGet": {"port": 0}}, readinessProbe={"httpGet": {"port": "UPPER_"}})
bad_container("probe-scheme", livenessProbe={"httpGet": {"port": 1, "scheme": "FTP"}})
bad_container("probe-threshold", livenessProbe={"exec": {"command": ["a"]}, "successThreshold": 2})
bad_container("probe-negative", readinessProbe={"exec": {"command": ["a"]}, "periodSeconds": -1, "timeoutSeconds": -1})
bad_container("probe-header", livenessProbe={"httpGet": {"port": 1, "httpHeaders": [{"name": "a b", "value": "c"}]}})
bad_container("lifecycle-none", lifecycle={"preStop": {}})
bad_container("lifecycle-sleep", lifecycle={"preStop": {"sleep": {"seconds": 100}}})
bad_container(
    "security",
    securityContext={"runAsUser": -1, "procMount": "Odd", "privileged": True, "allowPrivilegeEscalation": False},
)
bad_container("seccomp", securityContext={"seccompProfile": {"type": "Odd"}})
bad_container("seccomp-local", securityContext={"seccompProfile": {"type": "Localhost"}})
bad_container("restart-policy-container", restartPolicy="Odd")
bad_container("container-wrong-type", ports="80")
bad_container("container-field-type", stdin="yes")
invalid.raw(
    "many-errors",
    "POST",
    invalid.path("pods"),
    body={
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "X"},
        "spec": {"restartPolicy": "a", "containers": [{"name": "A", "imagePullPolicy": "b"}]},
    },
)

update = Scenario("pod-update")
update.create(
    "pods",
    {
        "metadata": {"name": "p", "labels": {"a": "b"}},
        "spec": pod_spec(
            tolerations=[{"key": "k", "operator": "Exists", "effect": "NoExecute"}], activeDeadlineSeconds=100
        ),
    },
    save="p",
)
for name, sets in {
    "image": {"spec.containers.0.image": "nginx:1.28"},
    "label": {"metadata.labels.new": "label"},
    "deadline-down": {"spec.activeDeadlineSeconds": 50},
}.items():
    update.update("pods", "p", {"$from": "p", "$set": sets, "$unset": ["metadata.resourceVersion"]}, name, save="p")
for name, sets in {
    "deadline-up": {"spec.activeDeadlineSeconds": 500},
    "image-empty": {"spec.containers.0.image": ""},
    "command": {"spec.containers.0.command": ["x"]},
    "node-name": {"spec.nodeName": "other"},
    "restart-policy": {"spec.restartPolicy": "Never"},
    "add-container": {"spec.containers": [{"name": "a", "image": "b"}, {"name": "c", "image": "d"}]},
    "toleration-change": {"spec.tolerations.0.key": "other"},
    "gate-added": {"spec.schedulingGates": [{"name": "x"}]},
    "name-change": {"metadata.name": "q"},
    "uid-change": {"metadata.uid": "11111111-2222-3333-4444-555555555555"},
    "namespace-change": {"metadata.namespace": "elsewhere"},
    "stale-version": {"metadata.resourceVersion": "1"},
    "bad-version": {"metadata.resourceVersion": "abc"},
    "kind-change": {"kind": "Deployment"},
    "version-change": {"apiVersion": "apps/v1"},
}.items():
    update.update("pods", "p", {"$from": "p", "$set": sets}, name)
update.update("pods", "p", {"$from": "p", "$unset": ["spec.activeDeadlineSeconds"]}, "deadline-gone")
update.update("pods", "p", {"$from": "p", "$set": {"spec.tolerations": []}}, "tolerations-gone")
update.update("pods", "absent", {"$from": "p", "$set": {"metadata.name": "absent"}}, "put-absent")
update.update("pods", "p", {"$from": "p", "$set": {"status.phase": "Running"}}, "status-ignored", save="p")
update.update(
    "pods",
    "p",
    {
        "$from": "p",
        "$set": {
            "status.phase": "Running",
            "status.podIP": "10.1.2.3",
            "status.podIPs": [{"ip": "10.1.2.3"}],
            "spec.nodeName": "ignored",
            "metadata.labels.via": "status",
            "status.conditions": [{"type": "Ready", "status": "True"}],
        },
    },
    "status",
    sub="status",
    save="p",
)
update.patch("pods", "p", {"status": {"message": "hello", "phase": "Failed"}}, "status-merge", sub="status")
update.patch(
    "pods",
    "p",
    {"status": {"conditions": [{"type": "Ready", "status": "False"}, {"type": "Extra", "status": "True"}]}},
    "status-strategic",
    sub="status",
    type=STRATEGIC_PATCH,
)
update.patch("pods", "p", {"metadata": {"labels": {"a": None, "c": "d"}}}, "merge-null")
update.patch(
    "pods",
    "p",
    [
        {"op": "replace", "path": "/metadata/labels/c", "value": "e"},
        {"op": "test", "path": "/metadata/labels/c", "value": "e"},
        {"op": "add", "path": "/metadata/annotations", "value": {"x": "y"}},
    ],
    "json-patch",
    type=JSON_PATCH,
)
update.patch(
    "pods", "p", [{"op": "test", "path": "/metadata/labels/c", "value": "wrong"}], "json-patch-test", type=JSON_PATCH
)
update.patch("pods", "p", [{"op": "remove", "path": "/metadata/nothing"}], "json-patch-missing", type=JSON_PATCH)
update.patch("pods", "p", {"op": "remove"}, "json-patch-not-list", type=JSON_PATCH)
update.patch(
    "pods",
    "p",
    {"spec": {"containers": [{"name": "main", "image": "nginx:1.29"}]}},
    "strategic-image",
    type=STRATEGIC_PATCH,
)
update.patch(
    "pods",
    "p",
    {"spec": {"containers": [{"name": "main", "$patch": "delete"}]}},
    "strategic-delete",
    type=STRATEGIC_PATCH,
)
update.patch("pods", "p", {"spec": {"containers": [{"image": "x"}]}}, "strategic-no-key", type=STRATEGIC_PATCH)
update.patch("pods", "p", {"spec": {"bogus": 1}}, "merge-unknown-field")
update.create("pods", pod("fresh"))
update.patch("pods", "fresh", {"spec": {"bogus": 1}}, "merge-unknown-field-strict", query="fieldValidation=Strict")
update.patch("pods", "p", {}, "empty-merge")
update.patch("pods", "absent", {"metadata": {"labels": {"a": "b"}}}, "patch-absent")
update.patch("pods", "p", {"metadata": {"resourceVersion": "1"}}, "merge-stale")
update.patch("pods", "p", {"x": 1}, "wrong-type", type="application/json")
update.patch("pods", "p", {"metadata": {"labels": {"dry": "run"}}}, "patch-dry", query="dryRun=All")
update.get("pods", "p", save="p")
update.get("pods", "p", id="status-get", sub="status")

life = Scenario("pod-life")
life.create(
    "nodes",
    {
        "metadata": {"name": "life-node", "labels": {"life": "1"}},
        "status": {
            "capacity": {"cpu": "4", "memory": "8Gi", "pods": "110"},
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    },
    save="node",
)
life.create("pods", pod("unbound"))
life.delete("pods", "unbound")
life.get("pods", "unbound", id="unbound-gone")
life.create("pods", pod("bound"), save="bound")
binding = {
    "apiVersion": "v1",
    "kind": "Binding",
    "metadata": {"name": "bound"},
    "target": {"apiVersion": "v1", "kind": "Node", "name": "life-node"},
}
life.create("pods", {**binding, "target": {}}, id="bind-no-target", under="bound", sub="binding", kind=True)
life.create("pods", binding, id="bind", under="bound", sub="binding", kind=True)
life.create("pods", binding, id="bind-again", under="bound", sub="binding", kind=True)
life.get("pods", "bound", id="bound-now")
life.delete("pods", "bound", id="delete-graceful", query="gracePeriodSeconds=20", save="deleting")
life.get("pods", "bound", id="deleting", save="deleting")
life.update(
    "pods", "bound", {"$from": "deleting", "$set": {"metadata.finalizers": ["example.com/late"]}}, "finalizer-late"
)
life.delete("pods", "bound", id="delete-shorter", query="gracePeriodSeconds=5")
life.delete(
    "pods", "bound", id="delete-now", body={"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0}
)
life.get("pods", "bound", id="gone")
life.create("pods", pod("kept", terminationGracePeriodSeconds=3), save="kept")
life.patch("pods", "kept", {"metadata": {"finalizers": ["example.com/keep"]}}, "add-finalizer")
life.delete("pods", "kept", id="delete-with-finalizer")
life.get("pods", "kept", id="kept-still")
life.patch("pods", "kept", {"metadata": {"finalizers": None}}, "drop-finalizer")
life.get("pods", "kept", id="kept-gone")
life.create("pods", pod("pre"), save="pre")
life.delete(
    "pods", "pre", id="delete-wrong-uid", body={"preconditions": {"uid": "11111111-2222-3333-4444-555555555555"}}
)
life.delete("pods", "pre", id="delete-wrong-version", body={"preconditions": {"resourceVersion": "1"}})
life.delete("pods", "pre", id="delete-dry", query="dryRun=All")
life.delete("pods", "pre", id="delete-bad-propagation", query="propagationPolicy=Sideways")
life.delete("pods", "pre", id="delete-foreground", query="propagationPolicy=Foreground")
life.patch("pods", "pre", {"metadata": {"finalizers": None}}, "foreground-done")
life.create("pods", pod("evictee", {"app": "evict"}), save="evictee")
life.create(
    "poddisruptionbudgets",
    {"metadata": {"name": "budget"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "evict"}}}},
)
eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "evictee"}}
life.create("pods", eviction, id="evict-pending", under="evictee", sub="eviction", kind=True)
life.create(
    "pods", {**eviction, "metadata": {"name": "absent"}}, id="evict-absent", under="absent", sub="eviction", kind=True
)
life.create("pods", pod("runner", {"app": "evict"}), save="runner")
life.patch(
    "pods",
    "runner",
    {"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}},
    "runner-runs",
    sub="status",
)
life.create(
    "pods", {**eviction, "metadata": {"name": "runner"}}, id="evict-blocked", under="runner", sub="eviction", kind=True
)
life.get("pods", id="list-selected", query="labelSelector=app%3Devict")
life.get("pods", id="list-phase", query="fieldSelector=status.phase%3DRunning")
life.get("pods", id="list-node", query="fieldSelector=spec.nodeName%3Dlife-node")
life.raw("delete-collection", "DELETE", life.path("pods"), query="labelSelector=app%3Devict")
life.get("pods", id="list-empty")
life.patch(
    "nodes", "life-node", {"spec": {"unschedulable": True, "taints": [{"key": "a", "effect": "NoSchedule"}]}}, "cordon"
)
life.delete("nodes", "life-node")

SCENARIOS = [defaults, invalid, update, life]
