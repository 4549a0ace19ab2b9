"""Custom resources by their schema: pruning, defaulting, upstream's messages, list types, rules."""

from __future__ import annotations

from typing import Any

import pytest

from atoll.cluster.apiserver.extensions import definitions
from atoll.cluster.apiserver.extensions.custom import CustomKind
from atoll.cluster.apiserver.extensions.rule_validation import by_rules
from atoll.cluster.apiserver.extensions.schema_checks import check_schema
from atoll.cluster.apiserver.extensions.structure import Structure, gate, take, unknown_fields
from atoll.cluster.apiserver.extensions.validation import MISSING, by_list_types, by_schema
from atoll.cluster.apiserver.ports import Cause

SPEC: dict[str, Any] = {
    "type": "object",
    "properties": {
        "size": {"type": "integer", "format": "int32", "minimum": 1},
        "mode": {"type": "string", "enum": ["a", "b"], "default": "a"},
        "name": {"type": "string", "pattern": "^[a-z]+$", "maxLength": 4, "minLength": 2},
        "when": {"type": "string", "format": "date-time"},
        "amount": {"x-kubernetes-int-or-string": True},
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        "numbers": {"type": "object", "additionalProperties": {"type": "integer"}, "maxProperties": 2},
        "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}, "maxItems": 3},
        "ports": {
            "type": "array",
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["name"],
            "items": {
                "type": "object",
                "required": ["name"],
                "properties": {"name": {"type": "string"}, "protocol": {"type": "string", "default": "TCP"}},
            },
        },
        "one": {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
                "oneOf": [{"required": ["a"]}, {"required": ["b"]}]},
        "maybe": {"type": "string", "nullable": True},
    },
    "required": ["size"],
}  # fmt: skip
ROOT = Structure({"type": "object", "properties": {"spec": SPEC}})
GATE = gate(ROOT)


def texts(causes: list[Cause]) -> list[str]:
    return [f"{cause.field}: {cause.message}" for cause in causes]


def refusals(spec: dict[str, Any]) -> list[str]:
    """What the schema says; the native gate must agree on whether there is anything."""
    found = texts(by_schema({"spec": spec}, ROOT))
    assert GATE.is_valid({"spec": spec}) is not bool(found)
    return found


def test_unknown_fields_go_and_defaults_come() -> None:
    dropped: list[str] = []
    given = {"kind": "X", "spec": {"size": 1, "bogus": 1, "ports": [{"name": "a", "odd": 1}], "free": {"x": {"y": 1}}}}
    taken = take(given, ROOT, dropped, root=True)
    assert taken["kind"] == "X"
    assert taken["spec"] == {
        "size": 1,
        "ports": [{"name": "a", "protocol": "TCP"}],
        "free": {"x": {"y": 1}},
        "mode": "a",
    }
    assert sorted(dropped) == ["bogus", "odd"]
    assert unknown_fields(given, ROOT) == ['unknown field "spec.bogus"', 'unknown field "spec.ports[0].odd"']
    assert "bogus" in given["spec"]  # type: ignore[operator]


