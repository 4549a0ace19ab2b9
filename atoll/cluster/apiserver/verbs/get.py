"""get: the newest durable record."""

from __future__ import annotations

from atoll.base.errors import BadRequest
from atoll.cluster.apiserver import problems
from atoll.cluster.apiserver.api import Api
from atoll.cluster.apiserver.served import Served
from atoll.cluster.store.port import Record


def get(api: Api, served: Served, namespace: str, name: str, resource_version: str = "") -> Record:
    """Raises NotFound, BadRequest, and a 504 where a version that has not happened yet is asked."""
    if resource_version and resource_version != "0":
        check_not_older_than(api, resource_version)
    record = api.read(served, namespace, name)
    if record is None:
        raise problems.not_found(served.resource, name)
    return record


def check_not_older_than(api: Api, resource_version: str) -> int:
    """Raises unless the store has come to that version."""
    asked = parse_version(resource_version)
    if asked > api.store.version:
        raise problems.too_new(asked, api.store.version)
    return asked


def parse_version(text: str) -> int:
    """Raises BadRequest."""
    if text.isascii() and text.isdigit():
        return int(text)
    raise BadRequest(f'invalid resource version "{text}": strconv.ParseUint: parsing "{text}": invalid syntax')
