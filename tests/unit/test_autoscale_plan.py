"""Autoscaling: which pods take which new nodes, pace, what leaves and what never does; balloons."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
import pytest

from atoll.base.clock import rfc3339
from atoll.capacity import names
from atoll.capacity.autoscale.model import Create, Empty, Leave, Leaving, Machine, Remove, Stay
from atoll.capacity.autoscale.plan import View, plan_pools, price
from atoll.capacity.autoscale.settings import AutoscaleSettings, NodeShape, Pool
from atoll.capacity.autoscale.shape import pack
from atoll.capacity.autoscale.summary import lines
from atoll.capacity.autoscale.trial import Surroundings
from atoll.capacity.autoscale.underused import share_asked_for
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
    if balloon:
        apart = {"labelSelector": {"matchLabels": labels}, "topologyKey": "kubernetes.io/hostname"}
        spec["affinity"] = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [apart]}}
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
    empty: dict[str, Any] = {
        "pods": {}, "pending": [], "idle_since": {}, "underused_since": {}, "dry": frozenset(),
        "around": Surroundings(), "budgets": [],
    }  # fmt: skip
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
        [elsewhere, pod("huge", cpu=200), pod("g", gpus=8)], [GPUS, SMALL], [], {"gpu": 0, "small": 1}, Surroundings()
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


# -- what the scheduler looks at, pods are packed by

HOST, ZONE = "kubernetes.io/hostname", "topology.kubernetes.io/zone"
EAST = Pool("east", 9, node=NodeShape("8", "32Gi", labels={ZONE: "east"}), price_per_hour=1.0)
WEST = Pool("west", 9, node=NodeShape("8", "32Gi", labels={ZONE: "west"}), price_per_hour=2.0)
ZONES = AutoscaleSettings((EAST, WEST))


def app(name: str, cpu: int = 1, where: str = "", owner: str = "ReplicaSet", **spec: Any) -> Any:
    found = pod(name, cpu=cpu, **spec)
    owners = [{"kind": owner, "name": "web", "uid": "u", "controller": True}] if owner else []
    found["metadata"] |= {"labels": {"app": "web"}, "uid": name, "ownerReferences": owners}
    if where:
        found["spec"]["nodeName"] = where
    return found


def pods_near(kind: str, key: str) -> Any:
    term = {"labelSelector": {"matchLabels": {"app": "web"}}, "topologyKey": key}
    return {"affinity": {kind: {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}}


def spread(key: str) -> Any:
    selector = {"matchLabels": {"app": "web"}}
    constraint = {"maxSkew": 1, "topologyKey": key, "whenUnsatisfiable": "DoNotSchedule", "labelSelector": selector}
    return {"topologySpreadConstraints": [constraint]}


def shaped(name: str, pool: Pool, **more: Any) -> Any:
    found = node(name, pool.name, **more)
    found["metadata"]["labels"] |= {HOST: name, **pool.labels}
    found["status"] |= {"capacity": pool.node.capacity, "allocatable": pool.node.capacity}
    return found


def test_pods_that_keep_apart_take_a_node_each() -> None:
    apart = pods_near("podAntiAffinity", HOST)
    found = plan_pools(view(settings=ZONES, pending=[app(f"a{number}", **apart) for number in range(3)]))
    assert orders(found) == [Create("east")] * 3


def test_pods_that_spread_over_zones_take_pools_of_both() -> None:
    full = [shaped("east-1", EAST), shaped("west-1", WEST)]
    around = Surroundings(full, [pod(it["metadata"]["name"], cpu=8, nodeName=it["metadata"]["name"]) for it in full])
    pending = [app(f"a{number}", cpu=8, **spread(ZONE)) for number in range(4)]
    found = plan_pools(view(*full, settings=ZONES, pending=pending, around=around))
    assert Counter(order.pool for order in orders(found)) == {"east": 2, "west": 2}


def test_a_pod_goes_where_those_that_it_is_bound_to_are() -> None:
    there = shaped("west-1", WEST)
    around = Surroundings([there], [app("first", where="west-1")])
    near = app("second", cpu=8, **pods_near("podAffinity", ZONE))
    assert orders(plan_pools(view(there, settings=ZONES, pending=[near], around=around))) == [Create("west")]
    apart = app("third", cpu=8, **pods_near("podAntiAffinity", ZONE))
    found = plan_pools(view(there, settings=ZONES, pending=[apart], around=around))
    assert orders(found) == [Create("east")]
    lonely = app("fourth", **pods_near("podAffinity", HOST))
    lonely["metadata"]["labels"] = {"app": "other"}
    found = plan_pools(view(there, settings=AutoscaleSettings((EAST,)), pending=[lonely], around=Surroundings()))
    assert orders(found) == [] and "affinity to other pods" in found.unplaced["d/fourth"]


def test_those_that_refuse_others_in_their_zone_are_heard() -> None:
    there = shaped("east-1", EAST)
    hermit = app("hermit", where="east-1", **pods_near("podAntiAffinity", ZONE))
    around = Surroundings([there], [hermit])
    assert orders(plan_pools(view(there, settings=ZONES, pending=[app("a", cpu=8)], around=around))) == [Create("west")]


def test_a_volume_says_in_which_zone() -> None:
    claim = {
        "metadata": {"name": "data", "namespace": "d", "annotations": {"pv.kubernetes.io/bind-completed": "yes"}},
        "spec": {"volumeName": "pv-1"},
        "status": {"phase": "Bound"},
    }
    terms = [{"matchExpressions": [{"key": ZONE, "operator": "In", "values": ["west"]}]}]
    volume = {"metadata": {"name": "pv-1"}, "spec": {"nodeAffinity": {"required": {"nodeSelectorTerms": terms}}}}
    wants = app("a", volumes=[{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}])
    around = Surroundings(claims=[claim], volumes=[volume])
    assert orders(plan_pools(view(settings=ZONES, pending=[wants], around=around))) == [Create("west")]
    found = plan_pools(view(settings=ZONES, pending=[wants]))
    assert orders(found) == [] and "volumes" in found.unplaced["d/a"], "a claim that is not there"


def test_what_daemons_take_is_not_there_for_others() -> None:
    container = {"name": "c", "resources": {"requests": {"cpu": "500m"}}}
    daemon = {
        "metadata": {"name": "agent", "namespace": "kube-system"},
        "spec": {"template": {"metadata": {}, "spec": {"containers": [container]}}},
    }
    around = Surroundings(daemons=[daemon])
    two = [app("a", cpu=4), app("b", cpu=4)]
    assert len(orders(plan_pools(view(settings=ZONES, pending=two)))) == 1
    assert len(orders(plan_pools(view(settings=ZONES, pending=two, around=around)))) == 2
    found = plan_pools(view(settings=ZONES, pending=[app("whole", cpu=8)], around=around))
    assert orders(found) == [] and "daemons keep it off a new node of east, west" in found.unplaced["d/whole"]
    daemon["spec"]["template"]["spec"]["nodeSelector"] = {ZONE: "west"}
    assert orders(plan_pools(view(settings=ZONES, pending=[app("whole", cpu=8)], around=around))) == [Create("east")]


def test_an_idle_node_on_which_it_fits_is_enough() -> None:
    """Whatever keeps the scheduler from using it: a node is not made in vain over and over."""
    there = shaped("east-1", EAST)
    around = Surroundings([there], [])
    pending = [app("a", cpu=8)]
    found = plan_pools(view(there, settings=ZONES, pending=pending, idle_since={"east-1": NOW}, around=around))
    assert orders(found) == []
    assert orders(plan_pools(view(there, settings=ZONES, pending=pending, around=around))) == [Create("east")]


# -- nodes that do little


def little(*pods: Any, others: Any = (), **more: Any) -> Any:
    """small-0 does little; small-1 has room for 6 CPU."""
    nodes = [shaped("small-0", SMALL), shaped("small-1", SMALL)]
    busy = [*others] if others else [app("busy", cpu=2, where="small-1")]
    around = Surroundings(nodes, [*pods, *busy])
    by_node = {"small-0": list(pods), "small-1": busy}
    return plan_pools(view(*nodes, pods=by_node, underused_since={"small-0": NOW - 700}, around=around, **more))


def left(found: Any) -> list[str]:
    return [step.node["metadata"]["name"] for step in found.steps if isinstance(step, Leave)]


def test_a_node_that_does_little_is_emptied_where_its_work_fits_elsewhere() -> None:
    found = little(app("a", cpu=2, where="small-0"))
    assert found.steps == (Leave(found.steps[0].node, "underused"),) and left(found) == ["small-0"]
    assert left(little(app("a", cpu=3, where="small-0"), others=[app("busy", cpu=6, where="small-1")])) == []
    soon = view(shaped("small-0", SMALL), underused_since={"small-0": NOW - 10})
    assert plan_pools(soon).steps == () and plan_pools(soon).again_seconds == 590
    assert left(little(app("a", where="small-0"), pending=[app("waits", cpu=8)])) == [], "while others wait"
    least = AutoscaleSettings((msgspec.structs.replace(SMALL, min=2),))
    assert left(little(app("a", where="small-0"), settings=least)) == []


@pytest.mark.parametrize(
    ("work", "goes"),
    [
        (app("a", owner=""), False),
        (app("a", owner="Job"), False),
        (app("a", volumes=[{"name": "v", "emptyDir": {}}]), False),
        (app("a", volumes=[{"name": "v", "configMap": {"name": "c"}}]), True),
        (app("a", nodeSelector={HOST: "small-0"}), False),
    ],
)
def test_work_that_would_be_lost_stays(work: Any, goes: bool) -> None:
    work["spec"]["nodeName"] = "small-0"
    assert left(little(work)) == (["small-0"] if goes else [])


def test_what_a_pod_says_of_itself_counts() -> None:
    unsafe, safe, saved = app("a", where="small-0"), app("a", owner="", where="small-0"), app("a", owner="Job")
    unsafe["metadata"]["annotations"] = {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"}
    safe["metadata"]["annotations"] = {"cluster-autoscaler.kubernetes.io/safe-to-evict": "true"}
    saved["metadata"]["annotations"] = {names.CHECKPOINT_EVERY: "60"}
    saved["spec"]["nodeName"] = "small-0"
    assert [left(little(work)) for work in (unsafe, safe, saved)] == [[], ["small-0"], ["small-0"]]


def test_budgets_must_let_all_of_them_go() -> None:
    budget: Any = {"metadata": {"namespace": "d"}, "spec": {"selector": {"matchLabels": {"app": "web"}}}}
    two = [app("a", where="small-0"), app("b", where="small-0")]
    for allowed, goes in ((0, []), (1, []), (2, ["small-0"])):
        assert left(little(*two, budgets=[{**budget, "status": {"disruptionsAllowed": allowed}}])) == goes
    assert left(little(*two, budgets=[budget])) == [], "a budget that nobody has counted yet"


def test_one_at_a_time_and_it_opens_again_where_its_work_stays() -> None:
    def told(since: float) -> dict[str, str]:
        return {names.LEAVING: msgspec.json.encode(Leaving("underused", rfc3339(since))).decode()}

    work = [app("a", where="small-0")]
    nodes = [shaped("small-0", SMALL, annotations=told(NOW - 100)), shaped("small-1", SMALL), shaped("small-2", SMALL)]
    more = {"underused_since": {"small-1": NOW - 700}, "around": Surroundings(nodes, work)}
    found = plan_pools(view(*nodes, pods={"small-0": work, "small-1": [app("b", where="small-1")]}, **more))
    assert left(found) == [] and [step.pods for step in found.steps if isinstance(step, Empty)] == [(work[0],)]
    nodes[0] = shaped("small-0", SMALL, annotations=told(NOW - 601))
    assert Stay(nodes[0]) in plan_pools(view(*nodes, pods={"small-0": work}, **more)).steps
    assert Remove("small-0", "underused") in plan_pools(view(nodes[0], **more)).steps


def test_how_much_of_a_node_is_asked_for() -> None:
    assert share_asked_for(shaped("n", SMALL), [app("a", cpu=2), app("b", cpu=1)]) == 3 / 8
    gpu = shaped("n", GPUS)
    assert share_asked_for(gpu, [pod("a", cpu=90, gpus=2)]) == 0.25, "GPUs are what such a node is for"
    assert share_asked_for(node("n"), []) == 1.0, "what is not known is in use"