def test_nulls_go_unless_they_are_allowed() -> None:
    taken = take({"spec": {"size": 1, "mode": None, "name": None, "maybe": None}}, ROOT, [], root=True)
    assert taken["spec"] == {"size": 1, "mode": "a", "maybe": None}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, ["spec.size: Required value"]),
        ({"size": "x"}, ['spec.size: Invalid value: "string": spec.size in body must be of type integer: "string"']),
        ({"size": 0}, ["spec.size: Invalid value: 0: spec.size in body should be greater than or equal to 1"]),
        (
            {"size": 2**31},
            ['<nil>: Invalid value: "": Checked value must be of type integer with format int32 in spec.size'],
        ),
        ({"size": 1, "mode": "c"}, ['spec.mode: Unsupported value: "c": supported values: "a", "b"']),
        ({"size": 1, "name": "A1"}, ["spec.name: Invalid value: \"A1\": spec.name in body should match '^[a-z]+$'"]),
        ({"size": 1, "name": "abcde"}, ["spec.name: Too long: may not be more than 4 bytes"]),
        (
            {"size": 1, "name": "a"},
            ['spec.name: Invalid value: "a": spec.name in body should be at least 2 chars long'],
        ),
        (
            {"size": 1, "when": "now"},
            ['spec.when: Invalid value: "now": spec.when in body must be of type date-time: "now"'],
        ),
        (
            {"size": 1, "amount": 1.5},
            ['spec.amount: Invalid value: "number": spec.amount in body must be of type integer,string: "number"'],
        ),
        (
            {"size": 1, "numbers": {"a": "x"}},
            ['spec.numbers.a: Invalid value: "string": spec.numbers.a in body must be of type integer: "string"'],
        ),
        ({"size": 1, "numbers": {"a": 1, "b": 1, "c": 1}}, ["spec.numbers: Too many: 3: must have at most 2 items"]),
        ({"size": 1, "set": ["a", "b", "c", "d"]}, ["spec.set: Too many: 4: must have at most 3 items"]),
        ({"size": 1, "ports": [{}]}, ["spec.ports[0].name: Required value"]),
        (
            {"size": 1, "one": {"a": "1", "b": "2"}},
            [
                '<nil>: Invalid value: "": "spec.one" must validate one and only one schema (oneOf). Found 2 valid'
                " alternatives"
            ],
        ),
    ],
)
def test_messages(spec: dict[str, Any], expected: list[str]) -> None:
    assert refusals(spec) == expected


@pytest.mark.parametrize(
    "spec",
    [
        {"size": 1},
        {"size": 1, "amount": "50%", "maybe": None, "free": {"anything": [1]}},
        {"size": 3, "when": "2026-01-01T00:00:00Z", "one": {"a": "x"}, "numbers": {"a": 1}},
    ],
)
def test_valid_objects(spec: dict[str, Any]) -> None:
    assert refusals(spec) == []


def test_what_an_update_leaves_is_not_held_against_it() -> None:
    old = {"spec": {"size": 0, "name": "BAD"}}
    new = {"spec": {"size": 0, "name": "WORSE"}}
    assert [cause.field for cause in by_schema(new, ROOT, old)] == ["spec.name", "spec.name"]


def test_items_of_sets_and_keys_of_maps_do_not_repeat() -> None:
    causes: list[Cause] = []
    by_list_types({"spec": {"set": ["a", "b", "a"], "ports": [{"name": "x"}, {"name": "x"}]}}, ROOT, "", causes)
    assert texts(causes) == [
        'spec.set[2]: Duplicate value: "a"',
        'spec.ports[1]: Duplicate value: {"name":"x"}',
    ]


SEEN = {
    "n": {"type": "integer"}, "q": {"type": "string"}, "l": {"type": "array", "items": {"type": "integer"}},
    "-ok": {"type": "object", "properties": {"x-y": {"type": "integer"}}},
    "when": {"type": "string", "format": "date-time"}, "m": {"type": "object", "additionalProperties": {
        "type": "string"}}, "any": {"x-kubernetes-int-or-string": True}, "share": {"type": "number"},
}  # fmt: skip


def broken(rule: dict[str, Any], value: Any, old: Any = MISSING) -> list[str]:
    spec = {"type": "object", "properties": SEEN, "x-kubernetes-validations": [rule]}
    at = Structure({"type": "object", "properties": {"spec": spec}})
    causes: list[Cause] = []
    by_rules({"spec": value}, at, "", MISSING if old is MISSING else {"spec": old}, causes)
    return texts(causes)


