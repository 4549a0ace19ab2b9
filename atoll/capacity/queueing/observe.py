"""The queues' state from lists of objects, for those who only look: commands, what-if."""

from __future__ import annotations

import asyncio

from atoll.capacity.queueing import config, read, status
from atoll.capacity.queueing.model import Object
from atoll.capacity.queueing.requests import surroundings_of
from atoll.capacity.queueing.rooms import rooms_of
from atoll.capacity.queueing.state import Setup, State
from atoll.client.port import Client
from atoll.kinds import kueue
from atoll.kinds.builtin import (
    CONFIGMAPS,
    LIMIT_RANGES,
    NAMESPACES,
    NODES,
    PODS,
    RESOURCE_CLAIM_TEMPLATES,
    RUNTIME_CLASSES,
)
from atoll.kinds.resource import Resource


async def observe(client: Client) -> State:
    """Lists all there is; raises ApiError where the kinds are not served."""
    resources = (
        kueue.CLUSTER_QUEUES, kueue.COHORTS, kueue.RESOURCE_FLAVORS, kueue.LOCAL_QUEUES, NAMESPACES,
        kueue.ADMISSION_CHECKS, kueue.TOPOLOGIES, kueue.WORKLOADS,
        LIMIT_RANGES, RUNTIME_CLASSES, RESOURCE_CLAIM_TEMPLATES,
    )  # fmt: skip

    async def listed(resource: Resource) -> list[Object]:
        return (await client.list(resource)).items

    found = await asyncio.gather(*map(listed, resources))
    queues, cohorts, flavors, locals_, spaces, checks, topologies, workloads, ranges, classes, templates = found
    options = config.Options()
    configs = (await client.list(CONFIGMAPS, config.NAMESPACE)).items
    for item in configs:
        if item["metadata"]["name"] == config.NAME:
            options = config.parse((item.get("data") or {}).get(config.FILE, ""))
    state = State()
    state.configure(
        Setup(
            {obj["metadata"]["name"]: read.cluster_queue(obj) for obj in queues},
            {obj["metadata"]["name"]: read.cohort(obj) for obj in cohorts},
            {obj["metadata"]["name"]: read.flavor(obj) for obj in flavors},
            {local.key: local for local in map(read.local_queue, locals_)},
            {obj["metadata"]["name"]: obj["metadata"].get("labels") or {} for obj in spaces},
            {obj["metadata"]["name"]: status.is_true(obj, "Active") for obj in checks},
            options.fair,
            options.past,
            {obj["metadata"]["name"]: read.topology_levels(obj) for obj in topologies},
        )
    )
    if topologies:
        state.set_rooms(rooms_of(*await asyncio.gather(listed(NODES), listed(PODS))))
    known = {(item["metadata"]["name"], item["metadata"]["namespace"]): item for item in templates}
    shapes = read.Shapes(surroundings_of(ranges, classes, options.counting, lambda *name: known.get(name)))
    for obj in workloads:
        state.put(read.workload(obj, shapes, order_by=options.pods_ready.order_by))
    return state
