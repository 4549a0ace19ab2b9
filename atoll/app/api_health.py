"""The checks of an assembled API: does the store write, are the first objects there, are controllers' caches filled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from atoll.app.assembly import Assembly
from atoll.app.tasks import Tasks
from atoll.cluster.apiserver.api import Api
from atoll.cluster.apiserver.extensions import CRDS
from atoll.cluster.apiserver.flowcontrol.keeper import Keeper
from atoll.cluster.apiserver.health import READY, Health, latched
from atoll.cluster.store.port import ABSENT, Key, StaleVersion, StorageFailed, Store
from atoll.objects.meta import condition
from atoll.runtime.informer import Informers

_HOOK = "poststarthook/"
_PROBE = Key("healthchecks.atoll", "", "probe")
_FIRST_OBJECTS = {
    "start-system-namespaces-controller": (Key("namespaces", "", "kube-system"), Key("namespaces", "", "default")),
    "rbac/bootstrap-roles": (
        Key("clusterroles.rbac.authorization.k8s.io", "", "cluster-admin"),
        Key("clusterrolebindings.rbac.authorization.k8s.io", "", "cluster-admin"),
    ),
    "scheduling/bootstrap-system-priority-classes": (
        Key("priorityclasses.scheduling.k8s.io", "", "system-node-critical"),
    ),
    "start-legacy-token-tracking-controller": (
        Key("configmaps", "kube-system", "kube-apiserver-legacy-service-account-token-tracking"),
    ),
}


def check_store(health: Health, store: Store) -> None:
    """etcd's names, which probes and dashboards know."""
    probe = StoreProbe(store)
    health.add("etcd", probe.check)
    health.add("etcd-readiness", probe.check, READY)


def check_start(health: Health, assembly: Assembly, keeper: Keeper) -> None:
    """What the real server's start does once, as far as this one does it."""
    api = assembly.api
    served = _CustomServed(api)
    health.add(f"{_HOOK}priority-and-fairness-config-producer", latched(keeper.ready.is_set, "not there yet"))
    health.add(f"{_HOOK}start-apiextensions-controllers", latched(served, "a CRD is not served yet"))
    health.add(f"{_HOOK}crd-informer-synced", latched(served, "a CRD is not served yet"))
    for hook, keys in _FIRST_OBJECTS.items():
        health.add(f"{_HOOK}{hook}", latched(_exist(api.store, keys), "not there yet"))


def check_published(health: Health, assembly: Assembly) -> None:
    """Whether default/kubernetes is there, where it is to be."""
    keys = (Key("services", "default", "kubernetes"),)
    health.add(f"{_HOOK}bootstrap-controller", latched(_exist(assembly.store, keys), "not there yet"))


def check_informers(health: Health, informers: Informers) -> None:
    """Whether what runs on the API has seen what there is."""

    def check() -> str:
        waiting = [name for name, synced in informers.state() if not synced]
        return f"{len(waiting)} informers not started yet: {waiting}" if waiting else ""

    health.add("informer-sync", check, READY)


def check_controllers(health: Health, tasks: Tasks) -> None:
    """Whether a part that runs for ever has ended by a fault and is not at work again yet."""
    health.add("controllers", lambda: f"down: {', '.join(tasks.fallen)}" if tasks.fallen else "")


class StoreProbe:
    """Looks at what writers see; while the last commit failed, tries one of its own, so that a disk that has recovered
    is found though nobody writes."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._probing: asyncio.Task[None] | None = None

    def check(self) -> str:
        why = self._store.trouble()
        if why and (self._probing is None or self._probing.done()):
            self._probing = asyncio.get_running_loop().create_task(self._probe(), name="store-probe")
        return why

    async def _probe(self) -> None:
        with suppress(StorageFailed, StaleVersion):
            current = self._store.newest(_PROBE)
            if current is None:
                obj = {"apiVersion": "v1", "kind": "HealthCheck", "metadata": {"name": _PROBE.name, "uid": ""}}
                current = await self._store.write(_PROBE, ABSENT, obj)
            await self._store.write(_PROBE, current.version, None)


class _CustomServed:
    """Whether every CRD that says Established is served."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def __call__(self) -> bool:
        registry = self._api.registry
        for record in self._api.store.scan(CRDS):
            crd = record.object
            if (condition(crd, "Established") or {}).get("status") == "True" and not registry.is_custom(
                crd["spec"]["group"]
            ):
                return False
        return True


def _exist(store: Store, keys: tuple[Key, ...]) -> Callable[[], bool]:
    return lambda: all(store.get(key) is not None for key in keys)
