"""Queues in, statuses out: YAML scenarios in virtual time. `--update-goldens` writes what is seen as what is expected.

Steps: `config` (Kueue's), `apply` (Kueue's objects, and others), `jobs`, `patch` (a merge), `delete`, `run` seconds,
`show`.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import yaml
from queueing_world import KINDS, QueueingWorld, job, queueing_world

from atoll.client.port import MERGE_PATCH
from atoll.kinds import kueue
from atoll.kinds.builtin import CONFIGMAPS, NAMESPACES
from atoll.runtime.virtual import run_virtual

HERE = Path(__file__).parent / "queueing"
SCENARIOS = sorted(HERE.glob("*.yaml"))


def made(told: dict[str, Any]) -> Any:
    found = job(told["name"], told["queue"], told["cpu"], told.get("pods", 1), told["seconds"])
    pod = found["spec"]["template"]["spec"]
    requests = pod["containers"][0]["resources"]["requests"]
    if "memory" in told:
        requests["memory"] = told["memory"]
    if "gpu" in told:
        pod["containers"][0]["resources"]["limits"] = {"nvidia.com/gpu": told["gpu"]}
        requests["nvidia.com/gpu"] = told["gpu"]
    if "tolerates" in told:
        pod["tolerations"] = [{"key": told["tolerates"], "operator": "Exists"}]
    return found


def workload(obj: Any) -> Any:
    status = obj.get("status") or {}
    shown: dict[str, Any] = {
        item["type"]: f"{item['status']} {item['reason']}: {item['message']}" for item in status.get("conditions") or ()
    }
    for pods in (status.get("admission") or {}).get("podSetAssignments") or ():
        shown["given"] = {"flavors": pods["flavors"], "usage": pods["resourceUsage"], "count": pods["count"]}
    return shown


def queue(obj: Any) -> Any:
    kept = ("pendingWorkloads", "reservingWorkloads", "admittedWorkloads", "flavorsReservation", "fairSharing")
    status = obj.get("status") or {}
    said = [item for item in status.get("conditions") or () if item["type"] == "Active"]
    active = f"{said[0]['status']} {said[0]['reason']}" if said else ""
    return {"Active": active, **{name: status[name] for name in kept if name in status}}


async def seen(world: QueueingWorld) -> Any:
    uids = {obj["metadata"]["uid"]: name for name, obj in (await world.workloads()).items()}
    jobs = {obj["metadata"]["labels"][kueue.JOB_UID_LABEL]: name for name, obj in (await world.workloads()).items()}
    shown = {
        "workloads": {name: workload(obj) for name, obj in sorted((await world.workloads()).items())},
        "queues": {
            obj["metadata"]["name"]: queue(obj) for obj in (await world.client.list(kueue.CLUSTER_QUEUES)).items
        },
    }
    text = yaml.safe_dump(shown, sort_keys=False, width=120)
    for uid, name in (uids | jobs).items():
        text = text.replace(uid, f"<{name}>")
    return yaml.safe_load(text)


async def step(world: QueueingWorld, what: Any, shown: list[Any]) -> None:
    if what == "show":
        shown.append(await seen(world))
        return
    ((name, told),) = what.items()
    if name == "run":
        await asyncio.sleep(told)
    elif name == "jobs":
        await world.apply(*map(made, told))
    elif name == "apply":
        for obj in yaml.safe_load_all(told):
            await world.apply({"apiVersion": f"{kueue.GROUP}/{kueue.VERSION}", **obj})
    elif name == "patch":
        resource = KINDS[told["kind"]]
        space = "default" if resource.namespaced else None
        await world.client.patch(resource, told["name"], {"spec": told["spec"]}, space, content_type=MERGE_PATCH)
    elif name == "delete":  # a Workload by its owner's name
        named = (await world.workloads())[told["of"]]["metadata"]["name"] if "of" in told else told["name"]
        await world.client.delete(KINDS[told["kind"]], named, "default")
    else:
        assert name == "config", name
        space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kueue-system"}}
        await world.client.create(NAMESPACES, space)
        data = {"controller_manager_config.yaml": told}
        config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "kueue-manager-config"}, "data": data}
        await world.client.create(CONFIGMAPS, config, "kueue-system")


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_statuses(path: Path, update_goldens: bool) -> None:
    shown: list[Any] = []

    async def main() -> None:
        async with queueing_world() as world:
            for what in yaml.safe_load(path.read_text()):
                await step(world, what, shown)

    run_virtual(main())
    golden = HERE / "goldens" / path.name
    text = yaml.safe_dump(shown, sort_keys=False, width=120)
    if update_goldens:
        golden.write_text(text)
    assert yaml.safe_load(text) == yaml.safe_load(golden.read_text())
