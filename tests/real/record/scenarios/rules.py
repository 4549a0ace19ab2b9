"""CEL rules of custom resources: what a definition is refused for, and what rules say of values."""

from typing import Any

from steps import Scenario

rules = Scenario("crd-rules")


def definition(spec: dict[str, Any], name: str = "gadgets", kind: str = "Gadget") -> dict[str, Any]:
    schema = {"type": "object", "properties": {"spec": spec}}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    names = {"plural": name, "singular": kind.lower(), "kind": kind, "listKind": f"{kind}List"}
    group = "rules.example.com"
    body = {"group": group, "scope": "Namespaced", "names": names, "versions": [version]}
    return {"metadata": {"name": f"{name}.{group}"}, "spec": body}


def text(**more: Any) -> dict[str, Any]:
    return {"type": "string", "maxLength": 20, **more}


PROPERTIES: dict[str, Any] = {
    "n": {"type": "integer"}, "share": {"type": "number"}, "on": {"type": "boolean"}, "name": text(),
    "when": text(format="date-time"), "for": text(format="duration"), "data": text(format="byte"),
    "list": {"type": "array", "maxItems": 5, "items": {"type": "integer"}},
    "names": {"type": "array", "maxItems": 5, "items": text()},
    "map": {"type": "object", "maxProperties": 5, "additionalProperties": text()},
    "any": {"x-kubernetes-int-or-string": True}, "a-b": {"type": "integer"},
    "items": {"type": "array", "maxItems": 5, "items": {"type": "object", "properties": {"key": text(),
                                                                                         "n": {"type": "integer"}}}},
    "open": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
    "address": text(),
}  # fmt: skip


def ruled(*found: Any) -> dict[str, Any]:
    listed = [rule if isinstance(rule, dict) else {"rule": rule} for rule in found]
    return {"type": "object", "properties": PROPERTIES, "x-kubernetes-validations": listed}


for label, found in {
    "undefined": ["self.nope", "self.n > 1 && self.items.all(i, i.nope == 'x')", "self.open.x == 1",
                  "self.list['n'] == 1"],
    "types": ["self.n == 'a'", "self.name > 1", "self.n", "self.when == '2024'", "self.list.all(x, x == 'a')",
              "self.map.a == 1", "self.share > self.n", "self.for > duration('1h')", "self.__for__ > duration('1h')"],
    "functions": ["self.name.nope()", "size(self.n) > 1", "self.names.join(',') == 1", "nope(self)", "self.name +",
                  "self.items.map(i, i.key).exists(k, k == 1)", "object.x == 1", "authorizer.path('/x')"],
    "escaped": ["self.a-b == 1", "self.a__dash__b == 'x'", "self.metadata.name == 'x'"],
    "old": [{"rule": "self.n > 1", "optionalOldSelf": True}, {"rule": "oldSelf.n > 1", "optionalOldSelf": True},
            {"rule": "oldSelf.nope > 1"}],
    "messages": [{"rule": "true", "messageExpression": "1"}, {"rule": "true", "messageExpression": "self.nope"},
                 {"rule": "true", "message": " "}, {"rule": "true", "reason": "Nope"}],
}.items():  # fmt: skip
    rules.create("customresourcedefinitions", definition(ruled(*found)), id=f"refuse-{label}")

acting = ruled(
    {"rule": "!has(self.n) || self.n < 10", "message": "n is too big"},
    {"rule": "!has(self.name) || self.name != 'bad'", "messageExpression": "'no ' + self.name", "fieldPath": ".name"},
    {"rule": "!has(self.when) || self.when < timestamp('2025-01-01T00:00:00Z')"},
    {"rule": "!has(self.__for__) || self.__for__ <= duration('1h')", "reason": "FieldValueForbidden",
     "fieldPath": ".for"},
    {"rule": "!has(self.data) || self.data == bytes('abc')"},
    {"rule": "!has(self.list) || self.list.isSorted()"},
    {"rule": "!has(self.names) || self.names.all(x, self.names.exists_one(y, x == y))"},
    {"rule": "!has(self.map) || self.map.all(k, self.map[k].startsWith(k))"},
    {"rule": "!has(self.any) || type(self.any) == int"},
    {"rule": "!has(self.a__dash__b) || 10 / self.a__dash__b == 5"},
    {"rule": "!has(self.items) || self.items.all(i, i.n > 0)"},
    {"rule": "!has(self.share) || self.share < 0.5"},
    {"rule": "!has(self.on) || self.on"},
    {"rule": "!has(self.address) || ip(self.address).family() == 4"},
    {"rule": "!has(self.n) || !has(oldSelf.n) || self.n >= oldSelf.n", "message": "n may not shrink"},
    {"rule": "!oldSelf.hasValue() || !has(oldSelf.value().on) || has(self.on)", "optionalOldSelf": True},
)  # fmt: skip
rules.create("customresourcedefinitions", definition(acting))
KIND = "rules.example.com/v1/gadgets"
rules.get(KIND, id="served", settle=True)


def gadget(name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "rules.example.com/v1", "kind": "Gadget", "metadata": {"name": name}, "spec": spec}


for label, spec in {
    "n": {"n": 10}, "name": {"name": "bad"}, "when": {"when": "2025-06-01T00:00:00Z"}, "for": {"for": "2h"},
    "for-seconds": {"for": "30s"}, "data": {"data": "YWJj"}, "other-data": {"data": "YWJk"}, "list": {"list": [2, 1]},
    "names": {"names": ["a", "a"]}, "map": {"map": {"a": "ab", "b": "c"}}, "any-int": {"any": 5},
    "any-text": {"any": "5"}, "divide": {"a-b": 0}, "dash": {"a-b": 2}, "items": {"items": [{"n": 1}, {"key": "x"}]},
    "share": {"share": 1}, "share-low": {"share": 0.25}, "off": {"on": False}, "address": {"address": "::1"},
    "no-address": {"address": "x"}, "several": {"n": 11, "name": "bad", "on": False},
}.items():  # fmt: skip
    rules.create(KIND, gadget(f"g-{label}", spec), id=f"value-{label}", query="dryRun=All")
rules.create(KIND, gadget("stands", {"n": 5, "on": True}), id="stands")
rules.patch(KIND, "stands", {"spec": {"n": 4}}, "shrink")
rules.patch(KIND, "stands", {"spec": {"n": 6}}, "grow")
rules.patch(KIND, "stands", {"spec": {"on": None}}, "lose")

SCENARIOS = [rules]
