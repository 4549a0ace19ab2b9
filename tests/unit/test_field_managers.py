"""managedFields and server-side apply against recordings of a real kube-apiserver (goldens/field_managers.json).

Each step has the live object, the request and the real answer; `python tests/real/goldens` records them.
"""

import copy
import json
from pathlib import Path

import pytest

from atoll.base.errors import ApiError
from atoll.kinds.decode import decode
from atoll.kinds.schemas import schema_for
from atoll.kinds.structural import compile_crd
from atoll.objects.apply import apply
from atoll.objects.fields import paths
from atoll.objects.managed import Schema, keep_times, update
from atoll.objects.patch_json import apply_json_patch
from atoll.objects.patch_merge import apply_merge_patch
from atoll.objects.patch_strategic import apply_strategic_patch
from atoll.objects.reset import reset_fields

STEPS = json.loads((Path(__file__).parent / "goldens" / "field_managers.json").read_text())
NOW = "2026-01-01T00:00:00Z"


def schema_of(step):
    group, _, version = step["apiVersion"].rpartition("/")
    node = schema_for(group, version, step["kind"])
    assert node is not None
    return Schema(node, step["apiVersion"], reset=reset_fields("any", ""))


def entries(obj):
    found = obj["metadata"].get("managedFields", [])
    return sorted(json.dumps({**item, "time": ""}, sort_keys=True) for item in found)


def causes(details):
    """In a fixed order: the real server's is that of a Go map."""
    return sorted((details or {}).get("causes") or (), key=lambda item: (item["message"], item["field"]))


def carry_out(step):
    schema, live, body = schema_of(step), step["live"], step["body"]
    if step["operation"] == "apply":
        return apply(live, body, schema, manager=step["manager"], now=NOW, force=step["force"])
    if step["operation"] == "json-patch":
        patched = apply_json_patch(live, body)
    elif step["operation"] == "merge-patch":
        patched = apply_merge_patch(live, body)
    else:
        patched = apply_strategic_patch(live, body, schema.node)
    new = decode(copy.deepcopy(patched), schema.node)[0]
    update(live, new, schema, manager=step["manager"], now=NOW)
    return new


def is_failure_of_validation(answer):
    return answer.get("reason") == "Invalid" and "Required value" in answer["message"]


@pytest.mark.parametrize("step", STEPS, ids=lambda s: f"{s['kind']}-{s['operation']}-{s['manager']}")
def test_step(step):
    before = copy.deepcopy(step["live"])
    answer = step["answer"]
    if is_failure_of_validation(answer):
        carry_out(step)  # what the merge itself has to say is nothing
    elif answer["kind"] == "Status":
        with pytest.raises(ApiError) as raised:
            carry_out(step)
        assert raised.value.message == answer["message"]
        assert raised.value.code == answer["code"]
        assert causes(raised.value.details) == causes(answer.get("details"))
    else:
        assert entries(carry_out(step)) == entries(answer)
    assert step["live"] == before, "the live object is shared and may not change"


def test_recordings_cover_what_they_should():
    assert len(STEPS) > 35
    assert sum(step["answer"]["kind"] == "Status" for step in STEPS) >= 8


POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "a", "labels": {"x": "y"}},
    "spec": {"containers": [{"name": "c", "image": "i"}]},
    "status": {"phase": "Pending"},
}


def pod_schema(subresource=""):
    node = schema_for("", "v1", "Pod")
    assert node is not None
    return Schema(node, "v1", subresource, reset=reset_fields("pods", subresource))


def test_status_writers_own_status_only():
    schema = pod_schema()
    created = copy.deepcopy(POD)
    update(None, created, schema, manager="kubectl", now=NOW)
    assert "f:status" not in created["metadata"]["managedFields"][0]["fieldsV1"]
    changed = copy.deepcopy(created)
    changed["status"]["phase"] = "Running"
    changed["spec"]["nodeName"] = "ignored"
    update(created, changed, pod_schema("status"), manager="kubelet", now=NOW)
    mine = next(item for item in changed["metadata"]["managedFields"] if item["manager"] == "kubelet")
    assert mine["subresource"] == "status"
    assert mine["fieldsV1"] == {"f:status": {"f:phase": {}}}


def test_time_is_kept_where_nothing_changes():
    created = copy.deepcopy(POD)
    update(None, created, pod_schema(), manager="m", now="2026-01-01T00:00:00Z")
    again = copy.deepcopy(created)
    update(created, again, pod_schema(), manager="m", now="2026-01-02T00:00:00Z")
    assert again == created
    forced = copy.deepcopy(created)
    forced["metadata"]["managedFields"][0]["time"] = "2026-01-03T00:00:00Z"
    keep_times(forced, created)
    assert forced == created


def test_updaters_are_capped():
    current = copy.deepcopy(POD)
    update(None, current, pod_schema(), manager="m0", now=NOW)
    for index in range(1, 15):
        changed = copy.deepcopy(current)
        changed["metadata"]["labels"][f"l{index}"] = "v"
        update(current, changed, pod_schema(), manager=f"m{index}", now=f"2026-01-01T00:00:{index:02}Z")
        current = changed
    managers = [item["manager"] for item in current["metadata"]["managedFields"]]
    assert len(managers) == 10
    assert "ancient-changes" in managers
    owned = {path for item in current["metadata"]["managedFields"] for path in paths(item["fieldsV1"])}
    assert {f".metadata.labels.l{index}" for index in range(1, 15)} <= owned


def test_custom_kinds_from_their_schema():
    node = compile_crd(
        {
            "type": "object",
            "properties": {
                "spec": {
                    "type": "object",
                    "properties": {
                        "ports": {
                            "type": "array",
                            "x-kubernetes-list-type": "map",
                            "x-kubernetes-list-map-keys": ["name", "protocol"],
                            "items": {
                                "type": "object",
                                "properties": {
                                    "name": {"type": "string"},
                                    "protocol": {"type": "string", "default": "TCP"},
                                    "port": {"type": "integer"},
                                },
                            },
                        },
                        "plain": {"type": "array", "items": {"type": "string"}},
                        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                    },
                }
            },
        }
    )
    schema = Schema(node, "example.com/v1", typed=False)
    base = {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}}
    first = apply(
        None,
        {**base, "spec": {"ports": [{"name": "a", "port": 1}], "plain": ["x"], "free": {"k": {"l": [1]}}}},
        schema,
        manager="one",
        now=NOW,
    )
    assert first["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"] == {
        "f:ports": {'k:{"name":"a","protocol":"TCP"}': {".": {}, "f:name": {}, "f:port": {}}},
        "f:plain": {},
        "f:free": {"f:k": {".": {}, "f:l": {}}},
    }
    second = apply(first, {**base, "spec": {"ports": [{"name": "b", "port": 2}]}}, schema, manager="two", now=NOW)
    assert [item["name"] for item in second["spec"]["ports"]] == ["a", "b"]
    third = apply(second, {**base, "spec": {"plain": ["x"]}}, schema, manager="one", now=NOW)
    assert [item["name"] for item in third["spec"]["ports"]] == ["b"]
    assert "free" not in third["spec"]
