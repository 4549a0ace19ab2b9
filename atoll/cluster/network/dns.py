"""The cluster's name server: answers from a Zone, over UDP and TCP."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import struct
from contextlib import suppress
from typing import cast

from dnslib import CNAME, PTR, QTYPE, RCODE, RR, SRV, TXT, A, DNSError, DNSHeader, DNSQuestion, DNSRecord

from atoll.base.chance import Chance
from atoll.cluster.network.records import TTL_SECONDS, Names, Zone

log = logging.getLogger(__name__)
_MOST_UDP_BYTES = 512
_REVERSE = ".in-addr.arpa"
_ARPA = (".in-addr.arpa", ".ip6.arpa")
_IDLE_SECONDS = 10.0


class DnsServer:
    """`zone` is replaced whole when services change. Raises OSError from `open` where the address is taken."""

    def __init__(self, zone: Zone, chance: Chance) -> None:
        self.zone = zone
        self._chance = chance.stream("dns")
        self._udp: asyncio.DatagramTransport | None = None
        self._tcp: asyncio.Server | None = None

    async def open(self, address: str, port: int = 53) -> None:
        loop = asyncio.get_running_loop()
        self._udp, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(self), local_addr=(address, port))
        self._tcp = await asyncio.start_server(self._serve, address, port, reuse_address=True)

    async def close(self) -> None:
        if self._udp is not None:
            self._udp.close()
        if self._tcp is not None:
            self._tcp.close()

    def answer(self, query: bytes, *, most_bytes: int = 65535) -> bytes | None:
        """The answer to a query; None where it can't even be refused."""
        try:
            request = DNSRecord.parse(query)
        except (DNSError, struct.error, IndexError, ValueError):
            return self._malformed(query)
        reply = request.reply(aa=1, ra=0)
        if request.header.get_opcode() != 0 or len(request.questions) != 1:
            reply.header.rcode = RCODE.NOTIMP
            return bytes(reply.pack())
        self._fill(reply, request.q)
        for record in request.ar:
            if record.rtype == QTYPE.OPT:
                most_bytes = max(most_bytes if most_bytes < 65535 else 0, record.edns_len) or most_bytes
        packed = bytes(reply.pack())
        if len(packed) > most_bytes:
            packed = bytes(reply.truncate().pack())
        return packed

    def _malformed(self, query: bytes) -> bytes | None:
        if len(query) < 12:
            return None
        header = DNSHeader(id=struct.unpack(">H", query[:2])[0], qr=1, rcode=RCODE.FORMERR)
        return bytes(DNSRecord(header).pack())

    def _fill(self, reply: DNSRecord, question: DNSQuestion) -> None:
        name = str(question.qname).rstrip(".").lower()
        kind = QTYPE[question.qtype]
        if name.endswith(_ARPA):
            self._pointer(reply, question, name)
            return
        if not self.zone.within(name):
            # nothing is asked of upstream servers: a name outside the cluster does not exist here
            reply.header.rcode = RCODE.NXDOMAIN
            return
        found = self.zone.look_up(name)
        if found is None:
            reply.header.rcode = RCODE.NXDOMAIN
            return
        if name == f"dns-version.{self.zone.domain}" and kind in ("TXT", "ANY"):
            reply.add_answer(RR(question.qname, QTYPE.TXT, rdata=TXT("1.1.0"), ttl=TTL_SECONDS))
            return
        self._records(reply, question, kind, found)

    def _records(self, reply: DNSRecord, question: DNSQuestion, kind: str, found: Names) -> None:
        name = question.qname
        if found.cname:
            reply.add_answer(RR(name, QTYPE.CNAME, rdata=CNAME(found.cname), ttl=TTL_SECONDS))
            target = self.zone.look_up(found.cname.lower()) if self.zone.within(found.cname.lower()) else None
            if target is not None and kind == "A":
                for address in target.a:
                    reply.add_answer(RR(found.cname, QTYPE.A, rdata=A(address), ttl=TTL_SECONDS))
            return
        if kind in ("A", "ANY"):
            addresses = list(found.a)
            self._chance.shuffle(addresses)
            for address in addresses:
                reply.add_answer(RR(name, QTYPE.A, rdata=A(address), ttl=TTL_SECONDS))
        if kind in ("SRV", "ANY"):
            weight = 100 // len(found.srv) if found.srv else 0
            for record in found.srv:
                rdata = SRV(0, weight, record.port, record.target)
                reply.add_answer(RR(name, QTYPE.SRV, rdata=rdata, ttl=TTL_SECONDS))
                target = self.zone.look_up(record.target)
                for address in target.a if target is not None else ():
                    reply.add_ar(RR(record.target, QTYPE.A, rdata=A(address), ttl=TTL_SECONDS))

    def _pointer(self, reply: DNSRecord, question: DNSQuestion, name: str) -> None:
        found = ""
        with suppress(ValueError):
            labels = name.removesuffix(_REVERSE).split(".")
            found = self.zone.pointers.get(str(ipaddress.ip_address(".".join(reversed(labels)))), "")
        if not found:
            reply.header.rcode = RCODE.NXDOMAIN
        elif QTYPE[question.qtype] in ("PTR", "ANY"):
            reply.add_answer(RR(question.qname, QTYPE.PTR, rdata=PTR(found), ttl=TTL_SECONDS))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                async with asyncio.timeout(_IDLE_SECONDS):
                    size = struct.unpack(">H", await reader.readexactly(2))[0]
                    query = await reader.readexactly(size)
                answer = self.answer(query)
                if answer is None:
                    return
                writer.write(struct.pack(">H", len(answer)) + answer)
                await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            return
        finally:
            writer.close()


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, server: DnsServer) -> None:
        self._server = server
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)  # event loops\' own are not all subclasses

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        answer = self._server.answer(data, most_bytes=_MOST_UDP_BYTES)
        if answer is not None and self._transport is not None:
            self._transport.sendto(answer, addr)
