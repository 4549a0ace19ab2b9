"""What the workload controllers share: who goes first, expectations, batches, ownership, revisions, discovery."""

import asyncio
import json
from typing import Any

import pytest

from atoll.base.clock import rfc3339
from atoll.base.errors import AtollError, ServerError
from atoll.client.port import Object, RawResponse
from atoll.cluster.workloads.common import batches, conditions, history, owners, pods
from atoll.cluster.workloads.common.discovery import (
    Discovery,
    collectable,
    deletable_in_namespaces,
    served_resources,
)
from atoll.cluster.workloads.common.expectations import TIMEOUT_SECONDS, Expectations
from atoll.cluster.workloads.common.hashing import fnv1a, template_hash
from atoll.cluster.workloads.common.selectors import compile_map, compile_selector

NOW = 1_700_000_000.0


def pod(name: str, *, node: str = "n", phase: str = "Running", ready_for: float | None = 100, **extra: Any) -> Object:
    status: Object = {"phase": phase}
    if ready_for is not None:
        at = rfc3339(NOW - ready_for)
        status["conditions"] = [{"type": "Ready", "status": "True", "lastTransitionTime": at}]
    status["containerStatuses"] = [{"restartCount": extra.pop("restarts", 0)}]
    metadata = {"name": name, "uid": name, "creationTimestamp": rfc3339(NOW - extra.pop("age", 500)), **extra}
    return {"metadata": metadata, "spec": {"nodeName": node} if node else {}, "status": status}


def order(*given: Object, related: tuple[Object, ...] = ()) -> list[str]:
    return [item["metadata"]["name"] for item in pods.deletion_order(given, related, NOW)]


def test_who_goes_first() -> None:
    assert order(pod("placed"), pod("unplaced", node="", phase="Pending", ready_for=None)) == ["unplaced", "placed"]
    assert order(pod("running"), pod("pending", phase="Pending", ready_for=None)) == ["pending", "running"]
    assert order(pod("ready"), pod("unready", ready_for=None)) == ["unready", "ready"]
    cheap = {"controller.kubernetes.io/pod-deletion-cost": "-5"}
    assert order(pod("dear"), pod("cheap", annotations=cheap)) == ["cheap", "dear"]
    crowd = (pod("x", node="busy"), pod("y", node="busy"), pod("z", node="calm"))
    assert order(pod("alone", node="calm"), pod("doubled", node="busy"), related=crowd) == ["doubled", "alone"]
    assert order(pod("old", ready_for=1000), pod("new", ready_for=10)) == ["new", "old"]
    assert order(pod("steady"), pod("shaky", restarts=3)) == ["shaky", "steady"]
    assert order(pod("elder", age=5000), pod("younger", age=50)) == ["younger", "elder"]


def test_availability_takes_its_seconds() -> None:
    assert pods.available_in(pod("a", ready_for=None), 30, NOW) is None
    assert pods.available_in(pod("a", ready_for=10), 30, NOW) == 20
    assert pods.available_in(pod("a", ready_for=31), 30, NOW) == 0
    assert pods.available_in(pod("a", ready_for=0), 0, NOW) == 0


def test_expectations_hold_until_seen_or_too_old() -> None:
    waits = Expectations()
    assert waits.satisfied("k", 0)
    waits.expect("k", 2, ["x"], now=0)
    waits.creation_observed("k")
    waits.deletion_observed("k", "other")
    assert waits.outstanding("k") == 2
    assert not waits.satisfied("k", 1)
    waits.creation_observed("k")
    waits.deletion_observed("k", "x")
    assert waits.satisfied("k", 1)
    waits.expect_creations("k", 1, now=0)
    assert not waits.satisfied("k", TIMEOUT_SECONDS)
    assert waits.satisfied("k", TIMEOUT_SECONDS + 1)


