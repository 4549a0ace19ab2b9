"""Built-in admission plugins that are on by default, one after another."""

from typing import Any

from steps import Scenario

plugins = Scenario("plugins")
CONTAINERS = [{"name": "c", "image": "i", "resources": {"requests": {"cpu": "100m", "memory": "10Mi"}}}]
ZONED = {"topology.kubernetes.io/zone": "z", "topology.kubernetes.io/region": "r", "other": "x"}


def pod(name: str, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"containers": CONTAINERS, **spec}}


for name, labels in (("zoned", ZONED), ("plain", {}), ("windows", {"kubernetes.io/os": "windows"})):
    plugins.create("nodes", {"metadata": {"name": name, "labels": labels}})
    status = {"allocatable": {"cpu": "1", "memory": "1Gi"}, "capacity": {"cpu": "1", "memory": "1Gi"}}
    plugins.patch("nodes", name, {"status": status}, f"status-{name}", sub="status")

# PodTopologyLabels
plugins.create("pods", {**pod("placed", nodeName="zoned"), "metadata": {"name": "placed", "labels": {
    "topology.kubernetes.io/zone": "mine", "a": "b"}}})  # fmt: skip
plugins.create("pods", pod("elsewhere", nodeName="plain"))
plugins.create("pods", pod("nowhere", nodeName="absent"))
for name, node in (("bound", "zoned"), ("bound-plain", "plain"), ("bound-windows", "windows")):
    plugins.create("pods", pod(name))
    body = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}, "target": {"kind": "Node", "name": node}}
    plugins.create("pods", body, id=f"bind-{name}", under=name, sub="binding", kind=True)
    plugins.get("pods", name)

