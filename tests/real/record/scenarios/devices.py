"""resource.k8s.io/v1: what the API server defaults, refuses and keeps of claims, templates, classes and slices."""

from __future__ import annotations

from steps import JSON_PATCH, Scenario, pod

devices = Scenario("devices")
DRIVER = "gpu.example.com"


def exactly(name="gpu", **fields):
    return {"name": name, "exactly": {"deviceClassName": "big", **fields}}


def claim_spec(*requests, **fields):
    return {"devices": {"requests": list(requests) or [exactly()], **fields}}


def claim(name, *requests, **fields):
    return {"metadata": {"name": name}, "spec": claim_spec(*requests, **fields)}


def selector(text):
    return {"selectors": [{"cel": {"expression": text}}]}


def slice_of(name, devices=None, **fields):
    pool = fields.pop("pool", {"name": "n1", "generation": 1, "resourceSliceCount": 1})
    spec = {"driver": DRIVER, "pool": pool, **({} if fields.pop("nowhere", False) else {"nodeName": "n1"})}
    if devices is not None:
        spec["devices"] = devices
    return {"metadata": {"name": name}, "spec": {**spec, **fields}}


def invalid(resource, named, bodies):
    for index, obj in enumerate(bodies):
        devices.create(resource, obj, f"{named}-{index}")


# classes
devices.create(
    "deviceclasses",
    {
        "metadata": {"name": "big"},
        "spec": {
            "selectors": [{"cel": {"expression": f"device.driver == '{DRIVER}'"}}],
            "config": [{"opaque": {"driver": DRIVER, "parameters": {"mode": "fast"}}}],
            "extendedResourceName": "example.com/gpu",
        },
    },
    save="class",
)
devices.patch("deviceclasses", "big", {"spec": {"selectors": None}}, "class-changes")
devices.patch("deviceclasses", "big", {"metadata": {"labels": {"a": "b"}}}, "class-labels")
invalid(
    "deviceclasses",
    "class-invalid",
    [
        {"metadata": {"name": "Bad_Name"}, "spec": {}},
        {"metadata": {"name": "c1"}, "spec": {"selectors": [{}]}},
        {"metadata": {"name": "c2"}, "spec": {"selectors": [{"cel": {"expression": "nothing"}}]}},
        {"metadata": {"name": "c3"}, "spec": {"config": [{}]}},
        {"metadata": {"name": "c4"}, "spec": {"config": [{"opaque": {"driver": "", "parameters": None}}]}},
        {"metadata": {"name": "c5"}, "spec": {"config": [{"opaque": {"driver": "d", "parameters": [1]}}]}},
        {"metadata": {"name": "c6"}, "spec": {"extendedResourceName": "cpu"}},
        {"metadata": {"name": "c7"}, "spec": {"extendedResourceName": "requests.example.com/x"}},
        {"metadata": {"name": "c8"}, "spec": {"selectors": [{"cel": {"expression": "true"}}] * 33}},
    ],
)

# selectors
TEXTS = [
    "device.attributes['gpu.example.com'].model == 'H200'",
    "device.attributes['gpu.example.com'].driverVersion.isGreaterThan(semver('1.2.3'))",
    "device.capacity['gpu.example.com'].memory.compareTo(quantity('80Gi')) >= 0",
    "cel.bind(d, device.attributes['gpu.example.com'], d.a && d.b)",
    "device.allowMultipleAllocations",
    "device.attributes['gpu.example.com'].flag",
    "'model' in device.attributes['gpu.example.com']",
    "device.attributes['a'].model in ['x', 'y']",
    "device.attributes['a'].name.startsWith('x')",
    "has(device.attributes['a'].name)",
    "device.attributes.exists(d, d == 'a')",
    "device.capacity['a'].exists(c, device.capacity['a'][c].isGreaterThan(quantity('1')))",
    "optional.of(device.attributes['a'].x).orValue(true) == true",
    "true",
    "1",
    "'text'",
    "device.driver",
    "device.nothing",
    "device.attributes['a'].x + 1 == 2",
    "device.attributes['a'].list.exists(x, x == 1)",
    "device.driver.matches('[')",
    "device.driver ==",
    "dyn(device)",
    "device.attributes['a']",
    "device.capacity['a'].memory",
    "device.capacity['a'].memory == 1",
    "device.attributes.all(d, device.attributes[d].all(n, device.attributes[d].all(m, m == n)))",
    "device.attributes.all(x, device.attributes.all(y, device.attributes.all(z, device.attributes.all(w, x == w))))",
    "device.driver.size() > 1 && device.driver.lowerAscii() == 'x'",
    "'a'.includes('b')",
]
for index, text in enumerate(TEXTS):
    devices.create("resourceclaims", claim(f"text-{index}", exactly(**selector(text))), f"selector-{index}")
