"""Whatever a client sends instead of what is right, the answer is a Status below 500 (or the object, if it is fine).

Bodies are the recorded requests with random pieces removed, emptied or replaced by something of another type.
"""

import asyncio
import copy
import json
import random
import re
import ssl
from pathlib import Path
from typing import Any

import pytest

from atoll.app.assembly import ApiOptions, assemble, bootstrap
from atoll.app.serving import handler_of
from atoll.base.chance import Chance
from atoll.cluster.apiserver.ports import User
from atoll.cluster.apiserver.streaming import Streamer
from atoll.cluster.store.memory import MemoryStore
from atoll.runtime.virtual import LoopClock, run_virtual
from atoll.wire.messages import HttpRequest

RECORDINGS = Path(__file__).parent.parent / "differential" / "recordings"
ADMIN = User("system:admin", ("system:masters", "system:authenticated"))
ODD = (None, "", "x" * 300, 0, -1, 2**40, 1.5, True, [], {}, [None], {"": None}, "ü", [{}], {"a": {"b": []}})


def _bodies() -> list[tuple[str, Any]]:
    found: dict[str, tuple[str, Any]] = {}
    for path in sorted(RECORDINGS.glob("*.json")):
        for step in json.loads(path.read_text())["steps"]:
            request, status = step["request"], step["response"]["status"]
            if request["method"] == "POST" and status == 201 and "$" not in json.dumps(request):
                target = re.sub("/namespaces/[^/]+/", "/namespaces/default/", request["path"].partition("?")[0])
                if "bind" not in target:  # upstream answers 500 itself there
                    key = target + json.dumps(request["body"].get("spec", ""))[:200]
                    found.setdefault(key, (target, request["body"]))
    return list(found.values())


def _places(value: Any) -> list[tuple[Any, Any]]:
    """(container, key) of everything inside."""
    places: list[tuple[Any, Any]] = []
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in list(pairs):
        places.append((value, key))
        places += _places(item)
    return places


def _spoil(body: Any, chance: random.Random) -> Any:
    body = copy.deepcopy(body)
    for _ in range(chance.randint(1, 3)):
        places = [(where, key) for where, key in _places(body) if key not in ("kind", "apiVersion")]
        if not places:
            break
        where, key = chance.choice(places)
        if isinstance(where, dict) and chance.random() < 0.3:
            del where[key]
        else:
            where[key] = copy.deepcopy(chance.choice(ODD))
    return body


async def _play(seed: int) -> list[str]:
    clock = LoopClock(asyncio.get_running_loop(), 1_800_000_000.0)
    assembly = assemble(MemoryStore(clock), clock, Chance(seed), ApiOptions(static_tokens={"admin": ADMIN}))
    await bootstrap(assembly)
    handler = handler_of(assembly, Streamer(assembly.api, ssl.create_default_context()))
    chance = random.Random(seed)
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
    headers = {"content-type": "application/json", "authorization": "Bearer admin", "accept": "application/json"}
    accounts = "/api/v1/namespaces/default/serviceaccounts"
    await handler(HttpRequest("POST", accounts, "", headers, json.dumps(account).encode(), target=accounts))
    wrong = []
    for path, body in _bodies():
        for _ in range(12):
            spoiled = _spoil(body, chance)
            request = HttpRequest("POST", path, "dryRun=All", headers, json.dumps(spoiled).encode(), target=path)
            response = await handler(request)
            if response.status >= 500:
                wrong.append(f"{response.status} {path} {json.dumps(spoiled)[:600]}\n    {response.body[:300]!r}")
    return wrong


@pytest.mark.parametrize("seed", [1, 2])
def test_no_body_is_our_fault(seed: int) -> None:
    wrong = run_virtual(_play(seed))
    assert not wrong, "\n".join(wrong[:10])


async def _answered(*requests: tuple[str, str, str, str]) -> list[tuple[int, bool]]:
    clock = LoopClock(asyncio.get_running_loop(), 1_800_000_000.0)
    assembly = assemble(MemoryStore(clock), clock, Chance(1), ApiOptions(static_tokens={"admin": ADMIN}))
    await bootstrap(assembly)
    handler = handler_of(assembly)
    statuses = []
    for method, path, content_type, body in requests:
        headers = {"content-type": content_type, "authorization": "Bearer admin", "accept": "application/json"}
        query = "fieldManager=x" if method == "PATCH" else ""
        answer = await handler(HttpRequest(method, path, query, headers, body.encode(), target=path))
        statuses.append((answer.status, b"see the server's log" in answer.body))
    return statuses


def test_what_the_fuzzer_found() -> None:
    """`atoll.testing.fuzz`: an apply whose metadata is no map, and a number that JSON libraries do not write."""
    quotas = "/api/v1/namespaces/default/resourcequotas"
    quota = '{"apiVersion":"v1","kind":"ResourceQuota","metadata":{"name":"b"},"spec":{"hard":{"pods":%s}}}'
    odd = '{"apiVersion":"v1","kind":"ConfigMap","metadata":"x"}'
    scaler = (
        '{"apiVersion":"autoscaling/v1","kind":"","metadata":{"name":"b"},'
        '"spec":{"maxReplicas":2,"scaleTargetRef":{"kind":"ReplicaSet","name":"a"}}}'
    )
    made, shown = run_virtual(
        _answered(
            ("POST", "/apis/autoscaling/v1/namespaces/default/horizontalpodautoscalers", "application/json", scaler),
            ("GET", "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers/b", "application/json", ""),
        )
    )
    assert not made[1] and made[0] in (201, 422) and not shown[1]
    statuses = run_virtual(
        _answered(
            ("PATCH", "/api/v1/namespaces/default/configmaps/a", "application/apply-patch+yaml", odd),
            ("POST", quotas, "application/json", quota % "1"),
            ("PUT", quotas + "/b", "application/yaml", quota % str(2**64)),
        )
    )
    assert not any(ours for _, ours in statuses), statuses
    assert [status for status, _ in statuses] in ([500, 201, 200], [500, 201, 400], [500, 201, 422]), statuses
