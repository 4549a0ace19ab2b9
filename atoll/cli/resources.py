"""What a user types for a kind (deploy, deployments.apps, Deployment) → the resource, by the server's discovery."""

from __future__ import annotations

from typing import Any

import orjson

from atoll.base.errors import UserError
from atoll.client.port import Client
from atoll.kinds.resource import Resource

_AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"


async def resolve(client: Client, text: str) -> Resource:
    """Raises UserError for a kind that the server does not have."""
    wanted, _, group = text.lower().partition(".")
    found: list[Resource] = []
    for path in ("/api", "/apis"):
        answer = await client.raw("GET", path, headers={"Accept": _AGGREGATED})
        if answer.status != 200:
            raise UserError(f"discovery failed: the server answered {answer.status} to {path}")
        document = orjson.loads(answer.body)
        found += _matches(document, wanted, group)
    if not found:
        raise UserError(f"the server has no kind {text!r}", hint="kubectl api-resources lists them")
    return found[0]


def _matches(document: dict[str, Any], wanted: str, group: str) -> list[Resource]:
    found = []
    for item in document.get("items") or ():
        name = item["metadata"].get("name", "")
        if group and name != group and not name.startswith(group + "."):
            continue
        for version in item["versions"][:1]:
            for resource in version["resources"]:
                kind = resource["responseKind"]["kind"]
                words = {resource["resource"], resource.get("singularResource"), kind.lower()}
                if wanted in words | set(resource.get("shortNames") or ()):
                    namespaced = resource["scope"] == "Namespaced"
                    found.append(Resource(name, version["version"], resource["resource"], kind, namespaced))
    return found
