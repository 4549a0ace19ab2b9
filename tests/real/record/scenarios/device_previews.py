"""What Kubernetes 1.36 has of devices but leaves off by default: the betas of their kinds, and DeviceTaintRule."""

from __future__ import annotations

from steps import JSON_PATCH, Scenario, pod

previews = Scenario("device-previews", previews=True)
OLD, NEW = "resource.k8s.io/v1beta1", "resource.k8s.io/v1beta2"
DRIVER = "gpu.example.com"
RULES = f"{NEW}/devicetaintrules!"


def typed(version, kind, name, **fields):
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name}, **fields}


def rule(name, **fields):
    taint = {"key": "example.com/bad", "value": "yes", "effect": "NoSchedule", **fields.pop("taint", {})}
    selector = {"driver": DRIVER, "pool": "n1", "device": "gpu-0", **fields.pop("selector", {})}
    spec = {"deviceSelector": {key: value for key, value in selector.items() if value is not None}, "taint": taint}
    return typed(NEW, "DeviceTaintRule", name, spec=spec, **fields)


# what is served
for id, path in (
    ("group", "/apis/resource.k8s.io"), ("beta-1", f"/apis/{OLD}"), ("beta-2", f"/apis/{NEW}"),
):  # fmt: skip
    previews.raw(id, "GET", path)

# classes in each version
previews.create(
    f"{OLD}/deviceclasses!",
    typed(OLD, "DeviceClass", "big", spec={"selectors": [{"cel": {"expression": f"device.driver == '{DRIVER}'"}}]}),
    "class-old",
)
previews.get("deviceclasses", "big", "class-old-as-stable")
previews.get(f"{NEW}/deviceclasses!", "big", "class-old-as-new")

