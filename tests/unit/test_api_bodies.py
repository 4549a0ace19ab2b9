"""Bodies: what is repeated is found where it stands, malformed ones are refused in Go's words."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.base.errors import BadRequest, UnsupportedMediaType
from atoll.cluster.apiserver import gojson
from atoll.cluster.apiserver.bodies import in_order, parse, parse_json, parse_yaml

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=12,
)


@given(st.dictionaries(st.text(), values, max_size=4), st.sampled_from([None, 2]))
def test_an_object_without_repeated_keys_has_none(value: dict[str, object], indent: int | None) -> None:
    parsed, repeated = parse_json(json.dumps(value, indent=indent, ensure_ascii=indent is None).encode(), "Pod")
    assert parsed == value and repeated == ()
    assert gojson.fault(json.dumps(value).encode()) == ""


def test_repeated_keys_are_named_with_their_paths() -> None:
    body = b'{"a":{"x":1,"x":2},"l":[{"y":1},{"y":1,"y":2}],"a":3,"q":"\\"a\\":"}'
    value, repeated = parse_json(body, "Pod")
    assert value["a"] == 3 and value["l"][1] == {"y": 2}
    assert list(repeated) == ['duplicate field "a.x"', 'duplicate field "l[1].y"', 'duplicate field "a"']


def test_problems_are_listed_as_they_stand() -> None:
    _, repeated = parse_json(
        b'{"metadata":{"foo":1,"labels":{"a":"b","a":"c"}},"bar":1,"data":1,"data":2}', "ConfigMap"
    )
    problems = [*repeated, 'unknown field "metadata.foo"', 'unknown field "bar"']
    assert in_order(problems, repeated) == [
        'unknown field "metadata.foo"',
        'duplicate field "metadata.labels.a"',
        'unknown field "bar"',
        'duplicate field "data"',
    ]


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        (b"", "unexpected end of JSON input"),
        (b"{", "unexpected end of JSON input"),
        (b"nope", "invalid character 'o' in literal null (expecting 'u')"),
        (b'{"a" 1}', "invalid character '1' after object key"),
        (b'{"a":1 "b"}', "invalid character '\"' after object key:value pair"),
        (b"{'a':1}", r"invalid character '\'' looking for beginning of object key string"),
        (b"[1 2]", "invalid character '2' after array element"),
        (b"{} x", "invalid character 'x' after top-level value"),
        (b'{"a":01}', "invalid character '1' after object key:value pair"),
        (b'{"a":"\x01"}', r"invalid character '\x01' in string literal"),
        (b'{"a":-}', "invalid character '}' in numeric literal"),
    ],
)
def test_faults_are_those_of_go(body: bytes, fault: str) -> None:
    assert gojson.fault(body) == fault


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "unexpected end of JSON input (<empty>)"),
        (b"{", "unexpected end of JSON input ({)"),
        (b"nope", "expecting 'u') (6e6f7065)"),
        (b"[]", "json: cannot unmarshal array into Go value of type struct"),
    ],
)
def test_malformed_bodies(body: bytes, message: str) -> None:
    with pytest.raises(BadRequest) as caught:
        parse(body, "application/json", "Pod")
    assert caught.value.message.startswith("the object provided is unrecognized (must be of type Pod): ")
    assert message in caught.value.message


def test_yaml_is_read_as_go_reads_it() -> None:
    value, repeated = parse_yaml(b"a: 2026-01-01\nb: yes\n1: x\na: z\n", "ConfigMap")
    assert value == {"a": "z", "b": True, "1": "x"}
    assert list(repeated) == ['yaml: unmarshal errors:\n  line 4: key "a" already set in map']
    with pytest.raises(BadRequest, match="yaml: mapping values are not allowed in this context"):
        parse_yaml(b"a: b: c", "ConfigMap")


def test_other_formats_are_refused() -> None:
    with pytest.raises(UnsupportedMediaType):
        parse(b"{}", "text/plain", "Pod")
    with pytest.raises(BadRequest, match=r"expected prefix \[107 56 115 0\]"):
        parse(b"x", "application/vnd.kubernetes.protobuf", "Pod")
