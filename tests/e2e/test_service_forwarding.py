"""The service proxy's forwarders and the name server on real sockets of this machine, on both event loops."""

import asyncio
import socket
import struct

import pytest
import uvloop
from dnslib import DNSRecord

from atoll.base.chance import Chance
from atoll.base.clock import SystemClock
from atoll.cluster.network.dns import DnsServer
from atoll.cluster.network.proxy import ServiceProxy
from atoll.cluster.network.records import build_zone
from atoll.cluster.network.services import Forward, Listener

HOST = "127.0.0.1"


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request):
    factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop

    def runner(work):
        with asyncio.Runner(loop_factory=factory) as loop:
            return loop.run(asyncio.wait_for(work, 20))

    return runner


def free_port(kind=socket.SOCK_STREAM):
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]


async def echo(reader, writer):
    """Answers with what came, once the caller has ended its side."""
    writer.write(await reader.read())
    writer.close()


async def backend(handler=echo):
    server = await asyncio.start_server(handler, HOST, 0)
    return server, server.sockets[0].getsockname()[1]


def service_proxy():
    return ServiceProxy(SystemClock(), Chance(1))


def test_bytes_pass_both_ways_and_half_closes_too(run):
    async def scenario():
        _server, port = await backend()
        proxy, listener = service_proxy(), Listener("TCP", HOST, free_port())
        await proxy.apply({listener: Forward("s", ((HOST, port),))})
        payload = bytes(range(256)) * 20_000  # more than any buffer on the way

        async def one():
            reader, writer = await asyncio.open_connection(HOST, listener.port)
            writer.write(payload)
            writer.write_eof()
            answer = await reader.read()
            writer.close()
            return answer

        answers = await asyncio.gather(*(one() for _ in range(5)))
        await proxy.close()
        return answers == [payload] * 5

    assert run(scenario())


def test_a_dead_endpoint_is_passed_over_and_with_none_left_the_caller_is_reset(run):
    async def scenario():
        server, port = await backend()
        dead = free_port()
        proxy, listener = service_proxy(), Listener("TCP", HOST, free_port())
        await proxy.apply({listener: Forward("s", ((HOST, dead), (HOST, port)))})
        for _ in range(4):
            reader, writer = await asyncio.open_connection(HOST, listener.port)
            writer.write(b"x")
            writer.write_eof()
            assert await reader.read() == b"x"
            writer.close()
        server.close()
        await proxy.apply({listener: Forward("s", ((HOST, dead),))})
        reader, writer = await asyncio.open_connection(HOST, listener.port)
        with pytest.raises(ConnectionResetError):
            await reader.read()
        await proxy.close()

    run(scenario())


def test_without_endpoints_the_port_is_closed_and_a_port_in_use_is_told(run):
    async def scenario():
        _server, port = await backend()
        proxy, listener = service_proxy(), Listener("TCP", HOST, free_port())
        taken = Listener("TCP", HOST, port)
        forward = Forward("s", ((HOST, port),))
        await proxy.apply({listener: forward, taken: forward})
        assert set(proxy.refused) == {taken}
        await proxy.apply({})
        assert not proxy.refused
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(HOST, listener.port)
        await proxy.close()

    run(scenario())


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self):
        self.received = asyncio.Queue()

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, addr):
        self.received.put_nowait(data)


class _Answering(_Datagrams):
    def datagram_received(self, data, addr):
        self.transport.sendto(b"answer to " + data, addr)


def test_datagrams_find_their_way_back(run):
    async def scenario():
        loop = asyncio.get_running_loop()
        target, _ = await loop.create_datagram_endpoint(_Answering, local_addr=(HOST, 0))
        port = target.get_extra_info("sockname")[1]
        proxy, listener = service_proxy(), Listener("UDP", HOST, free_port(socket.SOCK_DGRAM))
        await proxy.apply({listener: Forward("s", ((HOST, port),))})
        clients = []
        for number in range(3):
            _, client = await loop.create_datagram_endpoint(_Datagrams, remote_addr=(HOST, listener.port))
            client.transport.sendto(b"%d" % number)
            clients.append(client)
        answers = [await client.received.get() for client in clients]
        await proxy.close()
        target.close()
        for client in clients:
            client.transport.close()
        return answers

    assert run(scenario()) == [b"answer to 0", b"answer to 1", b"answer to 2"]


def test_the_name_server_speaks_udp_and_tcp(run):
    service = {
        "metadata": {"name": "web", "namespace": "ns"},
        "spec": {"clusterIP": "10.2.0.5", "ports": [{"port": 80}]},
    }
    query = bytes(DNSRecord.question("web.ns.svc.cluster.local").pack())

    async def scenario():
        server = DnsServer(build_zone("cluster.local", [service], {}), Chance(1))
        port = free_port()
        await server.open(HOST, port)
        loop = asyncio.get_running_loop()
        _, client = await loop.create_datagram_endpoint(_Datagrams, remote_addr=(HOST, port))
        client.transport.sendto(query)
        by_udp = await client.received.get()
        reader, writer = await asyncio.open_connection(HOST, port)
        writer.write(struct.pack(">H", len(query)) + query)
        by_tcp = await reader.readexactly(struct.unpack(">H", await reader.readexactly(2))[0])
        writer.close()
        client.transport.close()
        await server.close()
        return [str(DNSRecord.parse(answer).rr[0].rdata) for answer in (by_udp, by_tcp)]

    assert run(scenario()) == ["10.2.0.5", "10.2.0.5"]
