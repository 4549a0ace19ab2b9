"""CustomResourceDefinitions: structural schemas, CEL rules, and serving what they define, at once.

All but this comes in with the first CRD: its import takes as long as half of a cluster's start.
"""

from __future__ import annotations

from atoll.cluster.apiserver.api import Api
from atoll.cluster.store.port import Key, Record

CRDS = "customresourcedefinitions.apiextensions.k8s.io"


def install(api: Api) -> None:
    """Serve the CRDs that the store has, and follow writes of CRDs from now on."""
    if api.store.count(CRDS):
        _establish(api)
        return

    async def first(key: Key, record: Record | None) -> None:
        _establish(api)
        await api.followers[CRDS](key, record)

    api.followers[CRDS] = first


def _establish(api: Api) -> None:
    from atoll.cluster.apiserver.extensions.establish import establish

    establish(api)