devices.create("resourceclaims", claim("long", exactly(**selector("'" + "x" * 10240 + "' == ''"))), "selector-long")

# claims
devices.create("resourceclaims", claim("plain"), save="plain")
devices.create(
    "resourceclaims",
    {
        "metadata": {"name": "full"},
        "spec": claim_spec(
            exactly("a", count=2, **selector("true"), tolerations=[{"key": "k", "operator": "Exists"}, {"value": "v"}]),
            exactly("b", allocationMode="All"),
            {
                "name": "c",
                "firstAvailable": [
                    {"name": "x", "deviceClassName": "big", "count": 4},
                    {"name": "y", "deviceClassName": "small"},
                ],
            },
            exactly("d", capacity={"requests": {"memory": "1Gi"}}),
            constraints=[
                {"requests": ["a", "c/x"], "matchAttribute": "gpu.example.com/numa"},
                {"distinctAttribute": "gpu.example.com/uuid"},
            ],
            config=[{"requests": ["a"], "opaque": {"driver": DRIVER, "parameters": {"x": 1}}}],
        ),
        "status": {"reservedFor": [{"resource": "pods", "name": "x", "uid": "y"}]},
    },
    save="full",
)
devices.create("resourceclaims", {"metadata": {"name": "empty"}, "spec": {}}, "claim-empty")
invalid(
    "resourceclaims",
    "claim-invalid",
    [
        claim("x", {"name": "a"}),
        claim("x", {"name": "a", "exactly": {"deviceClassName": "big"}, "firstAvailable": [{"name": "b"}]}),
        claim("x", exactly("A_B")),
        claim("x", exactly(""), exactly("")),
        claim("x", exactly("a"), exactly("a")),
        claim("x", {"name": "a", "exactly": {"deviceClassName": ""}}),
        claim("x", exactly("a", deviceClassName="Not Good")),
        claim("x", exactly("a", count=-1)),
        claim("x", exactly("a", allocationMode="All", count=1)),
        claim("x", exactly("a", allocationMode="Some")),
        claim("x", exactly("a", selectors=[{}])),
        claim("x", exactly("a", tolerations=[{"key": "k", "operator": "Maybe", "effect": "Soon"}])),
        claim("x", exactly("a", tolerations=[{"key": "a b", "operator": "Exists", "value": "v"}])),
        claim("x", exactly("a", tolerations=[{"key": "k", "operator": "Equal", "value": "v v"}] * 17)),
        claim("x", {"name": "a", "firstAvailable": [{"name": "b"}]}),
        claim("x", {"name": "a", "firstAvailable": [{"name": "b", "deviceClassName": "big"}] * 2}),
        claim("x", {"name": "a", "firstAvailable": [{"name": f"b{i}", "deviceClassName": "big"} for i in range(9)]}),
        claim("x", exactly("a"), constraints=[{}]),
        claim("x", exactly("a"), constraints=[{"requests": ["b"], "matchAttribute": "x/y"}]),
        claim("x", exactly("a"), constraints=[{"requests": ["a", "a"], "matchAttribute": "noslash"}]),
        claim("x", exactly("a"), constraints=[{"requests": ["a/b/c"], "matchAttribute": "Bad_Domain/y"}]),
        claim("x", exactly("a"), constraints=[{"matchAttribute": "x/0y"}]),
        claim("x", exactly("a"), constraints=[{"matchAttribute": "x/y", "distinctAttribute": "x/y"}]),
        claim("x", exactly("a"), config=[{"requests": ["z"]}]),
        claim("x", exactly("a"), config=[{"opaque": {"driver": "Bad_Driver", "parameters": "text"}}]),
        claim("x", *[exactly(f"a{i}") for i in range(33)]),
        claim("x", exactly("a", adminAccess=True)),
    ],
)
devices.update(
    "resourceclaims",
    "plain",
    {"$from": "plain", "$set": {"spec.devices.requests.0.exactly.count": 2}},
    "claim-immutable",
)
devices.patch("resourceclaims", "plain", {"metadata": {"annotations": {"a": "b"}}}, "claim-annotated")
OPEN = {"resource.kubernetes.io/admin-access": "true"}
devices.patch("namespaces", "devices", {"metadata": {"labels": OPEN}}, "open")
devices.create("resourceclaims", claim("admin", exactly("a", adminAccess=True)), "claim-admin")


