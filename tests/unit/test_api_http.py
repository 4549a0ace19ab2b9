"""The translation: paths, methods, negotiation, warnings and refusals as the real server's."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import pytest

from atoll.base.errors import Unauthorized
from atoll.cluster.apiserver.http import http_handler
from atoll.cluster.apiserver.ports import ANONYMOUS, Attributes, Decision
from atoll.runtime.virtual import LoopClock, run_virtual
from atoll.testing.cluster import AllowAll, everyone_is_admin, new_cluster
from atoll.wire.messages import HttpRequest, HttpResponse

CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"
JSON = {"content-type": "application/json"}
Ask = Callable[..., Awaitable[HttpResponse]]


def ask_all(scenario: Callable[[Ask], Awaitable[None]], authorizer: Any = None, identify: Any = None) -> None:
    async def main() -> None:
        cluster = await new_cluster(clock=LoopClock(asyncio.get_running_loop()))
        handler = http_handler(cluster.api, identify or everyone_is_admin, authorizer or AllowAll())

        async def ask(method: str, path: str, body: Any = None, **headers: str) -> HttpResponse:
            path, _, query = path.partition("?")
            given = {name.replace("_", "-"): value for name, value in headers.items()}
            data = b"" if body is None else body if isinstance(body, bytes) else orjson.dumps(body)
            return await handler(HttpRequest(method, path, query, {**JSON, **given}, data))

        await scenario(ask)

    run_virtual(main())


def config_map(name: str, **extra: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, **extra}


async def lines(response: HttpResponse) -> list[Any]:
    assert response.stream is not None
    return [orjson.loads(line) async for chunk in response.stream for line in chunk.splitlines()]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("GET", "/apis/no.such/v1/things", 404),
        ("GET", "/api/v1/nothings", 404),
        ("GET", "/api/v1/pods/p", 404),
        ("POST", "/api/v1/pods", 405),
        ("PUT", CONFIG_MAPS, 405),
        ("DELETE", "/api/v1/configmaps", 405),
        ("HEAD", f"{CONFIG_MAPS}/a", 405),
        ("GET", f"{CONFIG_MAPS}/a/status", 404),
    ],
)
def test_what_is_not_served(method: str, path: str, status: int) -> None:
    async def scenario(ask: Ask) -> None:
        assert (await ask(method, path)).status == status

    ask_all(scenario)


def test_a_path_outside_of_every_group_is_plain_text() -> None:
    async def scenario(ask: Ask) -> None:
        outside, inside = await ask("GET", "/apis/no.such/v1/things"), await ask("GET", "/apis/apps/v1/things")
        assert outside.body == b"404 page not found\n"
        assert orjson.loads(inside.body)["message"] == "the server could not find the requested resource"

    ask_all(scenario)


def test_warnings_are_headers() -> None:
    async def scenario(ask: Ask) -> None:
        response = await ask("POST", CONFIG_MAPS, config_map("a", bogus=1))
        assert response.status == 201
        assert ("Warning", '299 - "unknown field \\"bogus\\""') in response.headers
        strict = await ask("POST", f"{CONFIG_MAPS}?fieldValidation=Strict", config_map("b", bogus=1))
        assert strict.status == 400
        assert orjson.loads(strict.body)["message"].endswith('strict decoding error: unknown field "bogus"')
        ignored = await ask("POST", f"{CONFIG_MAPS}?fieldValidation=Ignore", config_map("c", bogus=1))
        assert ignored.status == 201 and not [name for name, _ in ignored.headers if name == "Warning"]

    ask_all(scenario)


def test_representations() -> None:
    async def scenario(ask: Ask) -> None:
        await ask("POST", CONFIG_MAPS, config_map("a", data={"x": "1"}))
        table = await ask("GET", CONFIG_MAPS, accept="application/json;as=Table;v=v1;g=meta.k8s.io,application/json")
        assert orjson.loads(table.body)["kind"] == "Table"
        partial = await ask(
            "GET", CONFIG_MAPS, accept="application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"
        )
        assert "data" not in orjson.loads(partial.body)["items"][0]
        yaml = await ask("GET", f"{CONFIG_MAPS}/a", accept="application/yaml")
        assert b'x: "1"' in yaml.body and ("Content-Type", "application/yaml") in yaml.headers
        plain = await ask("GET", f"{CONFIG_MAPS}/a", accept="application/vnd.kubernetes.protobuf, */*")
        assert orjson.loads(plain.body)["kind"] == "ConfigMap"
        assert (await ask("GET", f"{CONFIG_MAPS}/a", accept="text/html")).status == 406

    ask_all(scenario)


def test_items_of_built_in_lists_carry_no_kind() -> None:
    async def scenario(ask: Ask) -> None:
        await ask("POST", CONFIG_MAPS, config_map("a"))
        page = orjson.loads((await ask("GET", CONFIG_MAPS)).body)
        assert page["kind"] == "ConfigMapList" and "kind" not in page["items"][0]

    ask_all(scenario)


def test_a_watch_with_initial_events() -> None:
    async def scenario(ask: Ask) -> None:
        await ask("POST", CONFIG_MAPS, config_map("a"))
        query = (
            "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&timeoutSeconds=1"
        )
        events = await lines(await ask("GET", f"{CONFIG_MAPS}?{query}"))
        assert [event["type"] for event in events] == ["ADDED", "BOOKMARK"]
        assert events[1]["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
        refused = await ask("GET", f"{CONFIG_MAPS}?watch=1&sendInitialEvents=true")
        assert refused.status == 422

    ask_all(scenario)


def test_a_deprecated_watch_path_follows_one_object() -> None:
    async def scenario(ask: Ask) -> None:
        for name in "ab":
            await ask("POST", CONFIG_MAPS, config_map(name))
        events = await lines(await ask("GET", "/api/v1/watch/namespaces/default/configmaps/b?timeoutSeconds=1"))
        assert [event["object"]["metadata"]["name"] for event in events] == ["b"]

    ask_all(scenario)


def test_large_bodies_and_objects() -> None:
    async def scenario(ask: Ask) -> None:
        assert (await ask("POST", CONFIG_MAPS, b"x" * 3_200_000)).status == 413
        role = {
            "metadata": {"name": "big"},
            "rules": [{"apiGroups": [""], "resources": ["x" * 1_700_000], "verbs": ["get"]}],
        }
        refused = await ask("POST", "/apis/rbac.authorization.k8s.io/v1/clusterroles", role)
        assert refused.status == 500
        assert orjson.loads(refused.body)["message"] == "etcdserver: request is too large"

    ask_all(scenario)


class _OnlyReads:
    def authorize(self, attributes: Attributes) -> Decision:
        return Decision(attributes.verb in ("get", "list", "watch"))


def test_refusals_say_who_may_not_what() -> None:
    async def scenario(ask: Ask) -> None:
        assert (await ask("GET", CONFIG_MAPS)).status == 200
        refused = await ask("POST", CONFIG_MAPS, config_map("a"))
        assert refused.status == 403
        assert orjson.loads(refused.body)["message"] == (
            'configmaps is forbidden: User "system:anonymous" cannot create resource "configmaps" in API group "" in'
            ' the namespace "default"'
        )
        deleted = await ask("DELETE", "/apis/apps/v1/namespaces/default/deployments")
        assert (
            'cannot deletecollection resource "deployments" in API group "apps"'
            in orjson.loads(deleted.body)["message"]
        )
        path = await ask("POST", "/metrics")
        assert orjson.loads(path.body)["message"] == ('forbidden: User "system:anonymous" cannot post path "/metrics"')

    ask_all(scenario, _OnlyReads(), lambda _: ANONYMOUS)


def test_strangers_keep_no_http2_connection() -> None:
    def identify(request: HttpRequest) -> Any:
        if "authorization" in request.headers:
            raise Unauthorized("no such token")
        return ANONYMOUS if request.path == "/livez" else everyone_is_admin(request)

    async def main() -> None:
        cluster = await new_cluster()
        handler = http_handler(cluster.api, identify, AllowAll())

        async def closes(path: str, http2: bool, **headers: str) -> bool:
            request = HttpRequest("GET", path, "", headers, b"", http2=http2)
            response = handler.immediate(request) or await handler(request)
            return ("Connection", "close") in response.headers

        assert await closes("/livez", True) and not await closes("/livez", False)
        one = f"{CONFIG_MAPS}/kube-root-ca.crt"
        assert await closes(one, True, authorization="x") and not await closes(one, False, authorization="x")
        assert not await closes(one, True)

    asyncio.run(main())


def test_health_and_the_root() -> None:
    async def scenario(ask: Ask) -> None:
        assert (await ask("GET", "/livez")).body == b"ok"
        assert b"[+]ping ok\n" in (await ask("GET", "/readyz?verbose")).body
        assert "/apis/apps/v1" in orjson.loads((await ask("GET", "/")).body)["paths"]

    ask_all(scenario)


def test_a_part_may_answer_a_subresource_of_its_own() -> None:
    async def main() -> None:
        cluster = await new_cluster()
        seen: list[tuple[str, str, str]] = []

        async def proxy(request: HttpRequest, user: Any, served: Any, path: Any) -> HttpResponse:
            seen.append((user.name, path.name, path.rest))
            return HttpResponse(200, [], b"there")

        connect = {("", "configmaps", "proxy"): proxy}
        handler = http_handler(cluster.api, everyone_is_admin, AllowAll(), connect=connect)
        response = await handler(HttpRequest("GET", f"{CONFIG_MAPS}/a/proxy/api/v1", "", {}, b""))
        assert response.body == b"there" and seen == [("system:admin", "a", "/api/v1")]

    asyncio.run(main())


def test_json_is_indented_for_people() -> None:
    async def scenario(ask: Ask) -> None:
        await ask("POST", CONFIG_MAPS, config_map("a"))
        plain = (await ask("GET", f"{CONFIG_MAPS}/a")).body
        assert b"\n" not in plain
        for path, agent in ((f"{CONFIG_MAPS}/a", "curl/8.1"), (f"{CONFIG_MAPS}/a?pretty=true", "kubectl/v1")):
            shown = (await ask("GET", path, user_agent=agent)).body
            assert shown.startswith(b'{\n  "') and orjson.loads(shown) == orjson.loads(plain)
        assert (await ask("GET", f"{CONFIG_MAPS}/a?pretty=false", user_agent="curl/8.1")).body == plain
        assert b"\n  " in (await ask("GET", f"{CONFIG_MAPS}/nothing", user_agent="curl/8.1")).body

    ask_all(scenario)


def test_what_is_stored_but_not_acted_upon_says_so() -> None:
    async def scenario(ask: Ask) -> None:
        async def warned(path: str, body: Any) -> list[str]:
            answer = await ask("POST", path, body)
            assert answer.status == 201
            return [value for name, value in answer.headers if name == "Warning"]

        assert await warned("/api/v1/namespaces", {"metadata": {"name": "b"}}) == []

    ask_all(scenario)