# claims
ASKED = {
    "deviceClassName": "big",
    "selectors": [{"cel": {"expression": "device.attributes['gpu.example.com'].model == 'X'"}}],
    "count": 2,
    "adminAccess": False,
    "tolerations": [{"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}],
    "capacity": {"requests": {"memory": "1Gi"}},
}
BOTH = {
    "devices": {
        "requests": [
            {"name": "plain", "deviceClassName": "big"},
            {"name": "full", **ASKED},
            {"name": "all", "deviceClassName": "big", "allocationMode": "All"},
            {"name": "alternatives", "firstAvailable": [{"name": "one", "deviceClassName": "big"}]},
        ],
        "constraints": [{"requests": ["plain"], "matchAttribute": "gpu.example.com/model"}],
        "config": [{"requests": ["full"], "opaque": {"driver": DRIVER, "parameters": {}}}],
    }
}
previews.create(f"{OLD}/resourceclaims", typed(OLD, "ResourceClaim", "old", spec=BOTH), "claim-old")
previews.get("resourceclaims", "old", "claim-old-as-stable", save="stable")
previews.get(f"{NEW}/resourceclaims", "old", "claim-old-as-new")
previews.raw("claims-as-old", "GET", previews.path(f"{OLD}/resourceclaims"))
for index, request in enumerate(
    [
        {"name": "none"},
        {"name": "count", "count": 3},
        {"name": "both", "deviceClassName": "big", "firstAvailable": [{"name": "a", "deviceClassName": "big"}]},
        {"name": "mode", "deviceClassName": "big", "allocationMode": "Some"},
        {"name": "empty", "firstAvailable": []},
    ]
):
    body = typed(OLD, "ResourceClaim", f"bad{index}", spec={"devices": {"requests": [request]}})
    previews.create(f"{OLD}/resourceclaims", body, f"claim-old-invalid-{index}")
previews.patch(f"{OLD}/resourceclaims", "old", {"metadata": {"labels": {"a": "b"}}}, "claim-old-labels")
previews.patch(
    f"{OLD}/resourceclaims",
    "old",
    [{"op": "replace", "path": "/spec/devices/requests/0/count", "value": 9}],
    "claim-old-immutable",
    type=JSON_PATCH,
)
previews.update(
    f"{OLD}/resourceclaims",
    "old",
    typed(OLD, "ResourceClaim", "old", spec=BOTH),
    "claim-old-update",
)
STATUS = {
    "status": {
        "allocation": {
            "devices": {"results": [{"request": "plain", "driver": DRIVER, "pool": "n1", "device": "gpu-0"}]}
        },
        "reservedFor": [{"resource": "pods", "name": "p", "uid": "u"}],
    }
}
previews.patch(f"{OLD}/resourceclaims", "old", STATUS, "claim-old-allocated", sub="status")
previews.get("resourceclaims", "old", "claim-allocated-as-stable")
previews.create(
    "resourceclaims",
    typed(
        "resource.k8s.io/v1",
        "ResourceClaim",
        "stable",
        spec={"devices": {"requests": [{"name": "a", "exactly": {"deviceClassName": "big"}}]}},
    ),
    "claim-stable",
)
previews.get(f"{OLD}/resourceclaims", "stable", "claim-stable-as-old")
previews.create(
    f"{OLD}/resourceclaimtemplates",
    typed(
        OLD,
        "ResourceClaimTemplate",
        "t",
        spec={"metadata": {"labels": {"a": "b"}}, "spec": {"devices": {"requests": [{"name": "x", **ASKED}]}}},
    ),
    "template-old",
)
previews.get("resourceclaimtemplates", "t", "template-old-as-stable")
previews.create(
    f"{NEW}/resourceclaims",
    typed(
        NEW,
        "ResourceClaim",
        "new",
        spec={"devices": {"requests": [{"name": "a", "exactly": {"deviceClassName": "big"}}]}},
    ),
    "claim-new",
)
previews.apply(
    f"{OLD}/resourceclaims",
    "applied",
    typed(OLD, "ResourceClaim", "applied", spec={"devices": {"requests": [{"name": "a", "deviceClassName": "big"}]}}),
    "claim-old-applied",
)
previews.apply(
    "resourceclaims",
    "applied",
    typed("resource.k8s.io/v1", "ResourceClaim", "applied", metadata={"name": "applied", "labels": {"c": "d"}}),
    "claim-applied-as-stable",
    manager="other",
)

# slices
POOL = {"name": "n1", "generation": 1, "resourceSliceCount": 1}
BASIC = {
    "attributes": {"model": {"string": "X"}, "index": {"int": 3}},
    "capacity": {"memory": {"value": "80Gi"}},
    "taints": [{"key": "k", "effect": "NoSchedule", "timeAdded": "2026-01-01T00:00:00Z"}],
}
SLICE = {"driver": DRIVER, "pool": POOL, "nodeName": "n1", "devices": [{"name": "gpu-0", "basic": BASIC}]}
previews.create(f"{OLD}/resourceslices!", typed(OLD, "ResourceSlice", "s", spec=SLICE), "slice-old")
previews.get("resourceslices", "s", "slice-old-as-stable")
previews.get(f"{NEW}/resourceslices!", "s", "slice-old-as-new")
previews.raw("slices-old-by-node", "GET", f"/apis/{OLD}/resourceslices", query="fieldSelector=spec.nodeName%3Dn1")
previews.create(
    f"{OLD}/resourceslices!",
    typed(OLD, "ResourceSlice", "s2", spec={**SLICE, "devices": [{"name": "gpu-0"}]}),
    "slice-old-without-basic",
)
previews.create(
    f"{OLD}/resourceslices!",
    typed(OLD, "ResourceSlice", "s3", spec={"driver": DRIVER, "pool": POOL, "allNodes": True, "devices": []}),
    "slice-old-everywhere",
)
previews.create(
    f"{OLD}/resourceslices!",
    typed(OLD, "ResourceSlice", "s4", spec={"driver": DRIVER, "pool": POOL, "nodeName": "", "devices": []}),
    "slice-old-nowhere",
)

# rules
previews.create(RULES, rule("one", taint={"timeAdded": "2026-01-01T00:00:00Z"}), "rule", save="rule")
previews.create(RULES, rule("dated"), "rule-dated-by-the-server")
previews.raw("rules-as-table", "GET", previews.path(RULES), accept="application/json;as=Table;v=v1;g=meta.k8s.io")
previews.patch(RULES, "one", {"spec": {"taint": {"value": "more"}}}, "rule-value")
previews.patch(RULES, "one", {"spec": {"taint": {"effect": "NoExecute"}}}, "rule-effect")
previews.patch(RULES, "one", {"metadata": {"labels": {"a": "b"}}}, "rule-labels")
previews.patch(RULES, "one", {"status": {"conditions": []}}, "rule-status-by-main")
CONDITION = {
    "type": "EvictionInProgress", "status": "False", "reason": "NotStarted", "message": "",
    "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": 1,
}  # fmt: skip
previews.patch(RULES, "one", {"status": {"conditions": [CONDITION]}}, "rule-status", sub="status")
for index, change in enumerate(
    [{"type": ""}, {"status": "Maybe"}, {"reason": ""}, {"reason": "a b"}, {"observedGeneration": -1},
     {"lastTransitionTime": None}]
):  # fmt: skip
    body = {"status": {"conditions": [{**CONDITION, **change}]}}
    previews.patch(RULES, "one", body, f"rule-status-invalid-{index}", sub="status")
for index, (selector, taint) in enumerate(
    [
        ({"driver": "Bad_Name"}, {}),
        ({"driver": ""}, {}),
        ({"pool": "a/b/-"}, {}),
        ({"pool": ""}, {}),
        ({"device": "A"}, {}),
        ({"device": ""}, {}),
        ({}, {"key": ""}),
        ({}, {"key": "a b"}),
        ({}, {"value": "a b"}),
        ({}, {"effect": ""}),
        ({}, {"effect": "Sometimes"}),
        ({"driver": None, "pool": None, "device": None}, {"effect": "None"}),
    ]
):
    previews.create(RULES, rule(f"r{index}", selector=selector, taint=taint), f"rule-{index}")
nothing = typed(NEW, "DeviceTaintRule", "nothing", spec={"taint": {"key": "a", "effect": "NoSchedule"}})
previews.create(RULES, nothing, "rule-without-selector")
previews.create(RULES, typed(NEW, "DeviceTaintRule", "no-taint", spec={}), "rule-without-taint")
previews.delete(RULES, "one", "rule-deleted")
previews.create("pods", pod("user", resourceClaims=[{"name": "a", "resourceClaimName": "old"}]), "pod")

SCENARIOS = [previews]