# allocation
def result(**fields):
    return {"request": "gpu", "driver": DRIVER, "pool": "n1", "device": "gpu-0", **fields}


def allocation(*results, **fields):
    return {"devices": {"results": list(results) or [result()], **fields}}


USER = {"resource": "pods", "name": "p", "uid": "5f3b1d0e-1111-4444-8888-000000000001"}


def status(id, body, name="plain", **options):
    devices.patch("resourceclaims", name, {"status": body}, id, sub="status", **options)


status("status-reserved-only", {"reservedFor": [USER]})
status("status-bad-request", {"allocation": allocation(result(request="other"))})
status("status-bad-fields", {"allocation": allocation(result(driver="", pool="", device=""))})
status("status-bad-pool", {"allocation": allocation(result(pool="A//b", device="X_"))})
status(
    "status-bad-config",
    {
        "allocation": allocation(
            config=[
                {"source": "Nowhere", "requests": ["gpu"], "opaque": {"driver": DRIVER, "parameters": {}}},
                {"requests": ["z"]},
            ]
        )
    },
)
status("status-bad-selector", {"allocation": {**allocation(), "nodeSelector": {"nodeSelectorTerms": []}}})
status("status-user-bad", {"allocation": allocation(), "reservedFor": [{}, USER, USER]})
status(
    "status-allocated",
    {
        "allocation": {
            **allocation(),
            "nodeSelector": {
                "nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}]
            },
            "allocationTimestamp": "2026-01-02T03:04:05Z",
        },
        "reservedFor": [USER],
    },
)
status("status-other-allocation", {"allocation": allocation(result(device="gpu-1"))})
status("status-device", {"devices": [{"driver": DRIVER, "pool": "n1", "device": "gpu-0", "data": {"a": 1}}]})
status("status-device-unknown", {"devices": [{"driver": DRIVER, "pool": "n1", "device": "gpu-9"}]})
status(
    "status-device-network",
    {
        "devices": [
            {
                "driver": DRIVER,
                "pool": "n1",
                "device": "gpu-0",
                "networkData": {"ips": ["10.0.0.1", "10.0.0.1/24", "10.0.0.1/24"], "interfaceName": "e" * 300},
            }
        ]
    },
)
devices.patch(
    "resourceclaims", "plain", {"metadata": {"finalizers": ["resource.kubernetes.io/delete-protection"]}}, "finalizer"
)
devices.patch("resourceclaims", "plain", {"status": {"reservedFor": None}}, "status-not-by-update")
devices.delete("resourceclaims", "plain")
status("status-add-when-deleting", {"reservedFor": [USER, {"resource": "pods", "name": "q", "uid": "u"}]})
status("status-free", {"allocation": None, "reservedFor": None})
devices.patch("resourceclaims", "plain", {"metadata": {"finalizers": None}}, "unprotected")
devices.get("resourceclaims", "plain", "plain-gone")
status(
    "status-strategic",
    {"allocation": allocation(result(request="a")), "reservedFor": [USER]},
    "full",
    type="application/strategic-merge-patch+json",
)
status(
    "status-strategic-add",
    {"reservedFor": [{"resource": "pods", "name": "q", "uid": "u"}]},
    "full",
    type="application/strategic-merge-patch+json",
)
status(
    "status-strategic-delete",
    {"reservedFor": [{"$patch": "delete", "uid": USER["uid"]}]},
    "full",
    type="application/strategic-merge-patch+json",
)

# who may allocate, and who may speak of devices
RULES = [
    {"apiGroups": ["resource.k8s.io"], "resources": ["resourceclaims/status"], "verbs": ["patch", "update"]},
    {"apiGroups": ["resource.k8s.io"], "resources": ["resourceclaims"], "verbs": ["get"]},
    {
        "apiGroups": ["resource.k8s.io"],
        "resources": ["resourceclaims/driver"],
        "resourceNames": ["nic.example.com"],
        "verbs": ["arbitrary-node:patch"],
    },
]
devices.create("clusterroles", {"metadata": {"name": "devices-speaker"}, "rules": RULES})
devices.create(
    "clusterrolebindings",
    {
        "metadata": {"name": "devices-speaker"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "devices-speaker"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "driver"}],
    },
)
devices.create("resourceclaims", claim("spoken"))
NIC = {"driver": "nic.example.com", "pool": "n1", "device": "nic-0"}
BOTH = allocation(result(), {"request": "gpu", **NIC})
status("may-not-allocate", {"allocation": BOTH}, "spoken", user="driver", settle="resourceclaims/binding")
status("allocated-for-driver", {"allocation": BOTH}, "spoken")
status("may-speak", {"devices": [NIC]}, "spoken", user="driver")
OTHER = {"driver": DRIVER, "pool": "n1", "device": "gpu-0"}
status("may-not-speak", {"devices": [NIC, OTHER]}, "spoken", user="driver")
status("may-not-free", {"allocation": None}, "spoken", user="driver")

