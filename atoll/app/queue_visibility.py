"""visibility.kueue.x-k8s.io served by the cluster's own API server (a Local API): who waits in which queue.

An APIService of the same name takes the group over, since aggregation comes first.
"""

from __future__ import annotations

from functools import partial

from atoll.capacity.queueing import visibility
from atoll.capacity.queueing.controller import QueueController
from atoll.cluster.apiserver.api import Api
from atoll.cluster.apiserver.ports import Object
from atoll.cluster.apiserver.served import Served
from atoll.kinds.catalog import ApiResource, Subresource
from atoll.kinds.resource import Resource

_PENDING = "pendingworkloads"


def serve_visibility(api: Api, queues: QueueController) -> None:
    """Add the group to what is served."""

    def stored(key: tuple[str, str]) -> Object | None:
        return queues.workloads.get(key[1], key[0])

    def of_cluster_queue(version: str, _: str, name: str, query: visibility.Query) -> Object | None:
        return visibility.of_cluster_queue(queues.state, name, query, stored, version)

    def of_local_queue(version: str, namespace: str, name: str, query: visibility.Query) -> Object | None:
        return visibility.of_local_queue(queues.state, namespace, name, query, stored, version)

    for version in visibility.VERSIONS:
        cluster_queues = Resource(visibility.GROUP, version, "clusterqueues", "ClusterQueue", False)
        local_queues = Resource(visibility.GROUP, version, "localqueues", "LocalQueue")
        for resource, answer in ((cluster_queues, of_cluster_queue), (local_queues, of_local_queue)):
            below = Subresource(_PENDING, "PendingWorkloadsSummary", ("get",))
            entry = ApiResource(resource, "", (), subresources=(below,), list_kind=resource.kind + "List")
            api.registry.add(Served(resource, resource, entry, virtual=True))
            api.hooks.subresources[resource, _PENDING] = partial(answer, resource.api_version)
