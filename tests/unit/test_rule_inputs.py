"""What a CEL rule reads: rules that held for the same inputs are passed over, and nothing else is."""

from __future__ import annotations

import random
from typing import Any

import pytest

from atoll.cluster.apiserver.expressions.syntax import parse
from atoll.cluster.apiserver.extensions.reads import Held
from atoll.cluster.apiserver.extensions.rule_validation import by_rules
from atoll.cluster.apiserver.extensions.structure import Structure
from atoll.cluster.apiserver.extensions.validation import MISSING

COUNTED = "has(self.list) && self.list.exists(c, c.type == 'A' && c.on == 'True')"


def key(rule: str, value: Any, old: Any = MISSING) -> Any:
    return Held([parse(rule).root]).key(value, old, old is not MISSING)


@pytest.mark.parametrize(
    ("rule", "one", "other"),
    [
        (COUNTED, {"list": [{"type": "A", "on": "True", "at": 1}]}, {"list": [{"type": "A", "on": "True", "at": 2}]}),
        (COUNTED, {"list": [], "more": 1}, {"list": [], "more": 2}),
        ("!has(self.a) || self.b.c == 1", {"a": {"x": 1}, "b": {"c": 1}}, {"a": {"x": 2}, "b": {"c": 1, "d": 2}}),
        ("size(self.list) == 2", {"list": [1, 2]}, {"list": [3, 4]}),
        ("self.list.all(x, size(x.parts) < 3)", {"list": [{"parts": [1]}]}, {"list": [{"parts": ["b"]}]}),
    ],
)
def test_what_is_not_read_does_not_count(rule: str, one: Any, other: Any) -> None:
    assert key(rule, one) == key(rule, other)


@pytest.mark.parametrize(
    ("rule", "one", "other"),
    [
        (COUNTED, {"list": [{"type": "A", "on": "True"}]}, {"list": [{"type": "A", "on": "False"}]}),
        (COUNTED, {"list": [{"type": "A"}]}, {"list": [{"type": "A"}, {"type": "A"}]}),
        (COUNTED, {"list": []}, {}),
        (COUNTED, {"list": None}, {}),
        (COUNTED, {"list": [{"type": "A", "on": True}]}, {"list": [{"type": "A", "on": "true"}]}),
        ("self.n == 1", {"n": 1}, {"n": True}),
        ("self.n == 1", {"n": 1}, {"n": 1.0}),
        ("self.map.exists(k, k == 'a')", {"map": {"a": 1}}, {"map": {"b": 1}}),
        ("self.list.exists(x, x == 'a')", {"list": ["a"]}, {"list": ["b"]}),
        ("self.list.map(x, x.name).exists(n, n == 'a')", {"list": [{"name": "a"}]}, {"list": [{"name": "b"}]}),
        ("self.list.filter(x, x.on)[0].name == 'a'",
         {"list": [{"on": True, "name": "a"}]}, {"list": [{"on": True, "name": "b"}]}),
        ("(self.a ? self.b : self.c) == self.d", {"a": True, "b": 1, "d": 1}, {"a": True, "b": 2, "d": 1}),
        ("self.x__dash__y == 'a'", {"x-y": "a"}, {"x-y": "b"}),
        ("self.list[0] == 'a'", {"list": ["a", "c"]}, {"list": ["b", "c"]}),
        ("self.list.exists(self, self.t == 'a')", {"list": [{"t": "a"}]}, {"list": [{"t": "b"}]}),
        ("self == {'a': 1}", {"a": 1}, {"a": 2}),
    ],
)  # fmt: skip
def test_what_is_read_counts(rule: str, one: Any, other: Any) -> None:
    assert key(rule, one) != key(rule, other)


def test_the_old_value_is_an_input_too() -> None:
    rule = "self.a == oldSelf.a"
    assert key(rule, {"a": 1}, {"a": 1}) != key(rule, {"a": 1}, {"a": 2})
    assert key(rule, {"a": 1}, {"a": 1, "b": 1}) == key(rule, {"a": 1}, {"a": 1, "b": 2})
    assert key(rule, {"a": 1}) != key(rule, {"a": 1}, None)


def test_a_long_value_and_a_number_beyond_64_bits_are_not_remembered() -> None:
    assert key("self.a == 'x'", {"a": "x" * 5000}) is None
    assert key("self.a == 1", {"a": 2**70}) is None


TEXT = {"type": "string"}
SCHEMA = {
    "type": "object",
    "properties": {
        "phase": TEXT,
        "names": {"type": "array", "items": TEXT},
        "conditions": {"type": "array", "items": {"type": "object", "properties": {
            "type": TEXT, "status": TEXT, "at": {"type": "string", "format": "date-time"}}}},
    },
    "x-kubernetes-validations": [
        {"rule": "!has(self.conditions) || self.conditions.exists_one(c, c.type == 'A')"},
        {"rule": "!has(self.names) || size(self.names) < 3"},
        {"rule": "!has(self.names) || self.names.all(n, n.startsWith('x'))"},
        {"rule": "!has(oldSelf.phase) || (has(self.phase) && self.phase >= oldSelf.phase)"},
        {"rule": "!has(self.conditions) || self.conditions.all(c, c.at > timestamp('2001-01-01T00:00:00Z'))"},
        {"rule": "!has(self.phase) || !has(self.names) || self.phase in self.names"},
    ],
}  # fmt: skip


def drawn(chance: random.Random) -> dict[str, Any]:
    value: dict[str, Any] = {}
    if chance.random() < 0.7:
        value["phase"] = chance.choice(["xa", "xb"])
    if chance.random() < 0.7:
        value["names"] = [chance.choice(["xa", "xb", "c"]) for _ in range(chance.randrange(4))]
    if chance.random() < 0.7:
        value["conditions"] = [
            {"type": chance.choice("AB"), "status": "True", "at": f"{chance.choice((2000, 2020))}-01-01T00:00:00Z"}
            for _ in range(chance.randrange(3))
        ]
    return value


def causes(at: Structure, value: Any, old: Any) -> list[Any]:
    found: list[Any] = []
    by_rules(value, at, "", old, found)
    return found


def test_with_and_without_memory_the_same_is_told() -> None:
    chance = random.Random(7)
    remembering = Structure(SCHEMA)
    silent = 0
    for _ in range(600):
        value, old = drawn(chance), chance.choice([MISSING, drawn(chance)])
        told = causes(remembering, value, old)
        assert told == causes(Structure(SCHEMA), value, old)
        silent += not told
    assert 50 < silent < 500
