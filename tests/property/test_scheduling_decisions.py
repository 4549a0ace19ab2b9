"""Decisions on arrays, kept up to date by small changes, are those of a plain evaluation of every node.

Whatever happens in between.
"""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scheduling_reference import HOST, ZONE, Reference

from atoll.base.chance import Chance
from atoll.scheduling.matching import label_selector
from atoll.scheduling.plan import Planner

APPS = st.sampled_from(["a", "b"])
SELECTORS = st.sampled_from([{"matchLabels": {"app": "a"}}, {"matchLabels": {"app": "b"}}, {}, None])
KEYS = st.sampled_from([HOST, ZONE, "disk"])
TERM = st.builds(
    lambda key, selector, spaces: {"topologyKey": key, "labelSelector": selector, "namespaces": spaces},
    KEYS,
    st.sampled_from([{"matchLabels": {"app": "a"}}, {"matchLabels": {"app": "b"}}]),
    st.sampled_from([[], ["n1"], ["n1", "n2"]]),
)
WEIGHTED = st.builds(lambda weight, term: {"weight": weight, "podAffinityTerm": term}, st.integers(1, 100), TERM)


def when(kind, items):
    return {f"{kind}DuringSchedulingIgnoredDuringExecution": items}


@st.composite
def pod_affinity(draw):
    found = {}
    for kind in ("podAffinity", "podAntiAffinity"):
        if draw(st.booleans()):
            found[kind] = when("required", draw(st.lists(TERM, max_size=1))) | when(
                "preferred", draw(st.lists(WEIGHTED, max_size=2))
            )
    if draw(st.booleans()):
        item = {"key": "disk", "operator": draw(st.sampled_from(["In", "NotIn", "Exists"])), "values": ["ssd"]}
        if item["operator"] == "Exists":
            item["values"] = []
        found["nodeAffinity"] = draw(
            st.sampled_from(
                [
                    when("required", {"nodeSelectorTerms": [{"matchExpressions": [item]}]}),
                    when("preferred", [{"weight": 7, "preference": {"matchExpressions": [item]}}]),
                ]
            )
        )
    return found


@st.composite
def constraint(draw):
    found = {
        "maxSkew": draw(st.integers(1, 3)),
        "topologyKey": draw(KEYS),
        "whenUnsatisfiable": draw(st.sampled_from(["DoNotSchedule", "ScheduleAnyway"])),
        "labelSelector": draw(SELECTORS),
        "nodeTaintsPolicy": draw(st.sampled_from(["Honor", "Ignore"])),
        "nodeAffinityPolicy": draw(st.sampled_from(["Honor", "Ignore"])),
    }
    if found["whenUnsatisfiable"] == "DoNotSchedule":
        found["minDomains"] = draw(st.integers(1, 3))
    return found


@st.composite
def template(draw):
    requests = draw(st.sampled_from([{}, {"cpu": "500m"}, {"cpu": "1", "memory": "1Gi"}, {"example.com/gpu": "1"}]))
    spec = {"containers": [{"name": "c", "image": "i", "resources": {"requests": requests}}]}
    if draw(st.booleans()):
        spec["affinity"] = draw(pod_affinity())
    constraints = draw(st.lists(constraint(), max_size=2))
    if constraints:
        spec["topologySpreadConstraints"] = constraints
    if draw(st.booleans()):
        spec["tolerations"] = [{"key": "t", "operator": "Exists"}]
    default = draw(st.sampled_from([None, {"matchLabels": {"app": "a"}}]))
    return {"namespace": draw(st.sampled_from(["n1", "n2"])), "app": draw(APPS), "spec": spec, "default": default}


