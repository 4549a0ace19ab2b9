"""Requests that kube-apiserver itself answers with 500 or above: what the fuzzer must expect (atoll/testing/fuzz)."""

from steps import STRATEGIC_PATCH, Scenario, deployment, pod

faults = Scenario("faults")
maps = faults.path("configmaps")
faults.create("configmaps", {"metadata": {"name": "m"}, "data": {"a": "b"}}, id="config-map")
faults.create("pods", pod("p", labels={"app": "x"}), id="pod")
faults.create("deployments", deployment("d"), id="deployment")
faults.raw("get-version", "GET", f"{maps}/m?resourceVersion=x")
faults.raw("list-version", "GET", f"{maps}?resourceVersion=x")
faults.raw("list-version-exact", "GET", f"{maps}?resourceVersion=x&resourceVersionMatch=Exact")
faults.raw("list-version-limit", "GET", f"{maps}?resourceVersion=-1&limit=1")
faults.raw("watch-version", "GET", f"{maps}?watch=1&resourceVersion=x")
faults.raw("continue", "GET", f"{maps}?limit=1&continue=%21%21")
faults.raw("continue-other", "GET", f"{maps}?limit=1&continue=e30")
faults.raw("delete-collection-version", "DELETE", f"{maps}?resourceVersion=x")
faults.raw("delete-precondition", "DELETE", f"{maps}/m", body={
    "kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"resourceVersion": "x"}})  # fmt: skip
faults.update("configmaps", "m", {"metadata": {"name": "m", "resourceVersion": "x"}}, id="update-version")
faults.patch("configmaps", "m", {"metadata": {"resourceVersion": "x"}}, "patch-version")
for label, target in {"kind": {"kind": "X", "name": "n"}, "name": {"kind": "Node"}}.items():
    faults.raw(f"bind-{label}", "POST", faults.path("pods", "p", "binding"), body={
        "apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p"}, "target": target})  # fmt: skip
faults.create("pods", pod("e", labels={"app": "x"}), id="running-pod")
ready = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
faults.patch("pods", "e", {"status": ready}, "pod-runs", sub="status")
for name in ("one", "two"):
    spec = {"selector": {"matchLabels": {"app": "x"}}, "minAvailable": 1}
    faults.create("poddisruptionbudgets", {"metadata": {"name": name}, "spec": spec}, id=f"budget-{name}")
faults.raw("evict", "POST", faults.path("pods", "e", "eviction"), body={
    "apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "e"}})  # fmt: skip
for label, body in {
    "unknown-field": {"spec": {"nosuch": {"a": 1}}}, "mixed-list": {"metadata": {"finalizers": ["a", 1]}},
    "no-key": {"spec": {"template": {"spec": {"containers": [{"image": "x"}]}}}}, "directive": {"$patch": "foo"},
    "nested-directive": {"spec": {"template": {"$patch": "foo"}}},
    "list-directive": {"spec": {"template": {"spec": {"containers": [{"name": "main", "$patch": "foo"}]}}}},
}.items():  # fmt: skip
    faults.patch("deployments", "d", body, f"strategic-{label}", type=STRATEGIC_PATCH)
faults.apply("deployments", "d", {"metadata": {"name": "d"}, "spec": {"template": {"spec": {"containers": [
    {"image": "x"}]}}}}, "apply-no-key")  # fmt: skip
faults.create("pods", pod("keyless", imagePullSecrets=[{}]), id="keyless")
faults.apply("pods", "keyless", {"metadata": {"name": "keyless", "labels": {"a": "b"}}}, "apply-over-keyless")
faults.raw("unknown-format", "POST", maps, raw="a: b", type="text/foo")
faults.raw("unknown-format-delete", "DELETE", f"{maps}/none", raw="x", type="text/foo")
faults.create("services", {"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}}, id="service")
unready = {"notReadyAddresses": [{"ip": "10.1.1.1"}], "ports": [{"port": 80}]}
faults.create("endpoints", {"metadata": {"name": "s"}, "subsets": [unready]}, id="endpoints")
faults.raw("service-proxy", "GET", faults.path("services", "s", "proxy"))
faults.raw("service-proxy-post", "POST", faults.path("services", "s", "proxy") + "/a/b")
faults.raw("pod-log", "GET", faults.path("pods", "p", "log"))
faults.raw("pod-proxy", "GET", faults.path("pods", "p", "proxy"))
faults.raw("pod-exec", "POST", faults.path("pods", "p", "exec") + "?command=x&stdout=1")
faults.raw("pod-attach", "GET", faults.path("pods", "p", "attach") + "?stdout=1")
faults.raw("pod-forward", "POST", faults.path("pods", "p", "portforward") + "?ports=80")
faults.create("nodes", {"metadata": {"name": "faults-node"}}, id="node")
faults.raw("node-proxy", "GET", faults.path("nodes", "faults-node", "proxy") + "/metrics")
faults.delete("nodes", "faults-node")

SCENARIOS = [faults]
