"""Serving what CRDs define: names are accepted or refused, versions come and go in the registry, instances of a
deleted CRD are cleaned up. All of it happens in the write of the CRD itself, before its answer."""

from __future__ import annotations

from collections.abc import Collection

from atoll.base.clock import rfc3339
from atoll.base.errors import NotFound
from atoll.cluster.apiserver.api import Api
from atoll.cluster.apiserver.extensions import CRDS
from atoll.cluster.apiserver.extensions.conversion import has_usable_bundle
from atoll.cluster.apiserver.extensions.custom import CustomKind
from atoll.cluster.apiserver.extensions.definitions import CLEANUP
from atoll.cluster.apiserver.ports import SYSTEM_ADMIN, Object
from atoll.cluster.apiserver.request import Context, DeleteRequest
from atoll.cluster.apiserver.served import Served
from atoll.cluster.apiserver.verbs import ownership
from atoll.cluster.apiserver.verbs.commit import put
from atoll.cluster.apiserver.verbs.delete import delete
from atoll.cluster.store.port import Key, Record, StaleVersion
from atoll.kinds.builtin import CUSTOM_RESOURCE_DEFINITIONS

_CONDITIONS = ("NamesAccepted", "Established")


def establish(api: Api) -> None:
    """Serve the CRDs that the store has, and follow writes of CRDs from now on."""
    keeper = Definitions(api)
    api.followers[CRDS] = keeper.follow
    for record in api.store.scan(CRDS):
        keeper.serve(record.object)
        if "deletionTimestamp" in record.object["metadata"]:
            keeper.resume_cleaning(record.key, record.object)


