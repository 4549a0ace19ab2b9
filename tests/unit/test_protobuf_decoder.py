"""Kubernetes protobuf bodies: goldens made by Go (tests/real/go/protobuf), and what is malformed."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import orjson
import pytest

from atoll.base.errors import BadRequest
from atoll.cluster.apiserver.protobuf import decode
from atoll.cluster.apiserver.protobuf.decoder import go_duration
from atoll.cluster.apiserver.protobuf.table import table

GOLDENS = orjson.loads((Path(__file__).parent / "data" / "protobuf.json").read_bytes())


def without_null(value: Any) -> Any:
    """Go writes null and {} where nothing was set."""
    if isinstance(value, dict):
        items = {key: without_null(item) for key, item in value.items()}
        return {key: item for key, item in items.items() if item not in (None, {}, [])}
    return [without_null(item) for item in value] if isinstance(value, list) else value


def field(number: int, data: bytes | int) -> bytes:
    if isinstance(data, int):
        return bytes([number << 3]) + varint(data)
    return bytes([number << 3 | 2]) + varint(len(data)) + data


def varint(value: int) -> bytes:
    out = b""
    while value >= 0x80:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def body(api_version: str, kind: str, raw: bytes) -> bytes:
    return b"k8s\0" + field(1, field(1, api_version.encode()) + field(2, kind.encode())) + field(2, raw)


@pytest.mark.parametrize("golden", GOLDENS, ids=[item["json"]["kind"] for item in GOLDENS])
def test_goldens(golden: dict[str, Any]) -> None:
    api_version, kind, obj = decode(base64.b64decode(golden["protobuf"]))
    assert (api_version, kind) == (golden["json"]["apiVersion"], golden["json"]["kind"])
    assert without_null(obj) == without_null(golden["json"])


def test_zeros_stay_where_a_pointer_says_so_and_go_otherwise() -> None:
    spec = field(1, 0)  # replicas: a pointer
    meta = field(1, b"d") + field(2, b"") + field(7, 0)  # generateName and generation: omitempty
    _, _, obj = decode(body("apps/v1", "Deployment", field(1, meta) + field(2, spec)))
    assert obj == {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": {"replicas": 0},
    }  # fmt: skip


def test_an_empty_message_stays_where_it_says_something() -> None:
    volume = field(1, b"v") + field(2, field(2, b""))  # emptyDir: {} inlined from VolumeSource
    _, _, obj = decode(body("v1", "Pod", field(2, field(1, volume))))
    assert obj["spec"]["volumes"] == [{"name": "v", "emptyDir": {}}]


def test_options_are_known_in_every_group_version() -> None:
    for api_version in ("v1", "apps/v1", "batch/v1", "example.com/v1"):
        _, kind, obj = decode(body(api_version, "DeleteOptions", field(1, 30) + field(4, b"Orphan")))
        assert (kind, obj["gracePeriodSeconds"], obj["propagationPolicy"]) == ("DeleteOptions", 30, "Orphan")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "prefix"),
        (b'{"kind":"Pod"}', "prefix"),
        (b"k8s\0", "Kind"),
        (b"k8s\0\xff", "truncated"),
        (body("v1", "Nothing", b""), "no kind"),
        (body("v1", "Pod", b"\x0a\x7f"), "truncated"),
        (body("v1", "Pod", field(1, 5)), "not a message"),
        (body("v1", "Pod", field(1, field(1, b"\xff"))), "UTF-8"),
        (body("v1", "Pod", b"\x00\x00"), "number 0"),
        (body("v1", "Pod", b"\x0b"), "wire type"),
        (body("apps/v1", "ControllerRevision", field(2, field(1, b"{"))), "JSON"),
    ],
)
def test_malformed(data: bytes, message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        decode(data)


def test_a_body_cut_anywhere_is_refused_or_smaller() -> None:
    whole = base64.b64decode(next(item for item in GOLDENS if item["json"]["kind"] == "Pod")["protobuf"])
    refused = 0
    for end in range(0, len(whole), 7):
        try:
            decode(whole[:end])
        except BadRequest:
            refused += 1
    assert refused > len(whole) // 7 * 0.9


def test_unknown_fields_are_skipped() -> None:
    raw = field(1, field(1, b"a") + varint(200 << 3) + b"\x07")
    assert decode(body("v1", "ConfigMap", raw))[2]["metadata"] == {"name": "a"}


def test_every_message_of_the_table_can_be_read() -> None:
    names = table().messages
    known = set(names)
    assert len(names) > 1000
    for name in names:
        for item in table().fields(name).values():
            assert item.kind != "message" or item.message in known, (name, item)


@pytest.mark.parametrize(
    ("nanos", "text"),
    [
        (0, "0s"), (1, "1ns"), (1500, "1.5µs"), (2_000_000, "2ms"), (1_000_000_000, "1s"), (90_500_000_000, "1m30.5s"),
        (3_600_000_000_000, "1h0m0s"), (-1_500_000_000, "-1.5s"),
    ],
)  # fmt: skip
def test_durations_as_go_writes_them(nanos: int, text: str) -> None:
    assert go_duration(nanos) == text


def test_a_grace_period_of_zero_is_not_lost() -> None:
    """The first field after an embedded TypeMeta: kubelet and kwok delete pods at once with it."""
    meta = b"\x0a\x02v1\x12\x0dDeleteOptions"
    body = b"k8s\x00" + b"\x0a" + bytes([len(meta)]) + meta + b"\x12\x02\x08\x00"
    assert decode(body)[2]["gracePeriodSeconds"] == 0
