"""The committed CRDs of a hub are what the tool makes of the published schemas (where those are at hand)."""

import subprocess
import sys
from pathlib import Path

import pytest

from atoll.kinds import hub

ROOT = Path(__file__).parents[2]
APIS = ROOT.parent / "shared" / "apis"


@pytest.mark.skipif(not APIS.is_dir(), reason="the published schemas are not on this machine")
def test_committed_crds_are_the_generated_ones() -> None:
    command = [sys.executable, str(ROOT / "tools" / "generate_crds.py"), str(APIS), "--check"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_a_hub_serves_clusters_in_one_group_only() -> None:
    embedded = {crd["metadata"]["name"] for crd in hub.custom_resource_definitions()}
    real = {crd["metadata"]["name"] for crd in hub.custom_resource_definitions(real=True)}
    assert embedded - real == {"clusters.cluster.karmada.io"}
    assert real - embedded == {"clusters.fleet.atoll.dev"}


def test_no_prose_is_shipped() -> None:
    assert not any(_described(crd) for crd in hub.custom_resource_definitions())


def _described(value: object) -> bool:
    if isinstance(value, dict):
        return isinstance(value.get("description"), str) or any(map(_described, value.values()))
    return isinstance(value, list) and any(map(_described, value))


def test_kinds_that_nothing_acts_upon_say_so():
    from atoll.base.names import INERT_ANNOTATION
    from atoll.kinds.hub import _INERT, custom_resource_definitions

    crds = {crd["metadata"]["name"]: crd["metadata"].get("annotations") or {} for crd in custom_resource_definitions()}
    assert set(_INERT) <= set(crds)
    assert {name for name, annotations in crds.items() if INERT_ANNOTATION in annotations} == set(_INERT)


def test_kueue_s_kinds_too() -> None:
    from atoll.kinds import kueue

    crds = kueue.custom_resource_definitions()
    assert not any(map(_described, crds))
    named = {(it["spec"]["group"], it["spec"]["names"]["plural"]) for it in crds}
    for resource in (kueue.CLUSTER_QUEUES, kueue.COHORTS, kueue.LOCAL_QUEUES, kueue.WORKLOADS, kueue.ADMISSION_CHECKS):
        assert (resource.group, resource.plural) in named


def test_the_batch_kinds_too() -> None:
    from atoll.kinds import batch

    crds = batch.custom_resource_definitions()
    assert not any(map(_described, crds))
    named = {(it["spec"]["group"], it["spec"]["names"]["plural"]) for it in crds}
    kinds = (batch.JOB_SETS, batch.LEADER_WORKER_SETS, batch.POD_GROUPS)
    volcano = (batch.VOLCANO_JOBS, batch.VOLCANO_POD_GROUPS, batch.VOLCANO_QUEUES, batch.VOLCANO_COMMANDS)
    for resource in (*kinds, *volcano):
        assert (resource.group, resource.plural) in named