class Definitions:
    """The CRDs that are served now, by name."""

    def __init__(self, api: Api) -> None:
        self._api = api
        served = api.registry.of(CUSTOM_RESOURCE_DEFINITIONS)
        assert served is not None
        self._served = served
        self._context = Context(SYSTEM_ADMIN, "kube-apiserver")
        self._kinds: dict[str, CustomKind] = {}
        self._cleaning: set[str] = set()
        self._reviews = api.uids.stream("conversion-reviews")

    async def follow(self, key: Key, record: Record | None) -> None:
        """After each durable write of a CRD; None: it is gone."""
        if record is None:
            self._withdraw(key.name)
            self._cleaning.discard(key.name)
            await self._reconsider()
            return
        crd = record.object
        if "deletionTimestamp" in crd["metadata"]:
            if key.name not in self._cleaning:
                self._cleaning.add(key.name)
                await self._clean_up(key, crd)
            return
        status = self._status(crd)
        if status != crd.get("status"):
            await self._write_status(key, status)
            return  # that write comes back here
        self.serve(crd)

    def serve(self, crd: Object) -> None:
        """(Re)register its versions, if its names are accepted."""
        name = crd["metadata"]["name"]
        self._withdraw(name)
        if not (_holds(crd, "Established") or _holds(crd, "NamesAccepted")):
            return
        kind = CustomKind(crd, self._api.hooks.hook_caller, self._reviews)
        self._kinds[name] = kind
        for served in kind.served():
            self._api.registry.add(served)

    def _withdraw(self, name: str) -> None:
        kind = self._kinds.pop(name, None)
        if kind is not None:
            for version in kind.versions:
                self._api.registry.remove(kind.resource(version))

    async def _write_status(self, key: Key, status: Object) -> None:
        while True:
            current = self._api.store.newest(key)
            if current is None:
                return
            crd = current.object
            changed = {**crd, "metadata": dict(crd["metadata"]), "status": status}
            ownership.on_update(self._api, self._context, self._served, crd, changed, "status")
            try:
                await put(self._api, key, current.version, changed)
                return
            except StaleVersion:
                continue

    def _status(self, crd: Object) -> Object:
        """acceptedNames and the conditions as the naming and establishing controllers compute them."""
        status = dict(crd.get("status") or {})
        wanted = crd["spec"]["names"]
        resources, kinds = self._taken(crd)
        accepted: Object = dict(status.get("acceptedNames") or {})
        conflict = ("NoConflicts", "no conflicts found")  # the last one found is told, in upstream's order
        for field in ("plural", "singular"):
            conflict = _accept(field, wanted, accepted, resources) or conflict
        clashing = [
            name
            for name in wanted.get("shortNames") or ()
            if name in resources and name not in (accepted.get("shortNames") or ())
        ]
        if clashing:
            conflict = ("ShortNamesConflict", ", ".join(f'"{name}" is already in use' for name in clashing))
        for field in ("kind", "listKind"):
            conflict = _accept(field, wanted, accepted, kinds) or conflict
        reason, message = conflict
        for field in ("shortNames", "categories"):
            if field in wanted and not (field == "shortNames" and clashing):
                accepted[field] = wanted[field]
            elif field not in wanted:
                accepted.pop(field, None)
        good = reason == "NoConflicts"
        status["conditions"] = self._conditions(crd, good, reason, message)
        status["acceptedNames"] = accepted
        return status

    def _conditions(self, crd: Object, good: bool, reason: str, message: str) -> list[Object]:
        now = rfc3339(self._api.clock.wall())
        standing = {item["type"]: item for item in (crd.get("status") or {}).get("conditions") or ()}
        fresh = {"NamesAccepted": (good, reason, message)}
        if good and not has_usable_bundle(crd["spec"].get("conversion") or {}):
            fresh["Established"] = (False, "InvalidCABundle", "The conversion webhook CABundle is invalid")
        elif good:
            fresh["Established"] = (True, "InitialNamesAccepted", "the initial names have been accepted")
        elif not _holds(crd, "Established"):
            fresh["Established"] = (False, "NotAccepted", "not all names are accepted")
        for kind, (holds, why, text) in fresh.items():
            value = "True" if holds else "False"
            old = standing.get(kind)
            since = old["lastTransitionTime"] if old is not None and old["status"] == value else now
            standing[kind] = {
                "type": kind,
                "status": value,
                "lastTransitionTime": since,
                "reason": why,
                "message": text,
            }
        return [standing[kind] for kind in (*_CONDITIONS, *standing) if kind in standing][: len(standing)]

    def _taken(self, crd: Object) -> tuple[set[str], set[str]]:
        """Names accepted for other CRDs of the group, and those of built-in kinds."""
        resources: set[str] = set()
        kinds: set[str] = set()
        group, own = crd["spec"]["group"], crd["metadata"]["name"]
        for record in self._api.store.scan(CRDS):
            other = record.object
            if record.key.name == own or other["spec"]["group"] != group:
                continue
            names = (other.get("status") or {}).get("acceptedNames") or {}
            resources |= {names.get("plural", ""), names.get("singular", ""), *(names.get("shortNames") or ())}
            kinds |= {names.get("kind", ""), names.get("listKind", "")}
        return resources - {""}, kinds - {""}

    async def _reconsider(self) -> None:
        """A CRD has gone: those that waited for its names may have them now."""
        for record in self._api.store.scan(CRDS):
            if not _holds(record.object, "NamesAccepted") and "deletionTimestamp" not in record.object["metadata"]:
                await self.follow(record.key, record)

    async def _clean_up(self, key: Key, crd: Object) -> None:
        """Delete the instances; the finalizer goes when none is left."""
        if CLEANUP not in (crd["metadata"].get("finalizers") or ()):
            return
        self._stop_creates(key.name)
        served = self._any_version(crd)
        if served is not None and self._api.store.count(served.store_resource):
            await self._write_status(key, _in_progress(crd))
            context = self._context
            for record in self._api.store.scan(served.store_resource):
                try:
                    space, name = record.key.namespace, record.key.name
                    await delete(self._api, context, served, space, name, DeleteRequest(), admitted=True)
                except NotFound:
                    continue
            self._api.followers[served.store_resource] = lambda _key, _record: self._finish(key)
        await self._finish(key)

    def resume_cleaning(self, key: Key, crd: Object) -> None:
        """After a restart in the midst of a deletion: the last instance to go finishes it."""
        self._stop_creates(key.name)
        self._cleaning.add(key.name)
        served = self._any_version(crd)
        if served is not None:
            self._api.followers[served.store_resource] = lambda _key, _record: self._finish(key)

    def _stop_creates(self, name: str) -> None:
        kind = self._kinds.get(name)
        if kind is not None:
            kind.terminating = True

    def _any_version(self, crd: Object) -> Served | None:
        spec = crd["spec"]
        return self._api.registry.of_group_resource(f"{spec['names']['plural']}.{spec['group']}")

    async def _finish(self, key: Key) -> None:
        resource = key.name
        if self._api.store.count(resource):
            return
        self._api.followers.pop(resource, None)
        while True:
            current = self._api.store.newest(key)
            if current is None:
                return
            metadata = dict(current.object["metadata"])
            left = [item for item in metadata.get("finalizers") or () if item != CLEANUP]
            try:
                if left:
                    metadata["finalizers"] = left
                    await put(self._api, key, current.version, {**current.object, "metadata": metadata})
                else:
                    await put(self._api, key, current.version, None)
                return
            except StaleVersion:
                continue


def _in_progress(crd: Object) -> Object:
    status = crd.get("status") or {}
    conditions = [
        {**item, "reason": "InstanceDeletionInProgress", "message": "CustomResource deletion is in progress"}
        if item.get("type") == "Terminating"
        else item
        for item in status.get("conditions") or ()
    ]
    return {**status, "conditions": conditions}


def _holds(crd: Object, kind: str) -> bool:
    conditions = (crd.get("status") or {}).get("conditions") or ()
    return any(item.get("type") == kind and item.get("status") == "True" for item in conditions)


def _accept(field: str, wanted: Object, accepted: Object, used: Collection[str]) -> tuple[str, str] | None:
    """Take the wanted name over unless another has it; (reason, message) if so."""
    name = wanted.get(field, "")
    if name != accepted.get(field) and name in used:
        return f"{field[0].upper()}{field[1:]}Conflict", f'"{name}" is already in use'
    accepted[field] = name
    return None
