"""get: the newest durable record."""

from __future__ import annotations

from atoll.cluster.apiserver import problems
from atoll.cluster.apiserver.api import Api
from atoll.cluster.apiserver.served import Served
from atoll.cluster.store.port import Key, Record


def get(api: Api, served: Served, namespace: str, name: str, resource_version: str = "") -> Record:
    """Raises NotFound, BadRequest, and a 504 where a version that has not happened yet is asked."""
    return get_key(api, served, served.key(namespace, name), resource_version)


def get_key(api: Api, served: Served, key: Key, resource_version: str = "") -> Record:
    """The same, by its key in the store."""
    if resource_version and resource_version != "0":
        check_not_older_than(api, parse_version(resource_version))
    record = api.read_key(key)
    if record is None:
        raise problems.not_found(served.resource, key.name)
    return record


async def ready_to_get(api: Api, served: Served, namespace: str, name: str) -> None:
    """Where a webhook converts: until the next await, what a get finds can be presented. Raises what `get` does."""
    while True:
        record = get(api, served, namespace, name)
        await served.ready(record)
        if get(api, served, namespace, name).version == record.version:
            return


def check_not_older_than(api: Api, asked: int) -> None:
    """Raises unless the store has come to that version."""
    if asked > api.store.version:
        raise problems.too_new(asked, api.store.version)


def parse_version(text: str) -> int:
    """Raises the 500 that upstream answers."""
    if text.isascii() and text.isdigit():
        return int(text)
    why = problems.bad_version(text)
    raise problems.plain_fault(f'resourceVersion: Invalid value: "{text}": {why}')