# templates
devices.create("resourceclaimtemplates", {"metadata": {"name": "t"}, "spec": {"spec": claim_spec()}}, save="template")
devices.create(
    "resourceclaimtemplates",
    {
        "metadata": {"name": "t2"},
        "spec": {"metadata": {"labels": {"a": "b c"}, "annotations": {"x y": "z"}}, "spec": claim_spec(exactly("A"))},
    },
    "template-invalid",
)
devices.update(
    "resourceclaimtemplates",
    "t",
    {"$from": "template", "$set": {"spec.spec.devices.requests.0.exactly.count": 2}},
    "template-immutable",
)
devices.patch("resourceclaimtemplates", "t", {"metadata": {"labels": {"a": "b"}}}, "template-labelled")

# slices
GPU = {
    "name": "gpu-0",
    "attributes": {
        "model": {"string": "H200"},
        "index": {"int": 0},
        "nvlink": {"bool": True},
        "driverVersion": {"version": "550.1.2"},
    },
    "capacity": {"memory": {"value": "141Gi"}},
}
devices.create("resourceslices", slice_of("plain", [GPU]), "slice-plain", save="slice")
devices.create(
    "resourceslices",
    slice_of(
        "tainted", [{**GPU, "taints": [{"key": "x", "effect": "NoSchedule", "timeAdded": "2026-01-01T00:00:00Z"}]}]
    ),
    "slice-tainted",
)
devices.create(
    "resourceslices",
    slice_of(
        "parts",
        sharedCounters=[{"name": "gpu-0", "counters": {"memory": {"value": "80Gi"}}}],
        pool={"name": "parts", "generation": 1, "resourceSliceCount": 2},
    ),
    "slice-counters",
)
devices.create(
    "resourceslices",
    slice_of(
        "part-devices",
        [{"name": "mig", "consumesCounters": [{"counterSet": "gpu-0", "counters": {"memory": {"value": "10Gi"}}}]}],
        pool={"name": "parts", "generation": 1, "resourceSliceCount": 2},
    ),
    "slice-parts",
)
devices.create(
    "resourceslices",
    slice_of(
        "shared",
        [
            {
                "name": "nic",
                "allowMultipleAllocations": True,
                "allNodes": True,
                "bindsToNode": True,
                "bindingConditions": ["ready"],
                "bindingFailureConditions": ["failed"],
                "capacity": {
                    "bandwidth": {
                        "value": "10G",
                        "requestPolicy": {"default": "1G", "validRange": {"min": "1G", "step": "1G"}},
                    }
                },
            }
        ],
        nowhere=True,
        perDeviceNodeSelection=True,
    ),
    "slice-shared",
)
devices.create("resourceslices", slice_of("lists", [{"name": "g", "attributes": {"a": {"ints": [1]}}}]), "slice-lists")
devices.create("resourceslices", slice_of("upper", [], driver="GPU.example.com"), "slice-upper")
invalid(
    "resourceslices",
    "slice-invalid",
    [
        slice_of("x", [], nowhere=True),
        slice_of("x", [], allNodes=True),
        slice_of("x", [], nowhere=True, allNodes=False),
        slice_of("x", [], nodeName=""),
        slice_of("x", [], nowhere=True, nodeSelector={"nodeSelectorTerms": []}),
        slice_of("x", [], driver="", pool={"name": "", "generation": -1, "resourceSliceCount": 0}),
        slice_of("x", [GPU, GPU]),
        slice_of("x", [{"name": "Bad"}]),
        slice_of("x", [{**GPU, "attributes": {"a": {}}}]),
        slice_of("x", [{**GPU, "attributes": {"a": {"string": "x", "int": 1}}}]),
        slice_of("x", [{**GPU, "attributes": {"a": {"version": "1.2"}}}]),
        slice_of("x", [{**GPU, "attributes": {"a": {"string": "x" * 65}}}]),
        slice_of("x", [{**GPU, "attributes": {"0a": {"int": 1}}}]),
        slice_of("x", [{**GPU, "attributes": {"/a": {"int": 1}}}]),
        slice_of("x", [{**GPU, "attributes": {"x/": {"int": 1}}}]),
        slice_of("x", [{**GPU, "attributes": {f"a{i}": {"int": 1} for i in range(32)}}]),
        slice_of("x", [{**GPU, "taints": [{"key": "", "effect": ""}]}]),
        slice_of("x", [{**GPU, "taints": [{"key": "k", "value": "a b", "effect": "Often"}]}]),
        slice_of("x", [{**GPU, "taints": [{"key": f"k{i}", "effect": "None"} for i in range(17)]}]),
        slice_of("x", [{**GPU, "nodeName": "n1"}]),
        slice_of("x", [{**GPU}], nowhere=True, perDeviceNodeSelection=True),
        slice_of("x", [{**GPU, "nodeName": "n1", "allNodes": True}], nowhere=True, perDeviceNodeSelection=True),
        slice_of("x", [{"name": "a", "consumesCounters": [{"counterSet": "", "counters": {}}]}]),
        slice_of(
            "x", [{"name": "a", "consumesCounters": [{"counterSet": "c", "counters": {"m": {"value": "1"}}}] * 3}]
        ),
        slice_of("x", sharedCounters=[{"name": "", "counters": {}}]),
        slice_of("x", [GPU], sharedCounters=[{"name": "a", "counters": {"m": {"value": "1"}}}]),
        slice_of("x", sharedCounters=[{"name": "a", "counters": {"m": {"value": "1"}}}] * 2),
        slice_of("x", [{"name": f"d{i}"} for i in range(129)]),
        slice_of("x", [{**GPU, "name": f"d{i}", "taints": [{"key": "k", "effect": "None"}]} for i in range(65)]),
        slice_of("x", [{"name": "a", "capacity": {"m": {"value": "1", "requestPolicy": {"default": "1"}}}}]),
        slice_of("x", [{"name": "a", "bindingConditions": ["x"]}]),
        slice_of("x", [{"name": "a", "bindingConditions": ["x", "x"], "bindingFailureConditions": ["x"]}]),
    ],
)