def test_slow_start_finds_a_common_failure_with_few_calls() -> None:
    calls: list[int] = []

    async def act(number: int) -> None:
        calls.append(number)
        if number >= 3:
            raise ServerError("no")

    succeeded, error = asyncio.run(batches.slow_start(range(100), act))
    assert succeeded == 3
    assert error is not None
    assert calls == [0, 1, 2, 3, 4, 5, 6]


def test_claims() -> None:
    owner: Object = {"metadata": {"uid": "o", "name": "o"}}
    mine = {"metadata": {"name": "mine", "labels": {"a": "b"}}}
    stray = {"metadata": {"name": "stray", "labels": {"a": "c"}}}
    free = {"metadata": {"name": "free", "labels": {"a": "b"}}}
    going = {"metadata": {"name": "going", "labels": {"a": "b"}, "deletionTimestamp": "t"}}
    claim = owners.plan_claim(owner, compile_map({"a": "b"}), [mine, stray], [free, going, stray])
    assert (claim.owned, claim.release, claim.adopt) == ([mine], [stray], [free])
    owner["metadata"]["deletionTimestamp"] = "t"
    claim = owners.plan_claim(owner, compile_map({"a": "b"}), [mine, stray], [free])
    assert (claim.owned, claim.release, claim.adopt) == ([mine], [], [])


def test_selectors() -> None:
    wanted = {
        "matchLabels": {"app": "web"},
        "matchExpressions": [
            {"key": "tier", "operator": "In", "values": ["a", "b"]},
            {"key": "old", "operator": "DoesNotExist"},
            {"key": "zone", "operator": "NotIn", "values": ["z"]},
        ],
    }
    matches = compile_selector(wanted)
    assert matches({"app": "web", "tier": "a"})
    assert not matches({"app": "web", "tier": "a", "old": ""})
    assert not matches({"app": "web", "tier": "a", "zone": "z"})
    assert not matches({"app": "web"})
    assert not compile_selector(None)({"app": "web"})
    assert compile_selector({})({"app": "web"})
    assert compile_map({"a": "1", "b": "2"})({"a": "1", "b": "2", "c": "3"})
    assert not compile_map({"a": "1", "b": "2"})({"a": "1"})


def test_hashes_are_short_and_safe() -> None:
    assert fnv1a(b"") == 0x811C9DC5
    assert fnv1a(b"a") == 0xE40C292C
    one = template_hash({"spec": {"b": 1, "a": 2}}, None)
    assert one == template_hash({"spec": {"a": 2, "b": 1}}, None)
    assert one != template_hash({"spec": {"a": 2, "b": 1}}, 1)
    assert set(one) <= set("bcdfghjklmnpqrstvwxz2456789")


