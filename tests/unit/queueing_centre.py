"""A data centre for the queues' decisions: racks of two hosts of four GPUs each."""

from __future__ import annotations

from msgspec import structs

from atoll.capacity.queueing.model import (
    LOWER,
    ClusterQueue,
    Flavor,
    LocalQueue,
    PodSet,
    PreemptionPolicy,
    Quota,
    ResourceGroup,
    Shape,
    Workload,
)
from atoll.capacity.queueing.plan import Plan, plan_cycle
from atoll.capacity.queueing.state import Setup, State
from atoll.capacity.queueing.topology import NodeRoom, TopologyRequest

RACK, HOST = "cloud.provider.com/topology-rack", "kubernetes.io/hostname"
GPU = "nvidia.com/gpu"
IN_RACK = TopologyRequest(required=RACK)


def queue(name: str, gpus: int, cohort: str = "", flavors: tuple[str, ...] = ("f",), **more) -> ClusterQueue:
    policy = more.pop("policy", LOWER)
    quotas = {(flavor, GPU): Quota(gpus) for flavor in flavors}
    groups = (ResourceGroup((GPU,), flavors),)
    return ClusterQueue(name, cohort, groups, quotas, PreemptionPolicy(policy, policy), selector={}, **more)


class Centre:
    """Racks of two hosts of four GPUs each; `f` is on the racks a and b, `g` on c."""

    def __init__(self, *queues: ClusterQueue, racks: str = "abc", **setup) -> None:
        self.state = State()
        flavors = {"f": Flavor("f", {"pool": "f"}, topology="t"), "g": Flavor("g", {"pool": "g"}, topology="t")}
        local = {("ns", it.name): LocalQueue("ns", it.name, it.name) for it in queues}
        topologies = {"t": (RACK, HOST)}
        named = {it.name: it for it in queues}
        self.state.configure(Setup(named, {}, flavors, local, {"ns": {}}, topologies=topologies, **setup))
        self.state.set_rooms(tuple(self.host(rack, number) for rack in racks for number in range(2)))
        self.now = 0.0

    def host(self, rack: str, number: int) -> NodeRoom:
        labels = {RACK: rack, HOST: f"{rack}{number}", "pool": "g" if rack == "c" else "f"}
        return NodeRoom(labels[HOST], labels, (), {GPU: 4, "pods": 10})

    def add(self, name: str, where: str, pods: int, priority: int = 0, request=IN_RACK, gpus: int = 1) -> Workload:
        self.now += 1
        shape = Shape((PodSet("main", pods, None, {GPU: gpus}, {}, request),))
        made = Workload(("ns", name), name, where, priority, self.now, self.now, shape)
        self.state.put(made)
        return made

    def plan(self) -> Plan:
        self.now += 1
        return plan_cycle(self.state, self.now)

    def run(self, name: str, where: str, pods: int, priority: int = 0, request=IN_RACK) -> None:
        self.add(name, where, pods, priority, request)
        assert [it.workload.key[1] for it in self.plan().admit] == [name]

    def victims(self, name: str, where: str, pods: int, priority: int = 0, request=IN_RACK) -> list[str]:
        self.add(name, where, pods, priority, request)
        plan = self.plan()
        assert not (plan.admit and plan.evict)
        return sorted(item.victim.key[1] for item in plan.evict)

    def go(self, *names: str) -> None:
        """They are told to; their room is not free yet."""
        for name in names:
            self.state.put(structs.replace(self.state.workloads["ns", name], evicted=True))

    def where(self, name: str) -> set[str]:
        admission = self.state.workloads["ns", name].admission
        assert admission is not None and admission.pod_sets[0].topology is not None
        return {values[-1] for values, _ in admission.pod_sets[0].topology.domains}
