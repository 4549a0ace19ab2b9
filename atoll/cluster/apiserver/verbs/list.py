"""list: one consistent snapshot, whole or in pages (apiserver storage/etcd3 store.go, continue.go)."""

from __future__ import annotations

import base64
import bisect

import orjson
from msgspec import Struct

from atoll.base.errors import BadRequest, Gone
from atoll.cluster.apiserver import gojson, problems
from atoll.cluster.apiserver.api import Api
from atoll.cluster.apiserver.request import EXACT, ListOptions
from atoll.cluster.apiserver.selection import Selection
from atoll.cluster.apiserver.served import Served
from atoll.cluster.apiserver.verbs.get import check_not_older_than
from atoll.cluster.store.port import Record, TooNew, TooOld


class Page(Struct):
    records: list[Record]
    version: int
    continue_token: str = ""
    remaining: int | None = None


async def list_page(api: Api, served: Served, namespace: str | None, options: ListOptions, chosen: Selection) -> Page:
    """`namespace` None: all. Raises BadRequest, Gone (410), 504 for a version to come, 500 where a webhook fails."""
    start: tuple[str, str] | None = None
    at: int | None = None
    if options.continue_token:
        at, start = _decode(options.continue_token, namespace)
        if options.resource_version and options.resource_version != "0":
            raise BadRequest("specifying resource version is not allowed when using continue")
    elif options.resource_version:
        at = _asked_version(api, options)
    if namespace is None and chosen.namespace:
        namespace = chosen.namespace
    records, version = _snapshot(api, served, namespace, at, options, start)
    if start is not None:
        records = records[bisect.bisect_left(records, start, key=_position) :]
    if not chosen.everything:
        await chosen.ready(records)
        matching = [record for record in records if chosen.matches(record)]
    else:
        matching = records
    limit = 0 if options.resource_version == "0" else options.limit  # upstream's cache answers whole
    if limit <= 0 or len(matching) <= limit:
        return Page(matching, version)
    page = matching[:limit]
    token = _encode(version, _position(page[-1]), namespace)
    remaining = len(matching) - limit if chosen.everything else None
    return Page(page, version, token, remaining)


def _asked_version(api: Api, options: ListOptions) -> int | None:
    """The exact version to list at, or None for the newest."""
    if options.resource_version == "0":
        return None
    text = options.resource_version
    if not (text.isascii() and text.isdigit()):
        why = problems.bad_version(text)
        raise BadRequest(f'invalid resource version: resourceVersion: Invalid value: "{text}": {why}')
    asked = int(text)
    check_not_older_than(api, asked)
    exact = options.resource_version_match == EXACT or (options.limit > 0 and not options.resource_version_match)
    return asked if exact else None


def _snapshot(
    api: Api,
    served: Served,
    namespace: str | None,
    at: int | None,
    options: ListOptions,
    start: tuple[str, str] | None,
) -> tuple[list[Record], int]:
    if at is None or at == api.store.version:
        return api.scan(served, namespace), api.store.version
    try:
        return api.scan(served, namespace, at), at
    except TooNew:
        raise problems.too_new(at, api.store.version) from None
    except TooOld:
        if start is None:
            raise problems.compacted() from None
        raise _expired(start, namespace) from None


def _expired(start: tuple[str, str], namespace: str | None) -> Gone:
    error = Gone(
        "The provided continue parameter is too old to display a consistent list result. You can start a new list"
        " without the continue parameter, or use the continue token in this response to retrieve the remainder of"
        " the results. Continuing with the provided token results in an inconsistent list - objects that were"
        " created, modified, or deleted between the time the first chunk was returned and now may show up in the"
        " list."
    )
    error.list_continue = _encode(-1, start, namespace, after=False)
    return error


def _position(record: Record) -> tuple[str, str]:
    return record.key.namespace, record.key.name


def _encode(version: int, last: tuple[str, str], namespace: str | None, after: bool = True) -> str:
    tail = "\0" if after else ""
    start = last[1] + tail if namespace is not None or not last[0] else f"{last[0]}/{last[1]}{tail}"
    body = orjson.dumps({"v": "meta.k8s.io/v1", "rv": version, "start": start})
    return base64.urlsafe_b64encode(body).rstrip(b"=").decode()


def _bad_token(why: str) -> BadRequest:
    return BadRequest(f"invalid continue token: {why}")


def _decode(token: str, namespace: str | None) -> tuple[int | None, tuple[str, str]]:
    """(version or None for the inconsistent rest, the first position)."""
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except ValueError:
        raise _bad_token("continue key is not valid: illegal base64 data at input byte 0") from None
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError:
        raise _bad_token(f"continue key is not valid: {gojson.fault(raw)}") from None
    kind, version, start = (body.get(field) for field in ("v", "rv", "start")) if isinstance(body, dict) else ("",) * 3
    if kind != "meta.k8s.io/v1":
        raise _bad_token(f"continue key is not valid: server does not recognize this encoded version {kind or ''}")
    if not isinstance(version, int) or not version:
        raise _bad_token("continue key is not valid: incorrect encoded start resourceVersion (version meta.k8s.io/v1)")
    if not isinstance(start, str) or not start:
        raise _bad_token("continue key is not valid: encoded start key empty (version meta.k8s.io/v1)")
    if "/../" in f"/{start}/" or start.startswith("/"):
        raise _bad_token(f"continue key is not valid: {start}")
    if namespace is not None:
        position = (namespace, start)
    elif "/" in start:
        space, _, name = start.partition("/")
        position = (space, name)
    else:
        position = ("", start)
    return (None if version < 0 else version), position