def owner(template: Object, **status: Any) -> Object:
    metadata = {"name": "db", "namespace": "default", "uid": "o"}
    spec = {"template": template, "selector": {}}
    return {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": metadata, "spec": spec, "status": status}


def test_history_reuses_what_was() -> None:
    first = history.plan_history(owner({"spec": {"v": 1}}), [], hash_label="h")
    assert first.write is first.newest
    assert first.newest["revision"] == 1
    assert history.template_of(first.newest) == {"spec": {"v": 1}}
    assert first.newest["data"]["spec"]["template"]["$patch"] == "replace"
    stored = {**first.newest, "metadata": {**first.newest["metadata"], "uid": "r1"}}
    assert history.plan_history(owner({"spec": {"v": 1}}), [stored], hash_label="h").write is None
    second = history.plan_history(owner({"spec": {"v": 2}}), [stored], hash_label="h").newest
    assert second["revision"] == 2
    back = history.plan_history(owner({"spec": {"v": 1}}), [stored, second], hash_label="h")
    assert back.write is not None
    assert (back.newest["metadata"]["name"], back.newest["revision"]) == (stored["metadata"]["name"], 3)
    names = {second["metadata"]["name"]}
    assert history.superfluous([stored, second], names, 0) == [stored]
    assert history.superfluous([stored, second], names, 1) == []


def test_conditions_keep_their_times() -> None:
    old = {"type": "A", "status": "True", "reason": "x", "lastTransitionTime": "then"}
    same = conditions.with_condition([old], {"type": "A", "status": "True", "reason": "x", "lastTransitionTime": "now"})
    assert same == [old]
    (new,) = conditions.with_condition([old], {**old, "reason": "y", "lastTransitionTime": "now"})
    assert new["lastTransitionTime"] == "then"
    (flipped,) = conditions.with_condition([old], {**old, "status": "False", "lastTransitionTime": "now"})
    assert flipped["lastTransitionTime"] == "now"


class OldServer:
    """Knows only the legacy discovery."""

    documents = {
        "/api": b'{"kind":"APIVersions","versions":["v1"]}',
        "/api/v1": b'{"groupVersion":"v1","resources":[{"name":"pods","kind":"Pod","namespaced":true,'
        b'"verbs":["delete","list","watch"]},{"name":"pods/log","kind":"Pod","namespaced":true,"verbs":["get"]},'
        b'{"name":"nodes","kind":"Node","namespaced":false,"verbs":["delete","list","watch"]},'
        b'{"name":"events","kind":"Event","namespaced":true,"verbs":["delete","list","watch"]}]}',
        "/apis": b'{"kind":"APIGroupList","groups":[{"name":"x.io","preferredVersion":{"groupVersion":"x.io/v2"},'
        b'"versions":[{"groupVersion":"x.io/v1"},{"groupVersion":"x.io/v2"}]}]}',
        "/apis/x.io/v1": b'{"groupVersion":"x.io/v1","resources":[{"name":"as","kind":"A","namespaced":true,'
        b'"verbs":["delete","list"]},{"name":"bs","kind":"B","namespaced":true,"verbs":["delete","list","watch"]}]}',
        "/apis/x.io/v2": b'{"groupVersion":"x.io/v2","resources":[{"name":"as","kind":"A","namespaced":true,'
        b'"verbs":["delete","list","watch"]}]}',
    }

    async def raw(self, method: str, path: str, **_: Any) -> RawResponse:
        return RawResponse(200, {}, self.documents[path])


def test_legacy_discovery() -> None:
    served = asyncio.run(served_resources(OldServer()))  # type: ignore[arg-type]
    named = [f"{item.api_version}/{item.plural}" for item in collectable(served)]
    assert named == ["v1/pods", "v1/nodes", "x.io/v1/bs", "x.io/v2/as"]
    emptied = [item.group_resource for item in deletable_in_namespaces(served)]
    assert emptied == ["pods", "events", "bs.x.io", "as.x.io"]


def test_discovery_reads_again_only_what_has_changed() -> None:
    server = OldServer()
    discovery = Discovery(server)  # type: ignore[arg-type]
    first = asyncio.run(discovery.served())
    assert asyncio.run(discovery.served()) is first
    server.documents = {**server.documents, "/apis/x.io/v2": b"{"}
    with pytest.raises(AtollError):
        asyncio.run(discovery.served())
    grown = OldServer.documents["/apis/x.io/v2"].replace(b'"as"', b'"cs"').replace(b'"A"', b'"C"')
    server.documents["/apis/x.io/v2"] = grown
    second = asyncio.run(discovery.served())
    assert [item.resource.plural for item in second] == ["pods", "nodes", "events", "as", "bs", "cs"]
    assert asyncio.run(discovery.served()) is second
    server.documents["/apis"] = b'{"kind":"APIGroupList","groups":[]}'
    assert [item.resource.plural for item in asyncio.run(discovery.served())] == ["pods", "nodes", "events"]


def test_a_revisions_data_is_spelled_as_go_does():
    template = {"spec": {"containers": [{"name": "c", "image": "i"}]}, "metadata": {"labels": {"b": "1", "a": "2"}}}
    data = json.dumps(history.revision_data(template), separators=(",", ":"))
    spec = '"spec":{"containers":[{"image":"i","name":"c"}]}'
    assert data == '{"spec":{"template":{"$patch":"replace","metadata":{"labels":{"a":"2","b":"1"}},' + spec + "}}}"
