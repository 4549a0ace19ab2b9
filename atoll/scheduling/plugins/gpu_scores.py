"""Score plugins that place pods on shared GPUs: the policies of `atoll/scheduling/devices/policies`.

Their names are those of the simulator of Weng et al. (USENIX ATC 2023); ProspectScore is ours. Each scores nodes for
any pod and chooses the devices of those that ask for some; which nodes a pod fits is Open-Gpu-Share's to say. `mix` are
the pods that are to be expected; where it is not given, those that run on GPU nodes are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from atoll.base.chance import Chance
from atoll.scheduling.arrays import Bools, Ints, Rows, np
from atoll.scheduling.devices.gpus import Gpus, gpus_of, request_of
from atoll.scheduling.devices.kinds import Kinds
from atoll.scheduling.devices.model import WHOLE, Request, Share
from atoll.scheduling.devices.policies.closed import BestFit, DotProduct
from atoll.scheduling.devices.policies.clustering import Clustering
from atoll.scheduling.devices.policies.descent import Descent
from atoll.scheduling.devices.policies.packing import Packing
from atoll.scheduling.devices.policies.port import Policy
from atoll.scheduling.devices.policies.prospect import COVERED_PERCENT, Prospect
from atoll.scheduling.devices.typical import Mix, typical
from atoll.scheduling.plugins.gpu_share import GpuShare, ShareDevices
from atoll.scheduling.plugins.port import MAX, Around, Devices, Many, Plugin, Score
from atoll.scheduling.shape import Shape
from atoll.scheduling.snapshot import Snapshot
from atoll.scheduling.state import NodeState
from atoll.scheduling.status import Status

_TYPICAL_PERCENT = 95  # of all pods, by the paper
_POLICIES = 512  # remembered, before all are forgotten
Make = Callable[[Kinds, Mix, Gpus], Policy]

# name → how much of the pods the typical ones cover, and the policy
_MAKE: Mapping[str, tuple[int, Make]] = {
    "DotProductScore": (_TYPICAL_PERCENT, lambda kinds, mix, gpus: DotProduct(kinds)),
    "GpuClusteringScore": (_TYPICAL_PERCENT, lambda kinds, mix, gpus: Clustering(kinds)),
    "GpuPackingScore": (_TYPICAL_PERCENT, lambda kinds, mix, gpus: Packing(kinds)),
    "BestFitScore": (_TYPICAL_PERCENT, lambda kinds, mix, gpus: BestFit(kinds)),
    "FGDScore": (_TYPICAL_PERCENT, lambda kinds, mix, gpus: Descent(kinds, mix, gpus.models)),
    "ProspectScore": (COVERED_PERCENT, Prospect),
}
RANDOM = "RandomScore"
GPU_SCORES = (*_MAKE, RANDOM)


def gpu_score(name: str, chance: Chance, expected: Sequence[Request] = ()) -> Plugin:
    """The plugin of a name in GPU_SCORES. `expected`: pods as they are to be expected; those that run, if none."""
    if name == RANDOM:
        return RandomScore(chance)
    percent, make = _MAKE[name]
    return PolicyScore(name, make, percent, typical(expected, percent) if expected else None)


class PolicyScore(Plugin):
    """One policy. What it remembers of states of nodes serves any number of snapshots, one after the other."""

    packs = True

    def __init__(self, name: str, make: Make, percent: int, mix: Mix | None) -> None:
        self.name = name
        self._make = make
        self._percent = percent
        self._mix = mix
        self._groups: dict[Request, tuple[Request, ...]] = {}  # kinds that are judged together
        self._known: dict[tuple[object, ...], Policy] = {}

    def score(self, shape: Shape, nodes: Snapshot) -> Score | None:
        gpus = gpus_of(nodes)
        return _Score(*self._policy(shape, gpus), gpus)

    def devices(self, shape: Shape, nodes: Snapshot) -> Devices | None:
        share = shape.template.share
        if share is None:
            return None
        gpus = gpus_of(nodes)
        return _Devices(*self._policy(shape, gpus), share, gpus)

    def many(self, shapes: Sequence[Shape], nodes: Snapshot) -> Many | None:
        gpus = gpus_of(nodes)
        group = tuple(dict.fromkeys(request_of(shape.template) for shape in shapes))
        self._groups.update((request, group) for request in group)
        found = [self._policy(shape, gpus) for shape in shapes]
        return _Many(found[0][0], [kind for _, kind in found], gpus)

    def _policy(self, shape: Shape, gpus: Gpus) -> tuple[Policy, int]:
        """The policy that judges the shape, and which of its kinds the shape is."""
        request = request_of(shape.template)
        group = self._groups.get(request, (request,))
        mix = self._mix or gpus.running(self._percent, request)
        key = (group, mix, tuple(gpus.models), *gpus.fleet_key())
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= _POLICIES:
                self._known.clear()
            found = self._known[key] = self._make(Kinds(group), mix, gpus)
        return found, found.kinds.index[request]


class _Score(Score):
    def __init__(self, policy: Policy, kind: int, gpus: Gpus) -> None:
        self._policy = policy
        self._kind = kind
        self._gpus = gpus
        self.parts = policy.parts

    def values(self, rows: Rows) -> Ints:
        kind, scores, gpus = self._kind, self._policy.scores, self._gpus
        return np.array([scores(gpus, row)[kind] for row in rows.tolist()], np.int64)


class _Devices(Devices):
    """The policy's choice, which knows nothing of memory: where that is short there, the filter's own."""

    def __init__(self, policy: Policy, kind: int, share: Share, gpus: Gpus) -> None:
        self._policy = policy
        self._kind = kind
        self._share = share
        self._gpus = gpus

    def of(self, row: int) -> tuple[int, ...]:
        found = tuple(self._policy.devices(self._gpus, row, self._kind))
        if self._gpus.each[row] and not self._gpus.fitting(np.array([row]), self._share)[0, list(found)].all():
            return ShareDevices(self._share, self._gpus).of(row)
        return found


class _Many(Many):
    scores = True

    def __init__(self, policy: Policy, kinds: Sequence[int], gpus: Gpus) -> None:
        self._policy = policy
        self._kinds = None if list(kinds) == list(range(len(policy.kinds))) else np.array(kinds, np.intp)
        self._gpus = gpus
        self.parts = policy.parts

    def values(self, row: int) -> Ints:
        found = self._policy.scores(self._gpus, row)
        return found if self._kinds is None else found[self._kinds]


class RandomScore(Plugin):
    """A uniform feasible node, and for parts of a GPU a uniform fitting device."""

    name = RANDOM
    packs = True

    def __init__(self, chance: Chance) -> None:
        self._chance = chance

    def around(self, shape: Shape, nodes: Snapshot) -> Around | None:
        return _Draw(self._chance)

    def devices(self, shape: Shape, nodes: Snapshot) -> Devices | None:
        share = shape.template.share
        if share is None or share.count > 1 or share.milli == WHOLE:
            return GpuShare().devices(shape, nodes)
        return _DrawnDevice(self._chance, share, gpus_of(nodes))


class _Draw(Around):
    refuses = False

    def __init__(self, chance: Chance) -> None:
        self._chance = chance

    def sync(self) -> None:
        return

    def allowed(self) -> Bools:
        raise NotImplementedError("it refuses nobody")

    def scores(self, feasible: Rows) -> Ints:
        found = np.zeros(len(feasible), np.int64)
        found[self._chance.integer(0, len(feasible) - 1)] = MAX
        return found

    def why(self, node: NodeState) -> Status | None:
        return None


class _DrawnDevice(Devices):
    def __init__(self, chance: Chance, share: Share, gpus: Gpus) -> None:
        self._chance = chance
        self._share = share
        self._gpus = gpus

    def of(self, row: int) -> tuple[int, ...]:
        fitting = self._gpus.fitting(np.array([row]), self._share)[0].nonzero()[0].tolist()
        return (self._chance.choice(fitting),)
