"""clusters/NAME/proxy over real sockets: reads, writes, watches, refusals."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from atoll.base.clock import SystemClock
from atoll.base.errors import ApiError, Forbidden, NotFound
from atoll.client.http import HttpClient
from atoll.client.kubeconfig import Access
from atoll.cluster.apiserver.refusals import refusal
from atoll.fleet.registry.proxy import PREFIX, Person, split, with_cluster_proxy
from atoll.kinds.builtin import CONFIGMAPS
from atoll.testing.cluster import TestCluster, new_cluster, over_http
from atoll.wire.messages import HttpRequest, HttpResponse
from atoll.wire.server import serve


@asynccontextmanager
async def proxied(seen: list[HttpRequest]) -> AsyncIterator[tuple[TestCluster, HttpClient, HttpClient]]:
    """A member, a client of it through a hub, and one for a cluster that is not there."""
    member = await new_cluster()

    async def inner(request: HttpRequest) -> HttpResponse:
        return HttpResponse(404)

    async def authorize(request: HttpRequest, cluster: str) -> Person:
        seen.append(request)
        if cluster == "secret":
            raise Forbidden('clusters.cluster.karmada.io "secret" is forbidden')
        return Person("ada", ("system:authenticated",))

    def refuse(error: Exception) -> HttpResponse:
        assert isinstance(error, ApiError), error
        return refusal(error)

    async with over_http(member.api) as address:

        async def reach(cluster: str) -> Access:
            if cluster == "gone":
                return Access("http://127.0.0.1:9")
            if cluster != "member":
                raise NotFound(f'clusters.cluster.karmada.io "{cluster}" not found')
            return Access(address, token="hub-credential")

        server = await serve(with_cluster_proxy(inner, authorize, reach, refuse), "127.0.0.1", 0)
        base = f"http://127.0.0.1:{server.port}{PREFIX}"
        through = HttpClient(Access(f"{base}member/proxy"), clock=SystemClock())
        gone = HttpClient(Access(f"{base}gone/proxy"), clock=SystemClock())
        try:
            yield member, through, gone
        finally:
            await through.close()
            await gone.close()
            await server.close()


def config(name: str) -> dict[str, object]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"}}


def test_a_members_api_through_the_hub() -> None:
    async def story() -> None:
        seen: list[HttpRequest] = []
        async with proxied(seen) as (member, through, _):
            made = await through.create(CONFIGMAPS, config("a"))
            assert (await member.client.get(CONFIGMAPS, "a", "default"))["metadata"]["uid"] == made["metadata"]["uid"]
            with pytest.raises(NotFound, match='configmaps "none" not found'):
                await through.get(CONFIGMAPS, "none", "default")
            events = through.watch(CONFIGMAPS, "default", resource_version=made["metadata"]["resourceVersion"])
            await member.client.create(CONFIGMAPS, config("b"))
            async with asyncio.timeout(5):
                assert (await anext(events)).object["metadata"]["name"] == "b"
            await events.aclose()

    asyncio.run(story())


def test_a_cluster_that_does_not_answer_is_503() -> None:
    async def story() -> None:
        async with proxied([]) as (_, __, gone):
            with pytest.raises(ApiError) as caught:
                await gone.get(CONFIGMAPS, "a", "default")
            assert caught.value.code == 503
            assert "cluster gone can't be reached" in caught.value.message

    asyncio.run(story())


def test_only_proxy_paths_are_taken() -> None:
    assert split(f"{PREFIX}m/proxy") == ("m", "/")
    assert split(f"{PREFIX}m/proxy/api/v1/pods") == ("m", "/api/v1/pods")
    assert split(f"{PREFIX}m") is None
    assert split(f"{PREFIX}m/status") is None
    assert split("/api/v1/pods") is None