@st.composite
def node(draw, number):
    labels = {HOST: f"h{draw(st.sampled_from([number, number, number, 0]))}"}
    if draw(st.integers(0, 4)):
        labels[ZONE] = draw(st.sampled_from(["z1", "z2"]))
    if draw(st.booleans()):
        labels["disk"] = draw(st.sampled_from(["ssd", "hdd"]))
    spec = {"unschedulable": draw(st.integers(0, 7)) == 0}
    if draw(st.integers(0, 3)) == 0:
        spec["taints"] = [{"key": "t", "effect": draw(st.sampled_from(["NoSchedule", "PreferNoSchedule"]))}]
    allocatable = {"cpu": draw(st.sampled_from(["2", "4"])), "memory": "8Gi", "pods": "6", "example.com/gpu": "1"}
    return {
        "metadata": {"name": f"node{number}", "labels": labels},
        "spec": spec,
        "status": {"allocatable": allocatable},
    }


def pod_object(kind, number):
    return {
        "metadata": {
            "name": f"p{number}",
            "uid": f"u{number}",
            "namespace": kind["namespace"],
            "labels": {"app": kind["app"]},
        },
        "spec": kind["spec"],
        "default": kind["default"],
    }


def default_selector(obj):
    found = obj.get("default")
    return None if found is None else (repr(found), label_selector(found))


class World:
    """A planner and the plain truth, changed alike."""

    def __init__(self):
        self.planner = Planner(Chance(1), default_selector)
        self.nodes, self.placed, self.where = {}, {}, {}

    def set_node(self, obj):
        self.nodes[obj["metadata"]["name"]] = obj
        self.placed.setdefault(obj["metadata"]["name"], [])
        self.planner.state.set_node(obj)

    def place(self, obj, name):
        self.lift(obj["metadata"]["uid"])
        self.placed[name].append(obj)
        self.where[obj["metadata"]["uid"]] = (name, obj)
        self.planner.state.place(self.planner.pod(obj), name)

    def lift(self, uid):
        if uid in self.where:
            name, obj = self.where.pop(uid)
            self.placed[name].remove(obj)
            self.planner.state.lift(uid)

    def check(self, obj):
        """The same scores, the same reasons, and the choice is one of the best."""
        reference = Reference(list(self.nodes.values()), self.placed)
        pod = self.planner.pod(obj)
        evaluation = self.planner.evaluation(pod)
        assert evaluation is not None
        reasons = {name: reference.why_not(obj, node) for name, node in self.nodes.items()}
        assert {name: why.reasons for name, why in evaluation.statuses().items()} == {
            name: why for name, why in reasons.items() if why
        }
        totals = reference.totals(obj)
        assert evaluation.totals() == totals
        decision = self.planner.decide(pod)
        if totals:
            best = max(totals.values())
            order = self.planner.state.nodes
            expected = min((n for n in totals if totals[n] == best), key=lambda n: (len(order[n].pods), order[n].order))
            assert decision.node == expected
        else:
            assert decision.node is None and decision.failure.message.startswith(f"0/{len(self.nodes)} nodes")
        return decision.node


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.data())
def test_decisions_equal_plain_evaluation(data):
    world = World()
    count = data.draw(st.integers(1, 5))
    for number in range(count):
        world.set_node(data.draw(node(number)))
    kinds = data.draw(st.lists(template(), min_size=1, max_size=3))
    for step in range(data.draw(st.integers(1, 14))):
        action = data.draw(st.sampled_from(["schedule", "schedule", "schedule", "lift", "terminate", "node"]))
        if action == "schedule":
            obj = pod_object(data.draw(st.sampled_from(kinds)), step)
            chosen = world.check(obj)
            if chosen is not None:
                world.place(obj, chosen)
        elif action == "node":
            world.set_node(data.draw(node(data.draw(st.integers(0, count)))))
            count = len(world.nodes)
        elif world.where:
            uid = data.draw(st.sampled_from(sorted(world.where)))
            name, obj = world.where[uid]
            if action == "lift":
                world.lift(uid)
            else:
                metadata = {**obj["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z"}
                world.place({**obj, "metadata": metadata}, name)