def multi(policy):
    capacity = {"m": {"value": "10", "requestPolicy": policy}}
    return slice_of("x", [{"name": "a", "allowMultipleAllocations": True, "capacity": capacity}])


invalid(
    "resourceslices",
    "policy-invalid",
    [
        multi({"validValues": ["1", "2"]}),
        multi({"default": "3", "validValues": ["2", "1", "20"]}),
        multi({"default": "1", "validRange": {}}),
        multi({"validRange": {"min": "1"}}),
        multi({"default": "1", "validRange": {"min": "2", "max": "11", "step": "4"}}),
        multi({"default": "1", "validRange": {"min": "1"}, "validValues": ["1"]}),
    ],
)
devices.patch(
    "resourceslices",
    "plain",
    [
        {"op": "replace", "path": "/spec/nodeName", "value": "n2"},
        {"op": "replace", "path": "/spec/driver", "value": "x"},
    ],
    "slice-immutable",
    type=JSON_PATCH,
)
devices.patch(
    "resourceslices",
    "plain",
    [{"op": "replace", "path": "/spec/pool/generation", "value": 2}],
    "slice-next",
    type=JSON_PATCH,
)
devices.raw(
    "slices-by-node",
    "GET",
    "/apis/resource.k8s.io/v1/resourceslices",
    query="fieldSelector=spec.nodeName%3Dn1,spec.driver%3Dgpu.example.com",
)
devices.raw("slices-bad-field", "GET", "/apis/resource.k8s.io/v1/resourceslices", query="fieldSelector=spec.x%3Dn1")

# pods
devices.create(
    "pods",
    pod(
        "user",
        resourceClaims=[
            {"name": "one", "resourceClaimName": "full"},
            {"name": "two", "resourceClaimTemplateName": "t"},
        ],
        containers=[
            {"name": "c", "image": "i", "resources": {"claims": [{"name": "one", "request": "a"}, {"name": "two"}]}}
        ],
    ),
    save="pod",
)
devices.patch(
    "pods",
    "user",
    {"status": {"resourceClaimStatuses": [{"name": "two", "resourceClaimName": "user-two-abcde"}]}},
    "pod-claim-status",
    sub="status",
)
devices.patch(
    "pods",
    "user",
    {"status": {"resourceClaimStatuses": [{"name": "other", "resourceClaimName": "A_"}]}},
    "pod-claim-status-bad",
    sub="status",
)

SCENARIOS = [devices]
