"""How far a rolling update of groups is let go; which subgroup a pod is of."""

from __future__ import annotations

from typing import Any

import pytest

from atoll.capacity.groups.leaderworkerset.pods import complete, subgroup
from atoll.capacity.groups.leaderworkerset.rollout import Rollout, plan_rollout


def lws(replicas: int, **config: Any) -> Any:
    return {"spec": {"replicas": replicas, "rolloutStrategy": {"rollingUpdateConfiguration": config}}}


def leaders(replicas: int) -> Any:
    return {"spec": {"replicas": replicas}}


def rollout(of: Any, there: int, ready: str, new: str) -> Rollout:
    """`ready` and `new`: a letter a group, `y` for yes, `-` for one that does not exist."""
    known = {index: letter == "y" for index, letter in enumerate(ready) if letter != "-"}
    return plan_rollout(of, leaders(there), known, {i: new[i] == "y" for i in known})


@pytest.mark.parametrize(
    ("config", "there", "ready", "new", "partition", "replicas"),
    [
        ({"maxUnavailable": 1}, 4, "yyyy", "nnnn", 3, 4),
        ({"maxUnavailable": 2}, 4, "yyyy", "nnnn", 2, 4),
        ({"maxUnavailable": "50%"}, 4, "yyyy", "nnnn", 2, 4),
        ({"maxUnavailable": 1}, 4, "yyyn", "nnny", 3, 4),  # the updated one is not ready yet
        ({"maxUnavailable": 1}, 4, "yyyy", "nnny", 2, 4),
        ({"maxUnavailable": 1}, 4, "nyyy", "nnny", 3, 4),  # one is down already
        ({"maxUnavailable": 1}, 4, "yyyn", "nnnn", 3, 4),  # what is down anyway costs nothing
        ({"maxUnavailable": 0, "maxSurge": 1}, 4, "yyyy", "nnnn", 4, 5),
        ({"maxUnavailable": 0, "maxSurge": 1}, 5, "yyyyy", "nnnny", 3, 5),
        ({"maxUnavailable": 1, "partition": 3}, 4, "yyyy", "nnny", 3, 4),
        ({"maxUnavailable": 1}, 4, "yyyy", "yyyy", 0, 4),
        ({"maxUnavailable": 0, "maxSurge": 1}, 5, "yyyyy", "yyyyy", 0, 4),
        ({"maxUnavailable": 0, "maxSurge": 1}, 5, "yyyny", "yyyyy", 0, 5),
    ],
)
def test_rollout(config: Any, there: int, ready: str, new: str, partition: int, replicas: int) -> None:
    assert rollout(lws(4, **config), there, ready, new) == Rollout(partition, replicas)


def test_a_new_set_is_made_at_once() -> None:
    assert plan_rollout(lws(3), None, {}, {}) == Rollout(0, 3)


@pytest.mark.parametrize(
    ("size", "part", "policy", "groups"),
    [
        (4, 2, "LeaderWorker", [0, 0, 1, 1]),
        (5, 2, "LeaderWorker", [0, 0, 0, 1, 1]),
        (5, 2, "LeaderExcluded", [None, 0, 0, 1, 1]),
    ],
)
def test_subgroups(size: int, part: int, policy: str, groups: list[int | None]) -> None:
    assert [subgroup(index, size, part, policy) for index in range(size)] == groups


def test_pods_of_others_are_left_alone() -> None:
    pod = {"metadata": {"name": "x", "labels": {"leaderworkerset.sigs.k8s.io/name": "s"}}, "spec": {"containers": []}}
    before = {"metadata": {**pod["metadata"]}, "spec": {"containers": []}}
    complete(pod, "d")
    assert pod == before