# PodResizeValidator
resize = {"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "2", "memory": "2Gi"}}}]}}
fits = {"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "200m", "memory": "10Mi"}}}]}}
STRATEGIC = "application/strategic-merge-patch+json"
for name in ("bound", "bound-windows", "nowhere"):
    for label, body in (("more", resize), ("fits", fits)):
        plugins.patch("pods", name, body, f"resize-{name}-{label}", sub="resize", type=STRATEGIC)

# StorageObjectInUseProtection
plugins.create("storage.k8s.io/v1/volumeattributesclasses!", {"metadata": {"name": "gold"}, "driverName": "d.io",
               "parameters": {"a": "b"}}, id="attributes-class")  # fmt: skip

# NamespaceLifecycle
plugins.delete("namespaces", "default", id="immortal")
plugins.create("configmaps", {"metadata": {"name": "c"}}, id="no-namespace", namespace="plugins-absent")

# Priority
plugins.create("priorityclasses", {"metadata": {"name": "high"}, "value": 10, "preemptionPolicy": "Never"})
plugins.create("priorityclasses", {"metadata": {"name": "global"}, "value": 5, "globalDefault": True})
plugins.create("priorityclasses", {"metadata": {"name": "second"}, "value": 6, "globalDefault": True})
plugins.create("priorityclasses", {"metadata": {"name": "system-mine"}, "value": 2000000001})
plugins.create("priorityclasses", {"metadata": {"name": "too-high"}, "value": 1000000001})
plugins.create("pods", pod("high", priorityClassName="high"), query="dryRun=All")
plugins.create("pods", pod("global"), query="dryRun=All")
plugins.create("pods", pod("wrong-priority", priorityClassName="high", priority=3), query="dryRun=All")
plugins.create("pods", pod("unknown-priority", priorityClassName="nope"), query="dryRun=All")
plugins.create("pods", pod("system", priorityClassName="system-node-critical"), query="dryRun=All")
plugins.delete("priorityclasses", "global")

# DefaultTolerationSeconds
tolerations = [{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute"}]
plugins.create("pods", pod("tolerant", tolerations=tolerations), query="dryRun=All")

# RuntimeClass
overhead = {"podFixed": {"cpu": "10m"}}
scheduling = {"nodeSelector": {"runtime": "x"}, "tolerations": [{"key": "x", "operator": "Exists"}]}
plugins.create("runtimeclasses", {"metadata": {"name": "rc"}, "handler": "h", "overhead": overhead,
                                  "scheduling": scheduling})  # fmt: skip
plugins.create("pods", pod("rc", runtimeClassName="rc"), query="dryRun=All")
plugins.create("pods", pod("rc-selector", runtimeClassName="rc", nodeSelector={"runtime": "y"}), query="dryRun=All")
plugins.create("pods", pod("rc-overhead", runtimeClassName="rc", overhead={"cpu": "1"}), query="dryRun=All")
plugins.create("pods", pod("no-rc", runtimeClassName="nope"), query="dryRun=All")
plugins.create("pods", pod("only-overhead", overhead={"cpu": "1"}), query="dryRun=All")

# DefaultStorageClass, DefaultIngressClass, PersistentVolumeClaimResize
storage = {"metadata": {"name": "first", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
           "provisioner": "p.io"}  # fmt: skip
plugins.create("storageclasses", storage)
claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
plugins.create("persistentvolumeclaims", {"metadata": {"name": "c"}, "spec": claim})
plugins.create("persistentvolumeclaims", {"metadata": {"name": "d"}, "spec": {**claim, "storageClassName": ""}})
more = {"spec": {"resources": {"requests": {"storage": "2Gi"}}}}
plugins.patch("persistentvolumeclaims", "c", more, "grow-unbound")
plugins.patch("persistentvolumeclaims", "c", {"status": {"phase": "Bound"}}, "bind-claim", sub="status")
plugins.patch("persistentvolumeclaims", "c", more, "grow-bound")
plugins.patch("storageclasses", "first", {"allowVolumeExpansion": True}, "allow-growth")
plugins.patch("persistentvolumeclaims", "c", more, "grow")
ingress = {"metadata": {"name": "first", "annotations": {"ingressclass.kubernetes.io/is-default-class": "true"}},
           "spec": {"controller": "x.io/y"}}  # fmt: skip
plugins.create("ingressclasses", ingress)
backend = {"defaultBackend": {"service": {"name": "s", "port": {"number": 80}}}}
plugins.create("ingresses", {"metadata": {"name": "i"}, "spec": backend})
plugins.create("ingresses", {"metadata": {"name": "j", "annotations": {"kubernetes.io/ingress.class": "y"}},
                             "spec": backend})  # fmt: skip

# LimitRanger
ranges = [{"type": "Container", "max": {"cpu": "1"}, "min": {"cpu": "50m"}, "default": {"memory": "20Mi"},
           "defaultRequest": {"memory": "15Mi"}, "maxLimitRequestRatio": {"cpu": "2"}},
          {"type": "Pod", "max": {"memory": "50Mi"}},
          {"type": "PersistentVolumeClaim", "max": {"storage": "5Gi"}, "min": {"storage": "500Mi"}}]  # fmt: skip
plugins.create("limitranges", {"metadata": {"name": "l"}, "spec": {"limits": ranges}})


def sized(**resources: Any) -> dict[str, Any]:
    return {"containers": [{"name": "c", "image": "i", "resources": resources}]}


for label, found in {
    "bare": sized(), "low": sized(requests={"cpu": "10m"}, limits={"cpu": "20m"}),
    "high": sized(requests={"cpu": "2"}, limits={"cpu": "2"}),
    "ratio": sized(requests={"cpu": "100m"}, limits={"cpu": "500m"}),
    "pod-memory": sized(requests={"cpu": "100m", "memory": "60Mi"}, limits={"cpu": "100m", "memory": "60Mi"}),
    "fits": sized(requests={"cpu": "100m"}, limits={"cpu": "150m"}),
}.items():  # fmt: skip
    plugins.create("pods", {"metadata": {"name": f"l-{label}"}, "spec": found}, query="dryRun=All")
for label, size in (("small", "1Mi"), ("large", "6Gi")):
    spec = {**claim, "resources": {"requests": {"storage": size}}}
    plugins.create("persistentvolumeclaims", {"metadata": {"name": f"l-{label}"}, "spec": spec})

SCENARIOS = [plugins]
