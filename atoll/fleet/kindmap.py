"""apiVersion and kind → resource, as an API server serves them: the built-in table first, then discovery."""

from __future__ import annotations

import orjson

from atoll.client.port import Client
from atoll.kinds.catalog import ApiResource, catalog
from atoll.kinds.resource import Resource


def _is_named(entry: ApiResource, wanted: str, group: str) -> bool:
    resource = entry.resource
    called = (resource.plural, entry.singular, resource.kind.lower(), *entry.short_names)
    return wanted in called and resource.group.startswith(group)


class KindMap:
    """Of one API server. What was found is kept; what was not is asked for again."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._found: dict[tuple[str, str], Resource] = {}

    def known(self, api_version: str, kind: str) -> Resource | None:
        """Without asking the server."""
        found = self._found.get((api_version, kind))
        if found is None:
            group, _, version = api_version.rpartition("/")
            entry = catalog().by_kind(group, version, kind)
            if entry is not None:
                found = self._found[api_version, kind] = entry.resource
        return found

    async def resource(self, api_version: str, kind: str) -> Resource | None:
        """None for a kind that the server does not serve. Raises what the client raises."""
        found = self.known(api_version, kind)
        if found is None:
            await self._discover(api_version)
            found = self._found.get((api_version, kind))
        return found

    async def named(self, text: str) -> Resource | None:
        """As kubectl understands a kind: plural, singular, short name or kind, with or without .GROUP."""
        wanted, _, group = text.lower().partition(".")
        for entry in catalog():
            if _is_named(entry, wanted, group):
                return entry.resource
        answer = await self._client.raw("GET", "/apis")
        groups = orjson.loads(answer.body).get("groups") or [] if answer.status == 200 else []
        for one in groups:
            if group and not one["name"].startswith(group):
                continue
            version = one["preferredVersion"]["groupVersion"]
            response = await self._client.raw("GET", f"/apis/{version}")
            for item in orjson.loads(response.body).get("resources") or () if response.status == 200 else ():
                called = {
                    item["name"],
                    item.get("singularName") or "",
                    item["kind"].lower(),
                    *item.get("shortNames", ()),
                }
                if "/" not in item["name"] and wanted in called:
                    return await self.resource(version, item["kind"])
        return None

    async def _discover(self, api_version: str) -> None:
        root = f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"
        response = await self._client.raw("GET", root)
        if response.status != 200:
            return
        group, _, version = api_version.rpartition("/")
        for item in orjson.loads(response.body).get("resources") or ():
            if "/" not in item["name"]:
                resource = Resource(group, version, item["name"], item["kind"], bool(item["namespaced"]))
                self._found[api_version, item["kind"]] = resource
