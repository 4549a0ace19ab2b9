"""What the API server answers itself, before a kubelet is asked, to logs, exec and proxies."""

import asyncio

import pytest

from atoll.base.chance import Chance
from atoll.base.clock import ManualClock
from atoll.base.errors import ApiError, BadRequest
from atoll.cluster.apiserver import paths
from atoll.cluster.apiserver.api import Api
from atoll.cluster.apiserver.builtins import builtin_registry
from atoll.cluster.apiserver.local import LocalClient
from atoll.cluster.apiserver.ports import SYSTEM_ADMIN
from atoll.cluster.apiserver.streaming import Streamer, split_proxy_name
from atoll.cluster.store.memory import MemoryStore
from atoll.kinds.builtin import ENDPOINTS, NAMESPACES, NODES, PODS, SERVICES
from atoll.wire.messages import HttpRequest
from atoll.wire.tls import client_context


def node(name, labels=None, status=None):
    metadata = {"name": name, "labels": labels or {}}
    return {"apiVersion": "v1", "kind": "Node", "metadata": metadata, "status": status or {}}


def pod(name, *containers, on="", init=()):
    spec = {"containers": [{"name": item, "image": "i"} for item in containers]}
    if init:
        spec["initContainers"] = [{"name": item, "image": "i"} for item in init]
    if on:
        spec["nodeName"] = on
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "ns"}, "spec": spec}


async def _answer(path, query):
    clock = ManualClock()
    api = Api(store=MemoryStore(clock), clock=clock, chance=Chance(1), registry=builtin_registry())
    client = LocalClient(api)
    await client.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "ns"}})
    await client.create(NODES, node("sim", {"atoll.dev/simulated": "true"}))
    await client.create(NODES, node("bare"))
    await client.create(NODES, node("there", status={"addresses": [{"type": "InternalIP", "address": "127.0.0.1"}]}))
    for made in (pod("one", "c", on="sim"), pod("two", "a", "b", init=("i",), on="sim"), pod("waiting", "c")):
        await client.create(PODS, made, "ns")
    await client.create(PODS, pod("lost", "c", on="bare"), "ns")
    await client.create(PODS, pod("running", "c", on="there"), "ns")
    spec = {
        "clusterIP": "None",
        "clusterIPs": ["None"],
        "ipFamilies": ["IPv4"],
        "ipFamilyPolicy": "SingleStack",
        "ports": [{"name": "http", "port": 80}],
    }
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "ns"}, "spec": spec}
    await client.create(SERVICES, service, "ns")
    await client.create(SERVICES, {**service, "metadata": {"name": "bare", "namespace": "ns"}}, "ns")
    empty = {"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "web", "namespace": "ns"}}
    await client.create(ENDPOINTS, empty, "ns")
    parsed = paths.parse(path)
    request = HttpRequest("GET", path, query, {"connection": "upgrade", "upgrade": "websocket"}, b"")
    served = api.registry.find(parsed.group, parsed.version, parsed.plural)
    return await Streamer(api, client_context(insecure=True))(request, SYSTEM_ADMIN, served, parsed)


def answer(path, query=""):
    return asyncio.run(_answer(path, query))


def test_a_simulated_pods_log_says_so():
    response = answer("/api/v1/namespaces/ns/pods/one/log")
    assert response.status == 200
    assert b'on the simulated node "sim"' in response.body


def test_a_pod_without_a_node_has_an_empty_log():
    response = answer("/api/v1/namespaces/ns/pods/waiting/log")
    assert (response.status, response.body) == (204, b"")


POD = "/api/v1/namespaces/ns/pods"


@pytest.mark.parametrize(
    ("path", "query", "code", "message"),
    [
        (f"{POD}/one/exec", "command=ls&stdout=1", 501, 'node "sim" is simulated'),
        (f"{POD}/one/attach", "stdout=1", 501, 'node "sim" is simulated'),
        (f"{POD}/one/portforward", "ports=80", 501, 'node "sim" is simulated'),
        (f"{POD}/running/exec", "command=ls", 400, "you must specify at least 1 of stdin, stdout, stderr"),
        (f"{POD}/running/exec", "stdout=1", 400, "you must specify at least one command"),
        (f"{POD}/waiting/exec", "command=ls&stdout=1", 400, "pod waiting does not have a host assigned"),
        (
            f"{POD}/two/log", "", 400,
            "a container name must be specified for pod two, choose one of: [a b] or one of the init containers: [i]",
        ),
        (f"{POD}/two/log", "container=x", 400, "container x is not valid for pod two"),
        (f"{POD}/one/log", "tailLines=-1", 422, "tailLines: Invalid value: -1"),
        (f"{POD}/one/log", "sinceSeconds=x", 400, 'parsing "x": invalid syntax'),
        (f"{POD}/none/log", "", 404, 'pods "none" not found'),
        (f"{POD}/lost/exec", "command=ls&stdout=1", 500, "no preferred addresses found; known addresses: []"),
        ("/api/v1/nodes/sim/proxy/pods", "", 501, 'node "sim" is simulated'),
        ("/api/v1/namespaces/ns/services/web/proxy/", "", 503, 'no endpoints available for service "web"'),
        ("/api/v1/namespaces/ns/services/bare/proxy/", "", 404, 'endpoints "bare" not found'),
        ("/api/v1/namespaces/ns/services/web:81/proxy/", "", 503, 'no service port "81" found for service "web"'),
    ],
)  # fmt: skip
def test_refusals(path, query, code, message):
    with pytest.raises(ApiError) as error:
        answer(path, query)
    assert error.value.code == code
    assert message in error.value.message


def test_proxied_names_carry_scheme_and_port():
    assert split_proxy_name("web") == ("", "web", "")
    assert split_proxy_name("web:http") == ("", "web", "http")
    assert split_proxy_name("https:web:443") == ("https", "web", "443")
    assert split_proxy_name("https:web:") == ("https", "web", "")
    with pytest.raises(BadRequest):
        split_proxy_name("a:b:c:d")
