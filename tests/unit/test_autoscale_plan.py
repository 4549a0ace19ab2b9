"""Autoscaling: which pods take which new nodes, pace, what leaves and what never does; balloons."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from atoll.base.clock import rfc3339
from atoll.capacity import names
from atoll.capacity.autoscale.model import Create, Leave, Leaving, Machine, Remove, Stay
from atoll.capacity.autoscale.plan import View, plan_pools, price
from atoll.capacity.autoscale.settings import AutoscaleSettings, NodeShape, Pool
from atoll.capacity.autoscale.shape import pack
from atoll.capacity.autoscale.summary import lines
from atoll.capacity.balloons.plan import deployment, differs
from atoll.capacity.health.model import Repair, text_of
from atoll.capacity.settings import SettingsError, parse

NOW = 1_700_000_000.0
GPUS = Pool("gpu", 4, node=NodeShape("96", "1Ti", gpus=8), price_per_hour=98.0)
SMALL = Pool("small", 10, node=NodeShape("8", "32Gi"), price_per_hour=1.0)
TAINTED = Pool(
    "tainted", 10, node=NodeShape("8", "32Gi", taints=({"key": "x", "effect": "NoSchedule"},)), price_per_hour=0.5
)
SETTINGS = AutoscaleSettings((GPUS, SMALL, TAINTED))


def pod(name: str, cpu: int = 4, gpus: int = 0, balloon: bool = False, **spec: Any) -> Any:
    requests = {"cpu": str(cpu)} | ({"nvidia.com/gpu": str(gpus)} if gpus else {})
    labels = {names.BALLOON: "true"} if balloon else {}
    containers = [{"name": "c", "resources": {"requests": requests}}]
    metadata = {"name": name, "namespace": "d", "labels": labels, "creationTimestamp": rfc3339(NOW - 60)}
    return {"metadata": metadata, "spec": {"containers": containers, **spec}, "status": {"phase": "Running"}}


def node(name: str, pool: str = "small", age: float = 1000, **more: Any) -> Any:
    return {
        "metadata": {
            "name": name, "resourceVersion": "1", "creationTimestamp": rfc3339(NOW - age),
            "labels": {names.POOL_LABEL: pool, names.MACHINE: name}, "annotations": more.pop("annotations", {}),
        },
        "spec": more,
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    }  # fmt: skip


def view(*nodes: Any, settings: AutoscaleSettings = SETTINGS, **more: Any) -> View:
    known = {it["metadata"]["name"]: it for it in nodes}
    machines = [Machine(name, it["metadata"]["labels"][names.POOL_LABEL], NOW - 1000) for name, it in known.items()]
    empty: dict[str, Any] = {"pods": {}, "pending": [], "idle_since": {}, "dry": frozenset()}
    machines += more.pop("machines", [])
    return View(settings=settings, machines=machines, nodes=known, now=NOW, **{**empty, **more})


def orders(found: Any) -> list[Create]:
    return [step for step in found.steps if isinstance(step, Create)]


def test_pods_are_packed_onto_the_cheapest_pool_that_fits() -> None:
    found = plan_pools(view(pending=[pod("a"), pod("b"), pod("c"), pod("g", gpus=4), pod("h", gpus=4)]))
    assert orders(found) == [Create("gpu")], "the three small ones find room beside the GPUs"
    tolerant = pod("t", tolerations=[{"key": "x", "operator": "Exists"}])
    assert orders(plan_pools(view(pending=[tolerant]))) == [Create("tainted")]


def test_nodes_that_come_anyway_are_used_first() -> None:
    booting = Machine("small-1", "small", NOW - 30)
    assert orders(plan_pools(view(machines=[booting], pending=[pod("a"), pod("b")]))) == []
    assert orders(plan_pools(view(machines=[booting], pending=[pod("a"), pod("b"), pod("c")]))) == [Create("small")]


def test_why_no_pool_helps() -> None:
    elsewhere = pod("a", nodeSelector={"zone": "z"})
    bins, unplaced = pack(
        [elsewhere, pod("huge", cpu=200), pod("g", gpus=8)], [GPUS, SMALL], [], {"gpu": 0, "small": 1}
    )
    assert bins == []
    assert unplaced["d/a"].startswith("its node selector")
    assert unplaced["d/huge"] == "it is larger than a node of small, gpu"
    assert unplaced["d/g"].startswith("gpu: at the maximum")


def test_a_pool_without_stock_is_passed_over() -> None:
    shape = NodeShape("8", "32Gi")
    settings = AutoscaleSettings((Pool("spot", 9, node=shape, price_per_hour=0.3), Pool("firm", 9, node=shape)))
    assert orders(plan_pools(view(settings=settings, pending=[pod("a")]))) == [Create("spot")]
    assert orders(plan_pools(view(settings=settings, pending=[pod("a")], dry=frozenset({"spot"})))) == [Create("firm")]


def test_orders_are_paced_and_work_comes_before_balloons() -> None:
    settings = AutoscaleSettings(
        (Pool("small", 100, node=NodeShape("8", "32Gi")),), joining_at_once=5, creates_per_minute=50
    )
    many = [pod(f"p{number}", cpu=8) for number in range(30)]
    found = plan_pools(view(settings=settings, pending=many))
    assert len(orders(found)) == 5 and found.again_seconds == 5.0
    recent = [Machine(f"small-{number}", "small", NOW - 10) for number in range(3)]
    assert len(orders(plan_pools(view(settings=settings, machines=recent, pending=many)))) == 2
    balloons = [pod(f"b{number}", cpu=1, balloon=True) for number in range(3)]
    found = plan_pools(view(settings=settings, pending=[*balloons, pod("work", cpu=8)]))
    assert len(orders(found)) == 4, "balloons keep apart, each has a node of its own"


def test_the_least_is_kept_and_the_most_is_held() -> None:
    settings = AutoscaleSettings((Pool("small", 3, min=2, node=NodeShape("8", "32Gi")),))
    assert len(orders(plan_pools(view(settings=settings)))) == 2
    many = [pod(f"p{number}", cpu=8) for number in range(9)]
    found = plan_pools(view(node("small-0"), settings=settings, pending=many))
    assert len(orders(found)) == 2 and len(found.unplaced) == 7


def test_only_idle_nodes_leave_and_only_after_a_while() -> None:
    idle = {"small-0": NOW - 700, "small-1": NOW - 10}
    found = plan_pools(view(node("small-0"), node("small-1"), idle_since=idle))
    assert [step.node["metadata"]["name"] for step in found.steps if isinstance(step, Leave)] == ["small-0"]
    least = AutoscaleSettings((msgspec.structs.replace(SMALL, min=2),))
    assert plan_pools(view(node("small-0"), node("small-1"), settings=least, idle_since=idle)).steps == ()


def leaving(why: Any, ago: float) -> Any:
    told = msgspec.json.encode(Leaving(why, rfc3339(NOW - ago))).decode()
    return node("small-0", annotations={names.LEAVING: told}, taints=[{"key": names.LEAVING, "effect": "NoSchedule"}])


def test_scale_down_never_takes_a_node_with_work() -> None:
    closed = leaving("idle", 60)
    assert plan_pools(view(closed)).steps == (Remove("small-0", "idle"),)
    assert plan_pools(view(closed, pods={"small-0": [pod("late")]})).steps == (Stay(closed),)
    assert plan_pools(view(leaving("idle", 1))).again_seconds == pytest.approx(4.0), "a placement may be on its way"
    over = pod("over") | {"status": {"phase": "Succeeded"}}
    assert plan_pools(view(closed, pods={"small-0": [over]})).steps == (Remove("small-0", "idle"),)


def test_old_nodes_are_renewed_one_at_a_time_the_new_one_first() -> None:
    settings = AutoscaleSettings((msgspec.structs.replace(SMALL, max_age_seconds=500.0),))
    old = [node("small-0", age=900), node("small-1", age=800)]
    assert orders(plan_pools(view(*old, settings=settings))) == [Create("small", replaces="small-0")]
    coming = Machine("small-2", "small", NOW - 100, replaces="small-0")
    assert plan_pools(view(*old, settings=settings, machines=[coming])).steps == ()
    fresh = node("small-2", age=10)
    found = view(*old, fresh, settings=settings)
    found.machines[-1] = coming
    assert plan_pools(found).steps == (Leave(old[0], "age"),)


def test_a_broken_machine_is_replaced_before_it_goes() -> None:
    broken = node("small-0", annotations={names.REPAIR: text_of(Repair("replace", "repairing", rfc3339(NOW), "XID54"))})
    assert plan_pools(view(broken)).steps == (Create("small", replaces="small-0"),)
    coming = Machine("small-1", "small", NOW, replaces="small-0")
    assert plan_pools(view(broken, machines=[coming])).steps == (Remove("small-0", "broken"),)


def test_balloons_fill_a_node_and_give_way_at_once() -> None:
    made = deployment(msgspec.structs.replace(GPUS, spare=2))
    spec = made["spec"]["template"]["spec"]
    assert (made["spec"]["replicas"], spec["priorityClassName"], spec["terminationGracePeriodSeconds"]) == (
        2,
        "atoll-balloon",
        0,
    )
    assert spec["containers"][0]["resources"] == {"limits": {"nvidia.com/gpu": "8"}}
    assert made["spec"]["template"]["metadata"]["labels"][names.BALLOON] == "true"
    plain = deployment(msgspec.structs.replace(SMALL, spare=1))["spec"]["template"]["spec"]["containers"][0][
        "resources"
    ]
    assert plain == {"requests": {"cpu": "6", "memory": str(24 << 30)}}
    assert not differs(made, made) and differs(None, made)
    assert differs(made, deployment(msgspec.structs.replace(GPUS, spare=3)))


def test_prices_and_the_table() -> None:
    machines = [Machine("a", "gpu", NOW), Machine("b", "small", NOW), Machine("c", "small", NOW)]
    assert price(machines, SETTINGS.pools) == 100.0
    (gpu, small, _) = lines(SETTINGS, machines, [node("b")], {"b": [pod("x", balloon=True)]})
    assert (gpu.machines, gpu.joining, small.machines, small.warm, small.working) == (1, 1, 2, 1, 0)


@pytest.mark.parametrize(
    ("text", "what"),
    [("pools: [{name: a, max: 1, min: 2}]", "min is above max"), ("pools: [{name: a}]", "missing required field `max`"),
     ("pools: [{name: a, max: 1, node: {cpu: lots}}]", "are quantities"),
     ("pools: [{name: a, max: 1}, {name: a, max: 1}]", "twice")],
)  # fmt: skip
def test_mistakes_are_told(text: str, what: str) -> None:
    with pytest.raises(SettingsError, match=what):
        parse(text, AutoscaleSettings)
