"""Which resources an API server serves, custom ones included (aggregated discovery, else the legacy one)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

import orjson

from atoll.base.errors import AtollError, ServerError
from atoll.client.port import Client, Object
from atoll.kinds.resource import Resource

_AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"


@dataclass(frozen=True, slots=True)
class Served:
    """One resource in one version; `preferred`: the version in which a client names the resource by itself."""

    resource: Resource
    verbs: frozenset[str]
    preferred: bool


async def served_resources(client: Client) -> list[Served]:
    """All top-level resources in all versions. Raises an AtollError where discovery fails."""
    return await Discovery(client).served()


class Discovery:
    """For those who ask again and again: what the server answers in the same bytes is not read again."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._read: dict[str, tuple[bytes, Object]] = {}  # path → (answer, parsed)
        self._found: list[Served] | None = None  # None: something has changed since

    async def served(self) -> list[Served]:
        """As `served_resources`; the very same list while nothing changes."""
        parts: list[Iterator[Served]] = []  # read only where something has changed
        for root in ("/api", "/apis"):
            body = await self._get(root)
            if body.get("kind") == "APIGroupDiscoveryList":
                parts += (_from_aggregated(group) for group in body.get("items") or ())
            else:
                for group_version, preferred in _legacy_versions(root, body):
                    parts.append(_from_legacy(await self._get(f"{root}/{group_version}"), preferred))
        if self._found is None:
            self._found = _prefer_once(list(chain.from_iterable(parts)))
        return self._found

    async def _get(self, path: str) -> Object:
        answer = await self._client.raw("GET", path, headers={"accept": _AGGREGATED})
        if answer.status != 200:
            raise ServerError(f"discovery of {path} answered {answer.status}", code=answer.status)
        known = self._read.get(path)
        if known is not None and known[0] == answer.body:
            return known[1]
        try:
            body: Object = orjson.loads(answer.body)
        except orjson.JSONDecodeError as error:
            raise AtollError(f"discovery of {path} gave no JSON: {error}") from None
        self._read[path] = (answer.body, body)
        self._found = None
        return body


def _legacy_versions(root: str, body: Object) -> Iterator[tuple[str, bool]]:
    if root == "/api":
        for version in body.get("versions") or ():
            yield version, True
        return
    for group in body.get("groups") or ():
        preferred = (group.get("preferredVersion") or {}).get("groupVersion")
        for version in group.get("versions") or ():
            yield version["groupVersion"], version["groupVersion"] == preferred


def _from_aggregated(group: Object) -> Iterator[Served]:
    name = (group.get("metadata") or {}).get("name") or ""
    for number, version in enumerate(group.get("versions") or ()):
        for item in version.get("resources") or ():
            kind = (item.get("responseKind") or {}).get("kind") or ""
            resource = Resource(name, version["version"], item["resource"], kind, item.get("scope") == "Namespaced")
            yield Served(resource, frozenset(item.get("verbs") or ()), number == 0)


def _from_legacy(body: Object, preferred: bool) -> Iterator[Served]:
    group, _, version = str(body["groupVersion"]).rpartition("/")
    for item in body.get("resources") or ():
        if "/" not in item["name"]:
            resource = Resource(group, version, item["name"], item["kind"], bool(item.get("namespaced")))
            yield Served(resource, frozenset(item.get("verbs") or ()), preferred)


def _prefer_once(found: list[Served]) -> list[Served]:
    """A resource that its group's preferred version lacks is preferred in the first version that has it."""
    named = {item.resource.group_resource for item in found if item.preferred}
    result = []
    for item in found:
        name = item.resource.group_resource
        if not item.preferred and name not in named:
            named.add(name)
            item = Served(item.resource, item.verbs, True)
        result.append(item)
    return result


def collectable(served: list[Served]) -> list[Resource]:
    """What the garbage collector follows: preferred, and with delete, list and watch."""
    return [
        item.resource
        for item in served
        if item.preferred and {"delete", "list", "watch"} <= item.verbs and item.resource.plural != "events"
    ]


def deletable_in_namespaces(served: list[Served]) -> list[Resource]:
    """What a namespace's deletion removes: pods first."""
    found = [
        item.resource
        for item in served
        if item.preferred and item.resource.namespaced and {"delete", "list"} <= item.verbs
    ]
    return sorted(found, key=lambda resource: resource.group_resource != "pods")
