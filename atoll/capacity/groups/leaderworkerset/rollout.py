"""How far a rolling update is let go: the leader StatefulSet's partition and replicas. Pure.

Groups are updated from the last to the first, each as a whole. So many stay available as replicas less maxUnavailable;
maxSurge groups more are made while the update lasts. A group that is not available costs nothing to update.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, floor

from atoll.capacity.groups.leaderworkerset.model import Object, replicas


@dataclass(frozen=True, slots=True)
class Rollout:
    """`partition`: leaders from there on have the new template."""

    partition: int
    replicas: int


def plan_rollout(
    lws: Object, leaders: Object | None, ready: Mapping[int, bool], updated: Mapping[int, bool]
) -> Rollout:
    """`leaders`: the leader StatefulSet as it is; `ready` and `updated` by group, `updated` to the wanted revision."""
    wanted, config = replicas(lws), _config(lws)
    kept = min(int(config.get("partition") or 0), wanted)
    if leaders is None:
        return Rollout(kept, wanted)
    there = int(leaders["spec"].get("replicas", 1))
    if all(updated.get(index, True) for index in range(kept, wanted)):
        settled = all(ready.get(index, False) for index in range(kept, wanted))
        return Rollout(kept, wanted if settled else max(wanted, min(there, wanted + _surge(lws, config))))
    surge = _surge(lws, config)
    total = wanted + surge
    spare = sum(ready.get(index, False) for index in range(total)) - (wanted - _unavailable(lws, config))
    partition = total
    while partition > kept:
        index = partition - 1
        if not updated.get(index, True) and ready.get(index, False):
            if spare <= 0:
                break
            spare -= 1
        partition -= 1
    return Rollout(partition, total)


def _config(lws: Object) -> Object:
    return (lws["spec"].get("rolloutStrategy") or {}).get("rollingUpdateConfiguration") or {}


def _surge(lws: Object, config: Object) -> int:
    return _amount(config.get("maxSurge") or 0, replicas(lws), up=True)


def _unavailable(lws: Object, config: Object) -> int:
    found = _amount(config.get("maxUnavailable", 1), replicas(lws), up=False)
    return found if found or _surge(lws, config) else 1


def _amount(value: int | str, of: int, *, up: bool) -> int:
    if isinstance(value, int):
        return value
    share = of * int(value.rstrip("%")) / 100
    return ceil(share) if up else floor(share)
