"""A hub refuses an API on which templates run, or which has another owner."""

import asyncio
import sys
from pathlib import Path

import pytest
from fleet_lab import FleetLab

from atoll.base.clock import rfc3339_micro
from atoll.base.errors import UserError
from atoll.fleet.registry.preflight import check_hub
from atoll.kinds.builtin import DEPLOYMENTS, LEASES, NAMESPACES
from atoll.runtime.virtual import run_virtual

sys.path.insert(0, str(Path(__file__).parents[1] / "scenario"))
from scenario_cluster import ScenarioCluster


def test_templates_that_would_run_are_refused() -> None:
    async def story() -> None:
        cluster = ScenarioCluster()
        await cluster.start()
        with pytest.raises(UserError, match="deployment controller is at work"):
            await check_hub(cluster.client, cluster.clock)
        assert not (await cluster.client.list(DEPLOYMENTS, "atoll-system")).items, "the probe is gone"
        await cluster.stop()

    run_virtual(story())


def test_an_api_without_workload_controllers_will_do_but_for_another_owner() -> None:
    async def story() -> None:
        lab = FleetLab(members=0)
        await lab.start()
        await check_hub(lab.client, lab.clock)
        lease = {
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": "karmada-controller-manager", "namespace": "karmada-system"},
            "spec": {"holderIdentity": "kcm-0", "leaseDurationSeconds": 15,
                     "renewTime": rfc3339_micro(lab.clock.wall())},
        }  # fmt: skip
        space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "karmada-system"}}
        await lab.client.create(NAMESPACES, space)
        await lab.client.create(LEASES, lease)
        with pytest.raises(UserError, match=r"karmada-controller-manager is at work here \(kcm-0\)"):
            await check_hub(lab.client, lab.clock)
        await asyncio.sleep(60)
        await check_hub(lab.client, lab.clock)
        await lab.stop()

    run_virtual(story())
