"""FGD and Atoll's policy on mixes of pods that nobody published: resampled from the trace, as the paper varies it.

python -m bench.openb_mixes NODES.csv PODS.csv [SEED …]
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from atoll.base.chance import Chance
from atoll.scheduling.devices.model import Request
from atoll.simulate.openb import replay, trace

# part of the GPU milli that is asked for by (shares of a GPU, pods of several GPUs); the rest is single whole GPUs
MIXES = {
    "shares 0 %, several 8 %": (0.0, 0.08),
    "shares 60 %, several 5 %": (0.6, 0.05),
    "shares 80 %, several 3 %": (0.8, 0.03),
    "shares 100 %": (1.0, 0.0),
    "several 30 %": (0.2, 0.3),
    "several 50 %": (0.2, 0.5),
}
MODELS = {
    "10 % of pods name GPU models": 0.1,
    "25 % of pods name GPU models": 0.25,
    "33 % of pods name GPU models": 0.33,
}


def resampled(pods: tuple[Request, ...], shares: float, several: float, chance: Chance) -> tuple[Request, ...]:
    """As many pods without GPU and as much GPU as before, in these parts."""
    milli = sum(pod.gpu_milli for pod in pods)

    def drawn(part: float, wanted: Callable[[Request], bool]) -> list[Request]:
        choices, found, got = [pod for pod in pods if wanted(pod)], [], 0
        while got < part * milli:
            found.append(chance.choice(choices))
            got += found[-1].gpu_milli
        return found

    return (
        *(pod for pod in pods if not pod.count),
        *drawn(shares, lambda pod: pod.shared),
        *drawn(several, lambda pod: pod.count > 1),
        *drawn(1 - shares - several, lambda pod: pod.count == 1 and not pod.shared),
    )


def named(given: trace.Trace, part: float, chance: Chance) -> tuple[Request, ...]:
    """One or two models for a part of the GPU pods, drawn by how many nodes have them."""

    def maybe(pod: Request) -> Request:
        if not pod.count or chance.random() >= part:
            return pod
        models = frozenset(chance.choice(list(given.machines)).model for _ in range(chance.integer(1, 2)))
        return Request(pod.cpu_milli, pod.memory_mib, pod.count, pod.milli, models)

    return tuple(maybe(pod) for pod in given.pods)


def main() -> None:
    given = trace.read(Path(sys.argv[1]), Path(sys.argv[2]))
    seeds = [int(seed) for seed in sys.argv[3:]] or list(replay.SEEDS)
    lists = {name: resampled(given.pods, *parts, Chance(7, name)) for name, parts in MIXES.items()}
    lists |= {name: named(given, part, Chance(7, name)) for name, part in MODELS.items()}
    print(f"seeds {', '.join(map(str, seeds))}; percent of all GPUs, FGD → Atoll", "", sep="\n")
    print("| pods | allocated at 100 % arrived | fragmented at 95 % arrived |", "|---|---|---|", sep="\n")
    for name, pods in lists.items():
        varied = trace.Trace(given.machines, pods)
        fgd, ours = ([replay.run(contest, seed) for seed in seeds] for contest in contests(varied))
        cells = [
            f"{before:.2f} → {after:.2f} ({after - before:+.2f})"
            for before, after in (
                (mean([run.allocated[100] for run in fgd]), mean([run.allocated[100] for run in ours])),
                (mean([run.fragmented[95] for run in fgd]), mean([run.fragmented[95] for run in ours])),
            )
        ]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def contests(varied: trace.Trace) -> list[replay.Contest]:
    return [replay.Contest(varied, name) for name in ("06-FGD", "07-Atoll")]


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


if __name__ == "__main__":
    main()
