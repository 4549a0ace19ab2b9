"""The graph of owners, and what becomes of an object by the state of its owners."""

from typing import Any

from atoll.client.port import Object
from atoll.cluster.workloads.garbage.graph import Graph, Verdict, judge
from atoll.kinds.builtin import CONFIGMAPS, NODES, PODS, REPLICA_SETS


def obj(uid: str, *owners: Object, name: str = "", **metadata: Any) -> Object:
    made: Object = {"uid": uid, "name": name or uid, "namespace": "default", **metadata}
    if owners:
        made["ownerReferences"] = list(owners)
    return {"metadata": made}


def owned_by(uid: str, kind: str = "ReplicaSet", *, block: bool = True, name: str = "") -> Object:
    return {"apiVersion": "apps/v1", "kind": kind, "name": name or uid, "uid": uid, "blockOwnerDeletion": block}


def uids(nodes: list[Any]) -> list[str]:
    return [node.uid for node in nodes]


def test_an_owner_that_was_only_named_must_be_looked_up() -> None:
    graph = Graph()
    work = graph.observe(PODS, obj("p", owned_by("r")))
    assert uids(work.check) == ["r"]
    virtual = graph.get("r")
    assert virtual is not None
    assert virtual.resource is None
    assert (virtual.namespace, virtual.name, virtual.kind) == ("default", "r", "ReplicaSet")
    assert uids(graph.observe(REPLICA_SETS, obj("r")).check) == []
    assert virtual.resource == REPLICA_SETS
    assert uids(graph.forget("r").check) == ["p"]


def test_an_owner_that_never_was_sets_its_dependents_up_for_a_look() -> None:
    graph = Graph()
    graph.observe(PODS, obj("p", owned_by("ghost")))
    assert uids(graph.forget("ghost").check) == ["p"]


def test_foreground_deletion_wakes_dependents_and_each_of_their_ends_wakes_the_owner() -> None:
    graph = Graph()
    graph.observe(REPLICA_SETS, obj("r"))
    graph.observe(PODS, obj("p", owned_by("r")))
    graph.observe(PODS, obj("q", owned_by("r", block=False)))
    going = obj("r", deletionTimestamp="t", finalizers=["foregroundDeletion"])
    assert uids(graph.observe(REPLICA_SETS, going).check) == ["p", "q", "r"]
    node = graph.get("r")
    assert node is not None
    assert uids(node.blocking_dependents()) == ["p"]
    assert uids(graph.forget("p").check) == ["r"]
    assert node.blocking_dependents() == []
    assert graph.observe(REPLICA_SETS, going).check == []


def test_orphaning() -> None:
    graph = Graph()
    graph.observe(PODS, obj("p", owned_by("r")))
    work = graph.observe(REPLICA_SETS, obj("r", deletionTimestamp="t", finalizers=["orphan"]))
    assert uids(work.orphan) == ["r"]


def test_a_reference_that_is_wrong_about_its_owner_is_looked_at() -> None:
    graph = Graph()
    graph.observe(CONFIGMAPS, obj("c", name="real"))
    work = graph.observe(PODS, obj("p", owned_by("c", "ConfigMap", name="other")))
    assert uids(work.check) == ["p"]
    early = Graph()
    early.observe(PODS, obj("p", owned_by("c", "ConfigMap", name="other")))
    assert "p" in uids(early.observe(CONFIGMAPS, obj("c", name="real")).check)


def test_cluster_scoped_owners_have_namespaced_dependents() -> None:
    graph = Graph()
    node = {"metadata": {"uid": "n", "name": "n"}}
    graph.observe(NODES, node)
    assert graph.observe(PODS, obj("p", owned_by("n", "Node"))).check == []


def test_a_virtual_owner_goes_with_its_last_dependent() -> None:
    graph = Graph()
    graph.observe(PODS, obj("p", owned_by("ghost")))
    graph.forget("p")
    assert len(graph) == 0


def verdict(child: Object, absent: list[str], waiting: list[str], dependents: tuple[Object, ...] = ()) -> Verdict:
    graph = Graph()
    graph.observe(PODS, child)
    for item in dependents:
        graph.observe(PODS, item)
    node = graph.get(child["metadata"]["uid"])
    assert node is not None
    return judge(child, node, absent, waiting)


def test_judgement() -> None:
    two = obj("p", owned_by("a"), owned_by("b"))
    assert verdict(two, [], []) == Verdict()
    assert verdict(two, ["a"], []) == Verdict(drop_owners=frozenset({"a"}))
    assert verdict(two, ["a"], ["b"]) == Verdict(delete="Background")
    assert verdict(two, ["a", "b"], []) == Verdict(delete="Background")
    assert verdict(obj("p"), [], []) == Verdict()
    orphaning = obj("p", owned_by("a"), finalizers=["orphan"])
    assert verdict(orphaning, ["a"], []) == Verdict(delete="Orphan")


def test_foreground_goes_down_the_tree_and_breaks_circles() -> None:
    one = obj("p", owned_by("a"))
    child = obj("q", owned_by("p", "Pod"))
    assert verdict(one, [], ["a"], (child,)) == Verdict(delete="Foreground")
    assert verdict(one, ["a"], [], (child,)) == Verdict(delete="Background")
    circle = obj("q", owned_by("p", "Pod"), deletionTimestamp="t", finalizers=["foregroundDeletion"])
    assert verdict(one, [], ["a"], (circle,)) == Verdict(delete="Foreground", unblock_first=True)
