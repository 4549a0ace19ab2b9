"""What walking through the API by hand against both servers turned up."""

from steps import Scenario, pod_spec

walk = Scenario("walk")

walk.create("services", {"metadata": {"name": "fixed"}, "spec": {"ports": [{"port": 80}]}})
for name, address in (("out-of-range", "1.2.3.4"), ("headless", "None")):
    walk.patch("services", "fixed", {"spec": {"clusterIP": address}}, f"address-{name}")

waiting = {"suspend": True, "template": {"spec": pod_spec(restartPolicy="Never")}}
walk.create("jobs", {"metadata": {"name": "waiting"}, "spec": waiting})
container = pod_spec()["containers"][0]
larger = {**container, "resources": {"requests": {"cpu": "2"}}}
for name, spec in {
    "resources": {"containers": [larger]},
    "image": {"containers": [{**larger, "image": "other"}]},
    "node-selector": {"nodeSelector": {"a": "b"}},
}.items():
    walk.patch("jobs", "waiting", {"spec": {"template": {"spec": spec}}}, f"job-{name}")

blocks = {"podSelector": {}, "ingress": [{"from": [{"ipBlock": {"cidr": "1.2.3.4/33"}}]}]}
walk.create("networkpolicies", {"metadata": {"name": "blocks"}, "spec": blocks})

walk.raw("nobody", "POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", body={"spec": {}})

for version, field in (
    ("events.k8s.io/v1", "regarding.kind"),
    ("events.k8s.io/v1", "involvedObject.kind"),
    ("v1", "x"),
):
    root = "/api" if version == "v1" else "/apis"
    path = f"{root}/{version}/namespaces/walk/events"
    walk.raw(f"events-{version}-{field}", "GET", path, query=f"fieldSelector={field}%3DNone")
for version in ("", "v1", "apps/v1"):
    bound = {"kind": "ConfigMap", "name": "x", **({"apiVersion": version} if version else {})}
    walk.create(
        "serviceaccounts",
        {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"boundObjectRef": bound}},
        f"bind-token-{version or 'none'}",
        under="default",
        sub="token",
        kind=True,
    )

SCENARIOS = [walk]
