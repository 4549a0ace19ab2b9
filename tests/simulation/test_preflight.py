"""A hub refuses an API on which templates run, or which has another owner."""

import asyncio
import sys
from pathlib import Path

import pytest
from fleet_lab import FleetLab

from atoll.base.clock import rfc3339_micro
from atoll.base.errors import NotFound, UserError
from atoll.fleet.preflight import PROBE, preflight
from atoll.kinds.builtin import DEPLOYMENTS, LEASES
from atoll.runtime.virtual import run_virtual

sys.path.insert(0, str(Path(__file__).parents[1] / "scenario"))
from scenario_cluster import ScenarioCluster


def test_templates_that_would_run_are_refused() -> None:
    async def story() -> None:
        cluster = ScenarioCluster()
        await cluster.start()
        with pytest.raises(UserError, match="runs Deployments"):
            await preflight(cluster.client, cluster.clock)
        with pytest.raises(NotFound):
            await cluster.client.get(DEPLOYMENTS, PROBE, "atoll-system")
        await cluster.stop()

    run_virtual(story())


def test_an_api_without_workload_controllers_will_do_but_for_another_owner() -> None:
    async def story() -> None:
        lab = FleetLab(members=0)
        await lab.start()
        await preflight(lab.client, lab.clock)
        lease = {
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": "karmada-controller-manager", "namespace": "default"},
            "spec": {"holderIdentity": "kcm-0", "leaseDurationSeconds": 15,
                     "renewTime": rfc3339_micro(lab.clock.wall())},
        }  # fmt: skip
        await lab.client.create(LEASES, lease)
        with pytest.raises(UserError, match="kcm-0 is at work here"):
            await preflight(lab.client, lab.clock)
        await asyncio.sleep(60)
        await preflight(lab.client, lab.clock)
        await lab.stop()

    run_virtual(story())
