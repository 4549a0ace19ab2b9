"""What `atoll status` asks a person to look at."""

from atoll.fleet import names
from atoll.fleet.plan.attention import attention
from atoll.fleet.propagation.decide import SCHEDULED


def _binding(name: str, annotations: dict[str, str], *items: dict[str, object]) -> dict[str, object]:
    reference = {"apiVersion": "apps/v1", "kind": "Deployment", "namespace": "shop", "name": name}
    return {"metadata": {"name": f"{name}-deployment", "annotations": annotations}, "spec": {"resource": reference},
            "status": {"aggregatedStatus": list(items)}}  # fmt: skip


def test_a_healthy_fleet_needs_none() -> None:
    done = {SCHEDULED: '{"reason": "Success", "message": "done"}'}
    assert attention([_binding("web", done, {"clusterName": "a", "applied": True})]) == []


def test_waiting_deletions_unplaced_replicas_and_refused_copies_are_told() -> None:
    short = {SCHEDULED: '{"reason": "InsufficientCapacity", "message": "3 replicas are not placed"}'}
    found = attention(
        [
            _binding("gone", {names.DELETING: "waiting: a"}, {"clusterName": "a", "applied": False}),
            _binding("big", short),
            _binding("free", {names.UNMANAGED: "nothing manages it"}),
            _binding("old", {}, {"clusterName": "a", "applied": False, "appliedMessage": "exists already"}),
        ]
    )
    assert [(one.what, one.message) for one in found] == [
        ("deleting", "waiting: a"), ("unmanaged", "nothing manages it"),
        ("unplaced", "3 replicas are not placed"), ("not applied", "a: exists already"),
    ]  # fmt: skip
