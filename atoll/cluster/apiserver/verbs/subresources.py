"""Subresources: status and others that take the whole object, and those with kinds of their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from atoll.cluster.apiserver import problems
from atoll.cluster.apiserver.api import Api
from atoll.cluster.apiserver.request import Context, WriteQuery
from atoll.cluster.apiserver.served import Served
from atoll.cluster.apiserver.verbs.answer import Answer
from atoll.cluster.apiserver.verbs.get import get as get_record
from atoll.cluster.apiserver.verbs.update import Strategy, status_strategy

OTHER_KINDS = frozenset({"scale"})


def strategy(api: Api, served: Served, subresource: str) -> Strategy:
    if subresource == "status":
        return status_strategy(served)
    raise problems.method_not_allowed()


def get(api: Api, served: Served, namespace: str, name: str, subresource: str) -> Answer:
    return Answer(served, get_record(api, served, namespace, name))


async def create(
    api: Api, context: Context, served: Served, namespace: str, name: str, subresource: str, raw: Any,
    repeated: Sequence[str],
) -> Answer:  # fmt: skip
    raise problems.method_not_allowed()


async def update(
    api: Api, context: Context, served: Served, namespace: str, name: str, subresource: str, raw: Any,
    repeated: Sequence[str],
) -> Answer:  # fmt: skip
    raise problems.method_not_allowed()


async def patch(
    api: Api, context: Context, served: Served, namespace: str, name: str, subresource: str, content_type: str,
    body: Any, options: WriteQuery,
) -> Answer:  # fmt: skip
    raise problems.method_not_allowed()
