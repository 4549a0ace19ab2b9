"""What a cluster starts with: made once, and definitions of ours renewed when they have changed."""

from __future__ import annotations

import asyncio

from atoll.app.assembly import ApiOptions, assemble, bootstrap
from atoll.base.chance import Chance
from atoll.base.clock import ManualClock
from atoll.cluster.store.memory import MemoryStore
from atoll.kinds.builtin import CUSTOM_RESOURCE_DEFINITIONS, NAMESPACES
from atoll.kinds.hub import custom_resource_definitions


def test_a_newer_definition_replaces_the_one_that_is_there() -> None:
    async def story() -> None:
        clock = ManualClock()
        store = MemoryStore(clock)
        assembly = assemble(store, clock, Chance(1), ApiOptions())
        older = [crd for crd in custom_resource_definitions() if crd["metadata"]["name"].startswith("works.")]
        await bootstrap(assembly, older)
        version = store.version
        await bootstrap(assembly, older)
        assert store.version == version, "nothing is written twice"
        newer = [
            {**older[0], "spec": {**older[0]["spec"], "names": {**older[0]["spec"]["names"], "shortNames": ["wrk"]}}}
        ]
        await bootstrap(assembly, newer)
        client = assembly.client()
        stored = await client.get(CUSTOM_RESOURCE_DEFINITIONS, older[0]["metadata"]["name"])
        assert stored["spec"]["names"]["shortNames"] == ["wrk"]
        names = {item["metadata"]["name"] for item in (await client.list(NAMESPACES)).items}
        assert {"default", "kube-system", "kube-public", "kube-node-lease"} <= names

    asyncio.run(story())
