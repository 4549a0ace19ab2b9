"""What a node's agents would write: labels that no longer hold go, resources that are gone stay at 0."""

from __future__ import annotations

from dataclasses import replace

from atoll.cluster.gpus.mig import CONFIG_LABEL, STATE_LABEL
from atoll.cluster.gpus.model import ANNOTATION
from atoll.cluster.gpus.plan import plan_node
from atoll.cluster.gpus.settings import Settings
from atoll.cluster.gpus.survey import survey

EMPTY = Settings()


def node(labels: dict[str, str] | None = None, capacity: dict[str, str] | None = None) -> dict:
    metadata = {"name": "n", "labels": labels or {}, "annotations": {ANNOTATION: '[{"type": "h100", "count": 2}]'}}
    amounts = {"cpu": "8", **(capacity or {})}
    return {"metadata": metadata, "status": {"capacity": amounts, "allocatable": dict(amounts)}}


def plan(obj: dict, **more):
    return plan_node(obj, survey(obj, EMPTY), EMPTY, **more)


def test_a_node_that_says_nothing_yet_says_all() -> None:
    found = plan(node())
    assert found.metadata["labels"]["nvidia.com/gpu.count"] == "2" and "annotations" not in found.metadata
    assert found.status == {"capacity": {"nvidia.com/gpu": "2"}, "allocatable": {"nvidia.com/gpu": "2"}}
    again = node(found.metadata["labels"], {"nvidia.com/gpu": "2"})
    assert (plan(again).metadata, plan(again).status, plan(again).events) == ({}, {}, ())


def test_feature_discoverys_time_is_kept() -> None:
    new = node()
    new["metadata"]["creationTimestamp"] = "2026-11-29T01:00:00Z"
    assert plan(new).metadata["labels"]["nvidia.com/gfd.timestamp"] == "1795914000"
    new["metadata"]["labels"] = {"nvidia.com/gfd.timestamp": "1795900000"}
    assert "nvidia.com/gfd.timestamp" not in plan(new).metadata["labels"]
    del new["metadata"]["annotations"]
    assert plan(new).metadata["labels"] == {"nvidia.com/gfd.timestamp": None}, "it goes with the GPUs"


def test_what_no_longer_holds_goes_and_what_is_anothers_stays() -> None:
    foreign = {"nvidia.com/gpu.deploy.driver": "true", CONFIG_LABEL: "all-disabled", "nvidia.com/rdma": "x", "a": "b"}
    stale = {"nvidia.com/mig-1g.10gb.count": "7", "nvidia.com/gpu.slices.gi": "1", "nvidia.com/mig.strategy": "mixed"}
    found = plan(node({**foreign, **stale}, {"nvidia.com/mig-1g.10gb": "7", "nvidia.com/rdma_shared": "63"}))
    changes = found.metadata["labels"]
    assert changes["nvidia.com/mig-1g.10gb.count"] is None and changes["nvidia.com/gpu.slices.gi"] is None
    assert changes["nvidia.com/mig.strategy"] == "single" and not set(foreign) & set(changes)
    assert found.status["capacity"] == {"nvidia.com/gpu": "2", "nvidia.com/mig-1g.10gb": "0"}


def test_what_claims_have_is_capacity_but_not_allocatable() -> None:
    found = plan(node(), claimed={1})
    assert found.status == {"capacity": {"nvidia.com/gpu": "2"}, "allocatable": {"nvidia.com/gpu": "1"}}


def test_real_gpus_are_not_partitioned() -> None:
    obj = node({CONFIG_LABEL: "all-balanced"})
    found = survey(obj, EMPTY)
    real = replace(found, gpus=tuple(replace(gpu, simulated=False) for gpu in found.gpus))
    refused = plan_node(obj, real, EMPTY)
    assert refused.metadata["labels"][STATE_LABEL] == "failed" and "annotations" not in refused.metadata
    assert refused.events == (("MIGConfigFailed", refused.events[0][1]),) and "real GPUs" in refused.events[0][1]
    assert plan(obj).metadata["labels"][STATE_LABEL] == "success" and "annotations" in plan(obj).metadata
