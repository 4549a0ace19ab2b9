"""Custom resources: definitions, schemas, pruning, defaulting, CEL, versions, status and scale."""

from steps import STRATEGIC_PATCH, Scenario

crd = Scenario("crd")
LOOSE = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
schema = {
    "type": "object",
    "properties": {
        "spec": {
            "type": "object",
            "required": ["size"],
            "properties": {
                "size": {"type": "integer", "minimum": 1, "maximum": 10},
                "color": {"type": "string", "enum": ["red", "green"], "default": "red"},
                "name": {"type": "string", "pattern": "^[a-z]+$", "maxLength": 5},
                "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 3, "x-kubernetes-list-type": "set"},
                "ports": {
                    "type": "array",
                    "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["port"],
                    "items": {
                        "type": "object",
                        "required": ["port"],
                        "properties": {"port": {"type": "integer"}, "name": {"type": "string", "default": "p"}},
                    },
                },
                "limits": {"type": "object", "additionalProperties": {"type": "integer"}},
                "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                "quantity": {"x-kubernetes-int-or-string": True},
                "maybe": {"type": "string", "nullable": True},
                "when": {"type": "string", "format": "date-time"},
                "low": {"type": "integer"},
                "high": {"type": "integer"},
            },
            "x-kubernetes-validations": [
                {
                    "rule": "!has(self.low) || !has(self.high) || self.low <= self.high",
                    "message": "low must not exceed high",
                },
                {"rule": "self.size >= oldSelf.size", "message": "size can't shrink"},
            ],
        },
        "status": {
            "type": "object",
            "properties": {
                "replicas": {"type": "integer"},
                "selector": {"type": "string"},
                "phase": {"type": "string"},
            },
        },
    },
}
definition = {
    "metadata": {"name": "widgets.crd.example.com"},
    "spec": {
        "group": "crd.example.com",
        "scope": "Namespaced",
        "names": {
            "plural": "widgets",
            "singular": "widget",
            "kind": "Widget",
            "shortNames": ["wd"],
            "categories": ["all"],
        },
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {"openAPIV3Schema": schema},
                "subresources": {
                    "status": {},
                    "scale": {
                        "specReplicasPath": ".spec.size",
                        "statusReplicasPath": ".status.replicas",
                        "labelSelectorPath": ".status.selector",
                    },
                },
                "additionalPrinterColumns": [
                    {"name": "Size", "type": "integer", "jsonPath": ".spec.size"},
                    {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
                ],
                "selectableFields": [{"jsonPath": ".spec.color"}],
            },
            {
                "name": "v1beta1",
                "served": True,
                "storage": False,
                "deprecated": True,
                "schema": {"openAPIV3Schema": LOOSE},
            },
        ],
    },
}
crd.create("customresourcedefinitions", definition, id="define", save="crd")
root = "crd.example.com/v1/widgets"
crd.get(root, id="served", settle=True)
crd.get("customresourcedefinitions", "widgets.crd.example.com", id="defined", save="crd")


def widget(called: str, /, **spec: object) -> dict[str, object]:
    return {"apiVersion": "crd.example.com/v1", "kind": "Widget", "metadata": {"name": called}, "spec": spec}


crd.create(root, widget("plain", size=3), save="w")
crd.create(
    root,
    widget(
        "full",
        size=3,
        color="green",
        name="abc",
        tags=["a", "b"],
        ports=[{"port": 1}],
        limits={"a": 1},
        free={"x": {"y": [1]}},
        quantity="5%",
        maybe=None,
        when="2026-01-01T00:00:00Z",
        unknown={"gone": 1},
    ),
    id="full",
)
crd.create(root, widget("strict", size=3, unknown=1), id="strict", query="fieldValidation=Strict")
for name, spec in {
    "missing": {},
    "minimum": {"size": 0},
    "maximum": {"size": 11},
    "type": {"size": "x"},
    "enum": {"size": 1, "color": "blue"},
    "pattern": {"size": 1, "name": "ABC"},
    "length": {"size": 1, "name": "abcdef"},
    "set-twice": {"size": 1, "tags": ["a", "a"]},
    "items": {"size": 1, "tags": ["a", "b", "c", "d"]},
    "map-twice": {"size": 1, "ports": [{"port": 1}, {"port": 1}]},
    "map-key": {"size": 1, "ports": [{"name": "x"}]},
    "additional": {"size": 1, "limits": {"a": "x"}},
    "int-or-string": {"size": 1, "quantity": 1.5},
    "null": {"size": 1, "name": None},
    "format": {"size": 1, "when": "yesterday"},
    "rule": {"size": 1, "low": 5, "high": 3},
    "float": {"size": 1.5},
    "list-for-object": {"size": 1, "limits": []},
}.items():
    crd.create(root, widget("x", **spec), id=f"bad-{name}")
