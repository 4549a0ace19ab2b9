"""GETs that are answered at once say at each moment what the whole way would say."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from test_gate import CONFIG_MAPS, Server, config_map, header, serving

from atoll.base.errors import Unauthorized
from atoll.cluster.apiserver.aggregation.proxy import Proxy
from atoll.cluster.apiserver.ports import NO_OPINION, Attributes, Decision, User
from atoll.kinds.builtin import CONFIGMAPS, CUSTOM_RESOURCE_DEFINITIONS
from atoll.kinds.resource import Resource
from atoll.wire.messages import HttpRequest, HttpResponse

TABLE = "application/json;as=Table;g=meta.k8s.io;v=v1,application/json"
PARTIAL_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
API_SERVICES = Resource("apiregistration.k8s.io", "v1", "apiservices", "APIService", namespaced=False)
THINGS = "/apis/example.com/v1/namespaces/default/things"


def asked(path: str, **headers: str) -> HttpRequest:
    path, _, query = path.partition("?")
    return HttpRequest("GET", path, query, {name.replace("_", "-"): text for name, text in headers.items()}, b"")


def told(response: HttpResponse | None) -> tuple[Any, ...]:
    assert response is not None
    return response.status, sorted(response.headers), response.body


async def agreed(server: Server, path: str, **headers: str) -> HttpResponse:
    """The answer at once, twice, which is that of the whole way."""
    answers = [server.handler.immediate(asked(path, **headers)) for _ in range(2)]
    whole = await server.handler(asked(path, **headers))
    assert [told(answer) for answer in answers] == [told(whole)] * 2
    return whole


def playing(scenario: Callable[[Server], Awaitable[None]]) -> None:
    async def play(server: Server) -> None:
        await server.assembly.client().create(CONFIGMAPS, config_map("a"), "default")
        await scenario(server)

    serving(play)


def test_forms_versions_and_what_is_not_there() -> None:
    async def scenario(server: Server) -> None:
        assert (await agreed(server, f"{CONFIG_MAPS}/a")).status == 200
        assert (await agreed(server, f"{CONFIG_MAPS}/b")).status == 404
        rows = orjson.loads((await agreed(server, f"{CONFIG_MAPS}/a", accept=TABLE)).body)["rows"]
        assert rows[0]["object"]["kind"] == "PartialObjectMetadata"
        whole = await agreed(server, f"{CONFIG_MAPS}/a?includeObject=Object", accept=TABLE)
        assert orjson.loads(whole.body)["rows"][0]["object"]["kind"] == "ConfigMap"
        assert (await agreed(server, f"{CONFIG_MAPS}/a", accept="application/yaml")).body.startswith(b"apiVersion: v1")
        assert (await agreed(server, f"{CONFIG_MAPS}/a", accept=PARTIAL_LIST)).status == 406
        assert (await agreed(server, f"{CONFIG_MAPS}/a?resourceVersion=1")).status == 200
        assert (await agreed(server, f"{CONFIG_MAPS}/a?resourceVersion=999999")).status == 504
        old = await agreed(server, "/api/v1/namespaces/default/endpoints/kubernetes")
        assert header(old, "Warning").startswith('299 - "v1 Endpoints is deprecated')

    playing(scenario)


def test_the_object_is_read_each_time() -> None:
    async def scenario(server: Server) -> None:
        client = server.assembly.client()
        await agreed(server, f"{CONFIG_MAPS}/a")
        await client.patch(CONFIGMAPS, "a", {"data": {"k": "new"}}, "default")
        assert b'"new"' in (await agreed(server, f"{CONFIG_MAPS}/a")).body
        await client.delete(CONFIGMAPS, "a", "default")
        assert (await agreed(server, f"{CONFIG_MAPS}/a")).status == 404

    playing(scenario)


def test_each_user_is_let_in_as_long_as_he_may() -> None:
    allowed = {"jane"}

    class Listed:
        def authorize(self, attributes: Attributes) -> Decision:
            assert attributes.name == "a"
            return Decision(True) if attributes.user.name in allowed else NO_OPINION

    async def scenario(server: Server) -> None:
        server.handler.authorizer = Listed()
        path = f"{CONFIG_MAPS}/a"
        for _ in range(2):
            assert (await agreed(server, path, x_user="jane")).status == 200
            assert server.handler.immediate(asked(path, x_user="joe")) is None
            refused = await server.handler(asked(path, x_user="joe"))
            assert refused.status == 403 and b'User \\"joe\\"' in refused.body
        allowed.remove("jane")
        assert server.handler.immediate(asked(path, x_user="jane")) is None
        assert (await server.handler(asked(path, x_user="jane"))).status == 403

        def identify(_: HttpRequest) -> User:
            raise Unauthorized("Unauthorized")

        server.handler.identify = identify
        assert server.handler.immediate(asked(path)) is None

    playing(scenario)


def test_a_kind_that_comes_and_goes() -> None:
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    crd = {
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "things.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": {"plural": "things", "kind": "Thing"},
                 "versions": [version]},
    }  # fmt: skip

    async def scenario(server: Server) -> None:
        client = server.assembly.client()
        path = f"{THINGS}/a"
        assert server.handler.immediate(asked(path)) is None
        for _ in range(2):
            await client.create(CUSTOM_RESOURCE_DEFINITIONS, crd)
            thing = {"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "a"}}
            assert (await server.ask("POST", THINGS, thing)).status == 201
            assert (await agreed(server, path)).status == 200
            await server.ask("DELETE", path)
            await client.delete(CUSTOM_RESOURCE_DEFINITIONS, "things.example.com")
            assert server.handler.immediate(asked(path)) is None
            assert (await server.handler(asked(path))).body == b"404 page not found\n"

    playing(scenario)


def test_another_server_that_takes_the_group_over_is_asked() -> None:
    async def scenario(server: Server) -> None:
        server.handler.aggregation = Proxy(server.assembly.store, lambda _, __: None)  # type: ignore[arg-type,return-value]
        path = "/apis/apps/v1/namespaces/default/deployments/a"
        assert (await agreed(server, path)).status == 404
        spec = {"group": "apps", "version": "v1", "groupPriorityMinimum": 1, "versionPriority": 1,
                "insecureSkipTLSVerify": True, "service": {"name": "s", "namespace": "default"}}  # fmt: skip
        service = {"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": "v1.apps"}}
        await server.assembly.client().create(API_SERVICES, {**service, "spec": spec})
        assert server.handler.immediate(asked(path)) is None
        assert (await server.handler(asked(path))).status == 503

    playing(scenario)


def test_what_people_read_goes_the_whole_way() -> None:
    async def scenario(server: Server) -> None:
        for request in (asked(f"{CONFIG_MAPS}/a?pretty=true"), asked(f"{CONFIG_MAPS}/a", user_agent="curl/8.1")):
            assert server.handler.immediate(request) is None
            assert (await server.handler(request)).body.startswith(b'{\n  "apiVersion"')
        assert server.handler.immediate(asked(f"{CONFIG_MAPS}/a", user_agent="kubectl/v1.36")) is not None

    playing(scenario)
