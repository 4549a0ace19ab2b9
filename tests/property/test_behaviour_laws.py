"""Laws that hold for every kind's behaviour, on each object that the real server has ever answered to a write."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from atoll.cluster.apiserver.behaviour import behaviour_of
from atoll.kinds.catalog import catalog, storage_version
from atoll.kinds.decode import decode
from atoll.kinds.resource import Resource
from atoll.kinds.schemas import schema_for

RECORDINGS = Path(__file__).parent.parent / "differential" / "recordings"
KINDS = {(entry.resource.api_version, entry.resource.kind): entry.resource for entry in catalog()}


def _stored_objects() -> list[Any]:
    """(id, resource, object) of recorded answers in their storage version."""
    found = []
    for path in sorted(RECORDINGS.glob("*.json")):
        for step in json.loads(path.read_text())["steps"]:
            body = step["response"]["body"]
            if step["request"]["method"] == "GET" or not isinstance(body, dict) or "metadata" not in body:
                continue
            resource = KINDS.get((body.get("apiVersion", ""), body.get("kind", "")))
            if resource is None or "uid" not in body["metadata"] or resource.kind == "CustomResourceDefinition":
                continue
            if storage_version(resource) == (resource.group, resource.version) and resource.group != "events.k8s.io":
                found.append(pytest.param(resource, body, id=step["id"]))
    return found


def _decoded(resource: Resource, body: Any) -> Any:
    node = schema_for(resource.group, resource.version, resource.kind)
    assert node is not None
    obj, problems = decode(copy.deepcopy(body), node)
    assert problems == []
    return obj


@pytest.mark.parametrize(("resource", "body"), _stored_objects())
def test_what_was_answered_is_whole_and_may_be_written_back(resource: Resource, body: Any) -> None:
    behaviour = behaviour_of(resource)
    stored = _decoded(resource, body)
    again = copy.deepcopy(stored)
    behaviour.default(again)
    assert again == stored, "defaults change what upstream had already defaulted"
    unchanged = copy.deepcopy(stored)
    behaviour.prepare_update(unchanged, stored)
    assert unchanged == stored, "an update that changes nothing changed something"
    assert behaviour.validate_update(unchanged, stored) == []
    if behaviour.has_status:
        behaviour.prepare_status(unchanged, stored)
        assert unchanged == stored
        assert behaviour.validate_status(unchanged, stored) == []