crd.create(
    root,
    {"apiVersion": "crd.example.com/v1", "kind": "Widget", "metadata": {"name": "Bad_Name"}, "spec": {"size": 1}},
    id="bad-object-name",
)
crd.create(root, {"apiVersion": "crd.example.com/v1", "kind": "Gadget", "metadata": {"name": "x"}}, id="bad-kind")
crd.update(root, "plain", {"$from": "w", "$set": {"spec.size": 5}}, "grow", save="w")
crd.update(root, "plain", {"$from": "w", "$set": {"spec.size": 4}}, "shrink")
crd.update(root, "plain", {"$from": "w", "$unset": ["metadata.resourceVersion"]}, "unconditional")
crd.update(root, "plain", {"$from": "w", "$set": {"status": {"phase": "Ready"}}}, "status-by-spec", save="w")
crd.update(
    root,
    "plain",
    {"$from": "w", "$set": {"status": {"phase": "Ready", "replicas": 2, "odd": 1}, "spec.size": 9}},
    "status",
    sub="status",
    save="w",
)
crd.get(root, "plain", id="scale", sub="scale", save="scale")
crd.patch(root, "plain", {"spec": {"replicas": 7}}, "scale-patch", sub="scale")
crd.patch(root, "plain", {"spec": {"color": "green"}}, "merge")
crd.patch(root, "plain", {"spec": {"color": "green"}}, "strategic", type=STRATEGIC_PATCH)
crd.patch(
    root, "plain", [{"op": "add", "path": "/spec/tags", "value": ["z"]}], "json", type="application/json-patch+json"
)
crd.patch(
    root,
    "plain",
    {"apiVersion": "crd.example.com/v1", "kind": "Widget", "spec": {"ports": [{"port": 2}], "tags": ["q"]}},
    "apply",
    type="application/apply-patch+yaml",
    query="fieldManager=a&force=true",
)
crd.patch(
    root,
    "new",
    {"apiVersion": "crd.example.com/v1", "kind": "Widget", "spec": {"size": 2, "ports": [{"port": 2}]}},
    "apply-create",
    type="application/apply-patch+yaml",
    query="fieldManager=a",
)
crd.patch(
    root,
    "new",
    {"apiVersion": "crd.example.com/v1", "kind": "Widget", "spec": {"size": 3}},
    "apply-conflict",
    type="application/apply-patch+yaml",
    query="fieldManager=b",
)
crd.get("crd.example.com/v1beta1/widgets", "plain", id="other-version")
crd.get(root, id="list")
crd.get(root, id="list-selectable", query="fieldSelector=spec.color%3Dred")
crd.get(root, id="list-not-selectable", query="fieldSelector=spec.size%3D1")
crd.raw("table", "GET", crd.path(root), accept="application/json;as=Table;v=v1;g=meta.k8s.io")
crd.raw("discovery", "GET", "/apis/crd.example.com/v1")
crd.raw("discovery-group", "GET", "/apis/crd.example.com")
crd.delete(root, "plain")
crd.get(root, "plain", id="plain-gone")
for name, change in {
    "crd-name": {"metadata": {"name": "other.crd.example.com"}},
    "crd-no-versions": {"spec": {**definition["spec"], "versions": []}},
    "crd-two-storage": {
        "spec": {
            **definition["spec"],
            "versions": [{**definition["spec"]["versions"][0]}, {**definition["spec"]["versions"][1], "storage": True}],
        }
    },
    "crd-no-schema": {"spec": {**definition["spec"], "versions": [{"name": "v1", "served": True, "storage": True}]}},
    "crd-scope": {"spec": {**definition["spec"], "scope": "Galaxy"}},
    "crd-kind": {"spec": {**definition["spec"], "names": {"plural": "WIDGETS", "kind": "widget"}}},
    "crd-schema-type": {
        "spec": {
            **definition["spec"],
            "versions": [
                {
                    **definition["spec"]["versions"][0],
                    "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": {}}}},
                }
            ],
        }
    },
    "crd-rule": {
        "spec": {
            **definition["spec"],
            "versions": [
                {
                    **definition["spec"]["versions"][0],
                    "schema": {
                        "openAPIV3Schema": {"type": "object", "x-kubernetes-validations": [{"rule": "self.nope +"}]}
                    },
                }
            ],
        }
    },
}.items():
    crd.create(
        "customresourcedefinitions", {"metadata": {"name": "widgets2.crd.example.com"}, **definition, **change}, id=name
    )
crd.delete("customresourcedefinitions", "widgets.crd.example.com", id="undefine")

# The APIServices that the API server keeps of itself: built-in ones once a start, those of CRDs always.
kept = Scenario("api-services", namespace=False)
AUTOMANAGED = "kube-aggregator.kubernetes.io/automanaged"
CUSTOM, OTHER = "v1.kept.example.com", "v2.kept.example.com"


