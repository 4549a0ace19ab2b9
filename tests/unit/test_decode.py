"""Decoding as Go does it: messages as recorded, and the object that comes out."""

import json
from pathlib import Path

import pytest

from atoll.kinds.decode import DecodeError, decode, strict_error, zero
from atoll.kinds.schemas import builtin, schema_for

CASES = json.loads((Path(__file__).parent / "goldens" / "messages.json").read_text())["decode"]


def message_of(obj):
    node = schema_for("apps", "v1", "Deployment")
    assert node is not None
    try:
        problems = decode(obj, node)[1]
    except DecodeError as error:
        return str(error)
    return strict_error(problems) if problems else None


@pytest.mark.parametrize(("obj", "message"), CASES)
def test_messages_as_recorded(obj, message):
    prefix = 'Deployment in version "v1" cannot be handled as a Deployment: '
    if message is not None and not message.startswith(prefix):
        pytest.skip("the real server had another objection")
    assert message_of(obj) == (None if message is None else message.removeprefix(prefix))


def pod(spec, **rest):
    node = schema_for("", "v1", "Pod")
    assert node is not None
    return decode({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": spec, **rest}, node)


def test_empty_and_null_fields_vanish_and_value_structs_appear():
    found, problems = pod(
        {
            "containers": [{"name": "c", "command": [], "env": None, "stdin": False}],
            "nodeSelector": {},
            "terminationGracePeriodSeconds": 0,
            "securityContext": {},
        }
    )
    assert problems == []
    assert found["spec"] == {
        "containers": [{"name": "c", "resources": {}}],
        "terminationGracePeriodSeconds": 0,
        "securityContext": {},
    }
    assert found["status"] == {}


def test_quantities_and_times_become_canonical():
    limits = {"cpu": 0.5, "memory": "1024Mi", "x": 2}
    found, _ = pod({"containers": [{"name": "c", "resources": {"limits": limits}}]})
    assert found["spec"]["containers"][0]["resources"]["limits"] == {"cpu": "500m", "memory": "1Gi", "x": "2"}
    node = schema_for("", "v1", "Event")
    assert node is not None
    event = {"metadata": {}, "firstTimestamp": "2020-01-02T03:04:05.678+01:00", "eventTime": "2020-01-02T03:04:05Z"}
    found, _ = decode(event, node)
    assert found["firstTimestamp"] == "2020-01-02T02:04:05Z"
    assert found["eventTime"] == "2020-01-02T03:04:05.000000Z"


def test_the_input_is_not_changed():
    spec = {"containers": [{"name": "c", "command": []}], "bogus": {"a": 1}}
    before = json.dumps(spec)
    _, problems = pod(spec)
    assert json.dumps(spec) == before
    assert problems == ['unknown field "spec.bogus"']


def test_every_builtin_kind_compiles_and_decodes_nothing():
    schemas = builtin()
    for name in schemas.definitions:
        node = schemas.node(name)
        if node.properties is not None:
            made, problems = decode({}, node)
            assert problems == []
            assert made == zero(node)


def test_merge_facts_of_a_pod():
    node = schema_for("", "v1", "Pod")
    assert node is not None
    containers = node.at("spec", "containers")
    ports = node.at("spec", "containers", "[]", "ports")
    assert containers is not None
    assert ports is not None
    assert (containers.merge_key, containers.patch_strategies) == ("name", ("merge",))
    assert ports.list_keys == ("containerPort", "protocol")
    assert ports.key_defaults == {"containerPort": 0, "protocol": "TCP"}
    assert node.at("spec", "tolerations").atomic
    assert not node.at("metadata", "finalizers").atomic
