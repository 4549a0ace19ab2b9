"""VolumeAttributesClasses that are used stay; the others go when they are deleted."""

from __future__ import annotations

import asyncio
from typing import Any

from atoll.app.assembly import ApiOptions, assemble, bootstrap
from atoll.base.chance import Chance
from atoll.cluster.store.memory import MemoryStore
from atoll.cluster.workloads.common.context import Context
from atoll.cluster.workloads.volumes.class_protection import ClassProtectionController
from atoll.kinds.builtin import PERSISTENT_VOLUME_CLAIMS
from atoll.kinds.resource import Resource
from atoll.runtime.informer import Informers
from atoll.runtime.virtual import LoopClock, run_virtual

CLASSES = Resource("storage.k8s.io", "v1", "volumeattributesclasses", "VolumeAttributesClass", False)


def attributes_class(name: str) -> dict[str, Any]:
    return {"metadata": {"name": name}, "driverName": "d.example.com", "parameters": {"iops": "1"}}


def claim(name: str, of: str) -> dict[str, Any]:
    spec = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Gi"}},
        "volumeAttributesClassName": of,
    }
    return {"metadata": {"name": name}, "spec": spec}


def test_a_class_goes_with_its_last_user() -> None:
    async def main() -> None:
        clock = LoopClock(asyncio.get_running_loop(), 1_800_000_000.0)
        store = MemoryStore(clock)
        assembly = assemble(store, clock, Chance(1), ApiOptions())
        await bootstrap(assembly)
        client = assembly.client()
        informers = Informers(client)
        controller = ClassProtectionController(Context(assembly.controller_client, informers, clock, assembly.chance))
        running = asyncio.create_task(controller.run())
        informers.start()
        for name in ("free", "used"):
            made = await client.create(CLASSES, attributes_class(name))
            assert made["metadata"]["finalizers"] == ["kubernetes.io/vac-protection"]
        await client.create(PERSISTENT_VOLUME_CLAIMS, claim("c", "used"), "default")
        await asyncio.sleep(1)
        for name in ("free", "used"):
            await client.delete(CLASSES, name)
        await asyncio.sleep(1)
        assert [item["metadata"]["name"] for item in (await client.list(CLASSES)).items] == ["used"]
        await client.patch(PERSISTENT_VOLUME_CLAIMS, "c", {"metadata": {"finalizers": None}}, "default")
        await client.delete(PERSISTENT_VOLUME_CLAIMS, "c", "default")
        await asyncio.sleep(1)
        assert (await client.list(CLASSES)).items == []
        running.cancel()
        await informers.stop()
        await store.close()

    run_virtual(main())
