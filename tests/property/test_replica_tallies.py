"""A tally of pods that come, change and go says what a look at each of them says."""

from __future__ import annotations

import random
from typing import Any

import pytest

from atoll.cluster.workloads.common.pods import is_active
from atoll.cluster.workloads.common.selectors import compile_selector
from atoll.cluster.workloads.replicaset.plan import count, survey, template_labels
from atoll.cluster.workloads.replicaset.tally import Tally

NOW = 1_000_000.0
SELECTOR = {"matchLabels": {"app": "a"}}
OWNER = {
    "metadata": {"name": "o", "uid": "o"},
    "spec": {"selector": SELECTOR, "template": {"metadata": {"labels": {"app": "a", "v": "2"}}}},
}


def a_pod(draw: random.Random, number: int) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": f"p{number}", "uid": f"u{number}"}
    labels = draw.choice([{"app": "a", "v": "2"}, {"app": "a", "v": "2", "w": "x"}, {"app": "a"}, {"app": "b"}, None])
    if labels is not None:
        metadata["labels"] = labels
    if draw.random() < 0.2:
        metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    status: dict[str, Any] = {"phase": draw.choice(["Pending", "Running", "Running", "Succeeded", "Failed"])}
    if draw.random() < 0.8:
        ready = {"type": "Ready", "status": draw.choice(["True", "False"])}
        status["conditions"] = [{"type": "Initialized", "status": "True"}, ready]
    return {"metadata": metadata, "status": status} if draw.random() < 0.95 else {"metadata": metadata}


@pytest.mark.parametrize("seed", range(30))
def test_a_tally_is_what_a_look_at_each_says(seed: int) -> None:
    draw = random.Random(seed)
    matches = compile_selector(SELECTOR)
    pods = {number: a_pod(draw, number) for number in range(draw.randint(0, 8))}
    tally = Tally((SELECTOR, template_labels(OWNER)), matches, pods.values())
    for _ in range(60):
        number = draw.randint(0, 12)
        old = pods.pop(number, None)
        new = None if draw.random() < 0.3 else a_pod(draw, number)
        if new is not None:
            pods[number] = new
        if old is not None or new is not None:
            tally.change(old, new)
        present, leaving = survey(pods.values(), matches)
        owned = [pod for pod in present if matches(pod["metadata"].get("labels") or {})]
        assert tally.counts == count(OWNER, owned, NOW)
        assert tally.leaving == leaving
        assert tally.strangers == len([pod for pod in pods.values() if is_active(pod)]) - len(owned)
