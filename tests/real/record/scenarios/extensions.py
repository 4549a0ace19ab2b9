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

SCENARIOS = [crd]