def boats(*served: str) -> dict[str, object]:
    versions = [
        {"name": name, "served": name in served, "storage": name == "v1", "schema": {"openAPIV3Schema": LOOSE}}
        for name in ("v1", "v2")
    ]
    return {
        "metadata": {"name": "boats.kept.example.com"},
        "spec": {
            "group": "kept.example.com",
            "scope": "Cluster",
            "names": {"plural": "boats", "kind": "Boat"},
            "versions": versions,
        },
    }


def local(version: str, group: str, priority: int = 7, **labels: str) -> dict[str, object]:
    return {
        "metadata": {"name": f"{version}.{group}", "labels": labels},
        "spec": {"group": group, "version": version, "groupPriorityMinimum": priority, "versionPriority": 7},
    }


services = "apiservices"
kept.get(services, "v2.autoscaling", id="there", settle=True)
kept.get(services, id="list", query=f"labelSelector={AUTOMANAGED}%3Donstart")
kept.raw("table", "GET", kept.path(services, "v1."), accept="application/json;as=Table;v=v1;g=meta.k8s.io")
kept.create("customresourcedefinitions", boats("v1"), id="define")
kept.get(services, CUSTOM, id="defined", settle=True)
kept.get(services, OTHER, id="not-served")
kept.patch("customresourcedefinitions", "boats.kept.example.com", boats("v1", "v2"), "serve")
kept.get(services, OTHER, id="served", settle=True)
kept.patch(services, CUSTOM, {"spec": {"groupPriorityMinimum": 5}}, "change")
kept.get(services, CUSTOM, id="changed-back", settle='"groupPriorityMinimum":1000')
kept.delete(services, CUSTOM)
kept.get(services, CUSTOM, id="made-again", settle=True)
kept.patch(services, CUSTOM, {"metadata": {"labels": {AUTOMANAGED: None}}}, "take")
kept.patch(services, CUSTOM, {"spec": {"groupPriorityMinimum": 6}}, "change-taken")
kept.get(services, CUSTOM, id="taken")
kept.patch("customresourcedefinitions", "boats.kept.example.com", boats("v1"), "serve-no-more")
kept.get(services, OTHER, id="not-served-any-more", settle='"code":404')
kept.delete("customresourcedefinitions", "boats.kept.example.com")
kept.get("customresourcedefinitions", "boats.kept.example.com", id="undefined", settle='"code":404')
kept.get(services, CUSTOM, id="taken-stays")
kept.delete(services, CUSTOM, id="delete-taken")
kept.create(services, local("v3", "kept.example.com"), id="own-local")
kept.create(services, local("v4", "kept.example.com", **{AUTOMANAGED: "true"}), id="spurious")
kept.get(services, "v4.kept.example.com", id="spurious-gone", settle='"code":404')
kept.create(services, local("v5", "kept.example.com", **{AUTOMANAGED: "onstart"}), id="spurious-onstart")
kept.get(services, "v5.kept.example.com", id="spurious-onstart-stays")
kept.patch(services, "v3.kept.example.com", {"metadata": {"labels": {"a": "b"}, "finalizers": ["x.org/y"]},
           "spec": {"versionPriority": 9}, "status": {"conditions": []}}, "own-status", sub="status")  # fmt: skip
kept.get(services, "v3.kept.example.com", id="own-available-again", settle="always available")
kept.patch(services, "v3.kept.example.com", {"spec": {"versionPriority": 9}}, "own-changed")
kept.patch(services, "v1.batch", {"spec": {"versionPriority": 3}}, "change-onstart")
kept.get(services, "v1.batch", id="onstart-changed")
kept.patch(services, "v1.batch", {"spec": {"versionPriority": 15}}, "change-onstart-back")
kept.delete(services, "v1.policy")
kept.get(services, "v1.policy", id="onstart-gone")
kept.raw("still-served", "GET", "/apis/policy/v1")
kept.create(services, local("v1", "policy", 17100, **{AUTOMANAGED: "onstart"}), id="made-by-hand")
kept.patch(services, "v1.policy", {"spec": {"versionPriority": 15}}, "as-it-was")
for name in ("v3.kept.example.com", "v5.kept.example.com"):
    kept.delete(services, name)
for id, name, version, group in (
    ("bad-name", "v1.other", "v1", "kept.example.com"),
    ("bad-segment", "v1%kept", "v1", "kept.example.com"),
    ("no-group", "v2.", "v2", ""),
    ("core-by-another-name", "v1", "v1", ""),
):
    bad = local(version, group)
    kept.create(services, {**bad, "metadata": {"name": name}}, id=id)

SCENARIOS = [crd, kept]