def test_rules() -> None:
    assert broken({"rule": "self.n < 3", "message": "too big"}, {"n": 5}) == ["spec: Invalid value: too big"]
    assert broken({"rule": "self.n < 3"}, {"n": 5}) == ["spec: Invalid value: failed rule: self.n < 3"]
    assert broken({"rule": "self.n < 3", "messageExpression": "'n is ' + string(self.n)"}, {"n": 5}) == [
        "spec: Invalid value: n is 5"
    ]
    assert broken(
        {"rule": "self.n < 3", "reason": "FieldValueForbidden", "fieldPath": ".n", "message": "no"}, {"n": 5}
    ) == ["spec.n: Forbidden: no"]
    assert broken({"rule": "self.n < 3"}, {}) == [
        'spec: Invalid value: "object": no such key: n evaluating rule: self.n < 3'
    ]
    assert broken({"rule": "self.n < 3", "message": "n is below 3"}, {}) == [
        'spec: Invalid value: "object": no such key: n evaluating rule: n is below 3'
    ]


def test_transition_rules() -> None:
    rule = {"rule": "self.n >= oldSelf.n", "message": "may not shrink"}
    assert broken(rule, {"n": 1}) == []
    assert broken(rule, {"n": 1}, {"n": 2}) == ["spec: Invalid value: may not shrink"]
    assert broken(rule, {"n": 3}, {"n": 2}) == []
    optional = {"rule": "oldSelf.hasValue() || self.n == 1", "optionalOldSelf": True, "message": "starts at 1"}
    assert broken(optional, {"n": 2}) == ["spec: Invalid value: starts at 1"]
    assert broken(optional, {"n": 2}, {"n": 1}) == []


@pytest.mark.parametrize(
    "rule",
    [
        "quantity(self.q).isGreaterThan(quantity('1Gi')) && quantity('1Gi') == quantity('1024Mi')",
        "self.l.isSorted() && self.l.sum() == 6 && self.l.max() == 3 && self.l.indexOf(2) == 1",
        "isURL('https://a.b/c') && url('https://a.b:80/c').getPort() == '80' && !isURL('a')",
        "ip('10.0.0.1').family() == 4 && cidr('10.0.0.0/8').containsIP('10.2.3.4') && !isIP('x')",
        "'ab12'.find('[0-9]+') == '12' && 'a1b2'.findAll('[0-9]').size() == 2",
        "sets.contains([1, 2], [1]) && self.q.lowerAscii() == '2gi' && self.__dash__ok.x__dash__y == 1",
        "semver('1.2.3').isLessThan(semver('1.10.0')) && isSemver('1.0.0')",
        "self.when < timestamp('2025-01-01T00:00:00Z') && self.when.getFullYear() == 2024",
        "self.m['a-b'] == 'c' && self.m.all(k, v, k == 'a-b' && v == 'c') && self.any == 5 && self.share == 2.0",
    ],
)
def test_kubernetes_libraries(rule: str) -> None:
    value = {"q": "2Gi", "l": [1, 2, 3], "-ok": {"x-y": 1}, "when": "2024-05-01T00:00:00Z", "m": {"a-b": "c"}}
    value |= {"any": 5, "share": 2}
    assert broken({"rule": rule}, value) == []


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "string"}, "s.type: Invalid value: \"string\": must be object at the root"),
        ({"type": "object", "properties": {"a": {}}},
         "s.properties[a].type: Required value: must not be empty for specified object fields"),
        ({"type": "object", "properties": {"a": {"type": "array"}}},
         "s.properties[a].items: Required value: must be specified"),
        ({"type": "object", "properties": {"a": {"type": "string", "$ref": "x"}}},
         "s.properties[a].$ref: Forbidden: $ref is not supported"),
        ({"type": "object", "properties": {"a": {"type": "string", "default": 1}}},
         's.properties[a].default: Invalid value: "integer":  in body must be of type string: "integer"'),
        ({"type": "object", "properties": {"a": {"type": "string", "x-kubernetes-validations": [{"rule": ""}]}}},
         "s.properties[a].x-kubernetes-validations[0].rule: Required value: rule is not specified"),
    ],
)  # fmt: skip
def test_schemas_that_are_not_structural(schema: dict[str, Any], expected: str) -> None:
    assert expected in texts(check_schema(schema, "s"))


