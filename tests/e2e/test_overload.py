"""Over real sockets: one greedy client, many polite ones, and a level of priority and fairness between them."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import Shell, environment
from direct import Server, server_of

MAPS = "/api/v1/namespaces/default/configmaps"
FLOW = "/apis/flowcontrol.apiserver.k8s.io/v1"
GREEDY_CONNECTIONS = 60
POLITE = ("anna", "ben", "carla", "dora", "emil")
POLITE_WRITES = 40


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A bare API server with 20 seats."""
    home = tmp_path_factory.mktemp("overload")
    (home / "run").mkdir(mode=0o700)
    shell = Shell(environment(home))
    config = home / "few.kubeconfig"
    shell.atoll(
        "cluster", "create", "few", "--api-only", "--kubeconfig", str(config),
        "--max-requests-in-flight", "20", "--max-mutating-requests-in-flight", "0",
    )  # fmt: skip
    yield server_of(config)
    shell.atoll("cluster", "delete", "few")


def created(server: Server, path: str, obj: dict[str, Any]) -> dict[str, Any]:
    status, body, _ = server.ask("POST", path, json.dumps(obj).encode())
    assert status == 201, body
    return body


def token(server: Server, name: str) -> str:
    created(server, "/api/v1/namespaces/default/serviceaccounts", {"metadata": {"name": name}})
    path = f"/api/v1/namespaces/default/serviceaccounts/{name}/token"
    found: str = created(server, path, {"spec": {}})["status"]["token"]
    return found


def a_level_of_one_seat(server: Server) -> None:
    """For the service accounts of the namespace, each a flow; queues of five."""
    queuing = {"queues": 16, "handSize": 2, "queueLengthLimit": 5}
    limited = {
        "nominalConcurrencyShares": 10, "lendablePercent": 0, "borrowingLimitPercent": 0,
        "limitResponse": {"type": "Queue", "queuing": queuing},
    }  # fmt: skip
    level = {"metadata": {"name": "team"}, "spec": {"type": "Limited", "limited": limited}}
    created(server, f"{FLOW}/prioritylevelconfigurations", level)
    rule = {
        "subjects": [{"kind": "ServiceAccount", "serviceAccount": {"namespace": "default", "name": "*"}}],
        "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"]}],
    }
    spec = {
        "priorityLevelConfiguration": {"name": "team"}, "matchingPrecedence": 50,
        "distinguisherMethod": {"type": "ByUser"}, "rules": [rule],
    }  # fmt: skip
    created(server, f"{FLOW}/flowschemas", {"metadata": {"name": "team"}, "spec": spec})
    everything = {"kind": "ClusterRole", "name": "cluster-admin", "apiGroup": "rbac.authorization.k8s.io"}
    accounts = {"kind": "Group", "name": "system:serviceaccounts:default", "apiGroup": "rbac.authorization.k8s.io"}
    created(
        server,
        "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
        {"metadata": {"name": "team"}, "roleRef": everything, "subjects": [accounts]},
    )


class Client:
    """One connection, on which one request follows another."""

    def __init__(self, server: Server, name: str, bearer: str) -> None:
        self._server = server
        self._bearer = bearer
        self.name = name
        self.answers: Counter[int] = Counter()
        self.retry_after: set[str] = set()

    async def open(self) -> None:
        self._reader, self._writer = await asyncio.open_connection(
            self._server.host, self._server.port, ssl=self._server.context
        )

    async def write(self, name: str) -> int:
        """POST of a ConfigMap; the status."""
        body = json.dumps({"metadata": {"name": name}}).encode()
        head = f"POST {MAPS} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {self._bearer}\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        self._writer.write(head.encode() + body)
        answer = (await self._reader.readuntil(b"\r\n\r\n")).decode()
        headers = dict(line.lower().split(": ", 1) for line in answer.split("\r\n")[1:] if line)
        await self._reader.readexactly(int(headers["content-length"]))
        assert headers["x-kubernetes-pf-prioritylevel-uid"]
        status = int(answer.split(" ")[1])
        self.answers[status] += 1
        if status == 429:
            self.retry_after.add(headers["retry-after"])
        return status

    def close(self) -> None:
        self._writer.close()


async def flooded(server: Server, tokens: dict[str, str]) -> tuple[list[Client], list[Client]]:
    """The greedy one's connections write on and on while each polite one writes its few, one after the other."""
    greedy = [Client(server, f"greedy-{index}", tokens["greedy"]) for index in range(GREEDY_CONNECTIONS)]
    polite = [Client(server, name, tokens[name]) for name in POLITE]
    for client in (*greedy, *polite):
        await client.open()

    async def flood(client: Client) -> None:
        number = 0
        while True:
            number += 1
            await client.write(f"{client.name}-{number}")

    async def write_few(client: Client) -> None:
        for number in range(POLITE_WRITES):
            await client.write(f"{client.name}-{number}")

    floods = [asyncio.create_task(flood(client)) for client in greedy]
    async with asyncio.timeout(120):
        await asyncio.gather(*(write_few(client) for client in polite))
    for task in floods:
        task.cancel()
    await asyncio.gather(*floods, return_exceptions=True)
    for client in (*greedy, *polite):
        client.close()
    return greedy, polite


def test_a_flood_over_http_leaves_the_polite_their_share(server: Server) -> None:
    a_level_of_one_seat(server)
    tokens = {name: token(server, name) for name in ("greedy", *POLITE)}
    greedy, polite = asyncio.run(flooded(server, tokens))
    for client in polite:
        assert client.answers == {201: POLITE_WRITES}  # none was refused
    answers = sum((client.answers for client in greedy), Counter())
    assert set(answers) == {201, 429}
    assert all(int(seconds) >= 1 for client in greedy for seconds in client.retry_after)
    # its hand is two queues of those that take turns: nowhere near sixty connections' worth
    assert answers[201] < 6 * POLITE_WRITES
    status, body, _ = server.ask("GET", "/metrics")
    assert status == 200
    key = 'apiserver_flowcontrol_rejected_requests_total{flow_schema="team",priority_level="team",reason="queue-full"}'
    counted = next(line for line in body["text"].splitlines() if line.startswith(key))
    assert float(counted.rpartition(" ")[2]) >= answers[429]
