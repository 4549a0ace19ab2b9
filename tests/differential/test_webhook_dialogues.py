"""Webhooks are asked, and their answers taken, as by the real kube-apiserver: see webhook_dialogues.py."""

from __future__ import annotations

import asyncio
import json
import ssl
from pathlib import Path
from typing import Any

import orjson
import pytest
from webhook_dialogues import DIALOGUES, NAMESPACE, hold
from webhook_server import webhook_server

from atoll.app.assembly import ApiOptions, assemble, bootstrap
from atoll.app.outbound import Outbound
from atoll.app.serving import handler_of
from atoll.base.chance import Chance
from atoll.base.clock import SystemClock
from atoll.cluster.apiserver.ports import SYSTEM_ADMIN
from atoll.cluster.apiserver.streaming import Streamer
from atoll.cluster.store.memory import MemoryStore
from atoll.wire.ca import new_key_pem
from atoll.wire.messages import HttpRequest

RECORDED: dict[str, list[dict[str, Any]]] = json.loads((Path(__file__).parent / "webhook_dialogues.json").read_text())


async def on_ours(name: str) -> list[dict[str, Any]]:
    clock = SystemClock()
    store = MemoryStore(clock)
    outbound = Outbound(store)
    token = {"secret": SYSTEM_ADMIN}
    options = ApiOptions(signing_key=new_key_pem(), static_tokens=token, hook_caller=outbound)
    assembly = assemble(store, clock, Chance(1), options)
    await bootstrap(assembly)
    handler = handler_of(assembly, Streamer(assembly.api, ssl.create_default_context()))

    async def ask(method: str, path: str, body: Any, content_type: str) -> tuple[int, Any, list[str]]:
        path, _, query = path.partition("?")
        headers = {"authorization": "Bearer secret", "content-type": content_type}
        data = b"" if body is None else orjson.dumps(body)
        answer = await handler(HttpRequest(method, path, query, headers, data))
        given = dict(answer.headers)
        is_json = given.get("Content-Type", "").startswith("application/json")
        shown = orjson.loads(answer.body) if is_json else answer.body.decode()
        return answer.status, shown, [value for key, value in answer.headers if key == "Warning"]

    async def settled() -> None:
        return None  # a configuration is in force when its write is answered

    await ask("POST", "/api/v1/namespaces", {"metadata": {"name": NAMESPACE}}, "application/json")
    account = {"metadata": {"name": "default"}}
    await ask("POST", f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts", account, "application/json")
    try:
        async with webhook_server() as server:
            return await hold(name, server, ask, settled)
    finally:
        await outbound.close()


@pytest.mark.parametrize("name", DIALOGUES)
def test_the_dialogue_is_that_of_the_real_server(name: str) -> None:
    assert asyncio.run(on_ours(name)) == RECORDED[name]