def test_rules_that_do_not_compile_are_found_with_the_definition() -> None:
    schema = {
        "type": "object",
        "properties": {"spec": {"type": "object", "properties": {"a": {"type": "string"}},
                                "x-kubernetes-validations": [{"rule": "self.a +"}, {"rule": "self.b == 'x'"}]}},
    }  # fmt: skip
    found = texts(check_schema(schema, "s"))
    assert len(found) == 2
    assert "compilation failed" in found[0] and "Syntax error" in found[0]
    assert "undefined field 'b'" in found[1]


def ruled(most: int, **version: object) -> dict[str, Any]:
    """A definition whose rule is too dear by itself where `most` is large."""
    rules = [{"rule": "self == 'a'"}]
    items = {"type": "string", "maxLength": 9, "x-kubernetes-validations": rules}
    properties = {"names": {"type": "array", "maxItems": most, "items": items}}
    schema = {"openAPIV3Schema": {"type": "object", "properties": properties}}
    whole = {"name": "v1", "served": True, "storage": True, "schema": schema, **version}
    names = {"plural": "things", "singular": "thing", "kind": "Thing", "listKind": "ThingList"}
    spec = {"group": "x.example.org", "scope": "Cluster", "names": names, "versions": [whole]}
    return {"metadata": {"name": "things.x.example.org"}, "spec": {**spec, "conversion": {"strategy": "None"}},
            "status": {"storedVersions": ["v1"]}}  # fmt: skip


def test_a_rule_that_was_let_in_is_not_refused_for_its_cost_while_the_schema_stays() -> None:
    dear, dearer = ruled(8_000_000), ruled(9_000_000)
    assert [cause.field for cause in definitions.validate_create(dear)] == [
        "spec.validation.openAPIV3Schema.properties[names].items.x-kubernetes-validations[0].rule"
    ]
    assert definitions.validate_update(ruled(8_000_000, deprecated=True), dear) == []
    assert len(definitions.validate_update(dearer, dear)) == 1
    assert definitions.validate_create(ruled(4_000_000)) == []


def status_causes(root: dict[str, Any], status: dict[str, Any], spec: dict[str, Any] | None = None) -> list[str]:
    """Of a write of this status, beside a spec as it stands (`spec`: beside another one)."""
    kind = {"type": "string", "enum": ["Up", "Down"]}
    properties = {"spec": SPEC, "status": {"type": "object", "properties": {"kind": kind, "n": {"type": "integer"}}}}
    schema = {"type": "object", "properties": properties, **root}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema},
               "subresources": {"status": {}}}  # fmt: skip
    names = {"plural": "xs", "kind": "X"}
    crd = {"metadata": {"name": "xs.x.io"}, "spec": {"group": "x.io", "names": names, "versions": [version]}}
    (served,) = CustomKind(crd, None, None).served()  # type: ignore[arg-type]
    old = {"kind": "X", "metadata": {"name": "x"}, "spec": {"size": 1}, "status": {"kind": "Up"}}
    return texts(served.behaviour.validate_status({**old, "spec": spec or old["spec"], "status": status}, old))


def test_a_status_is_judged_beside_what_stands() -> None:
    for root in ({}, {"required": ["spec"]}, {"not": {"required": ["missing"]}}):
        assert status_causes(root, {"kind": "Down", "n": 1}) == []
        (odd,) = status_causes(root, {"kind": "Sideways"})
        assert odd.startswith("status.kind: Unsupported value")
        (other,) = status_causes(root, {"n": "1"})
        assert other.startswith("status.n: Invalid value")
    (both,) = status_causes({"not": {"properties": {"status": {"required": ["n"]}}}}, {"n": 1})
    assert "must not validate the schema" in both
    assert status_causes({}, {"n": 1}, spec={"size": 0}) != []
