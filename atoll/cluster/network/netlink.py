"""As much of rtnetlink as a pod network needs: links, addresses, routes.

Written by hand rather than with a library because it runs inside the cluster's process at each pod start: no
import cost, no threads or forks of its own, microseconds a call. A socket belongs to the network namespace that
was current when it was made (`atoll.cluster.network.namespaces` makes them elsewhere).
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import struct
from collections.abc import Iterator

_NEWLINK, _DELLINK, _GETLINK, _NEWADDR, _NEWROUTE, _GETROUTE = 16, 17, 18, 20, 24, 26
_REQUEST, _ACK, _EXCL, _CREATE, _DUMP = 0x1, 0x4, 0x200, 0x400, 0x300
_ERROR, _DONE = 2, 3
_IFLA_IFNAME, _IFLA_MASTER, _IFLA_LINKINFO, _IFLA_ALIAS, _IFLA_NETNS_FD = 3, 10, 18, 20, 28
_INFO_KIND, _INFO_DATA, _VETH_PEER = 1, 2, 1
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_RTA_DST, _RTA_OIF, _RTA_GATEWAY = 1, 4, 5
_TABLE_MAIN, _PROTOCOL_STATIC = 254, 4
_SCOPE_UNIVERSE, _SCOPE_HOST = 0, 254
_UP = 1
ROUTE_UNICAST, ROUTE_LOCAL = 1, 2


def _attribute(kind: int, payload: bytes) -> bytes:
    length = 4 + len(payload)
    return struct.pack("=HH", length, kind) + payload + b"\0" * (-length % 4)


def _text(kind: int, value: str) -> bytes:
    return _attribute(kind, value.encode() + b"\0")


def _number(kind: int, value: int) -> bytes:
    return _attribute(kind, struct.pack("=I", value))


def _link_header(index: int = 0, flags: int = 0, change: int = 0) -> bytes:
    return struct.pack("=BxHiII", socket.AF_UNSPEC, 0, index, flags, change)


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    offset = 0
    while offset + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, offset)
        if length < 4:
            return
        yield kind & 0x3FFF, data[offset + 4 : offset + length]
        offset += (length + 3) & ~3


def networks_in_use() -> list[ipaddress.IPv4Network]:
    """What this machine routes already; nothing where that can't be asked."""
    if not hasattr(socket, "AF_NETLINK"):
        return []
    with Netlink() as netlink:
        return netlink.networks()


class Netlink:
    """One rtnetlink socket. Methods raise OSError with the kernel's errno; those named ensure_* accept EEXIST."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self._socket.bind((0, 0))
        self._sequence = 0

    def __enter__(self) -> Netlink:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def ports(self, bridge: int) -> list[str]:
        """Names of the links on a bridge."""
        found = []
        for payload in self._request(_GETLINK, _DUMP, _link_header()):
            fields = dict(_attributes(payload[16:]))
            if fields.get(_IFLA_MASTER) == struct.pack("=I", bridge):
                found.append(fields.get(_IFLA_IFNAME, b"").rstrip(b"\0").decode())
        return found

    def index(self, name: str) -> int | None:
        """The index of a link, or None."""
        try:
            return socket.if_nametoindex(name)
        except OSError:
            return None

    def add_bridge(self, name: str, alias: str = "") -> int:
        info = _attribute(_IFLA_LINKINFO, _text(_INFO_KIND, "bridge"))
        body = _link_header() + _text(_IFLA_IFNAME, name) + info
        self._request(_NEWLINK, _ACK | _CREATE | _EXCL, body)
        index = socket.if_nametoindex(name)
        if alias:
            self._request(_NEWLINK, _ACK, _link_header(index) + _text(_IFLA_ALIAS, alias))
        return index

    def add_veth(self, name: str, master: int, peer: str, namespace_fd: int) -> None:
        """A pair: `name` here on the bridge `master` and up, `peer` in the other namespace."""
        other = _link_header() + _text(_IFLA_IFNAME, peer) + _number(_IFLA_NETNS_FD, namespace_fd)
        data = _attribute(_INFO_DATA, _attribute(_VETH_PEER, other))
        info = _attribute(_IFLA_LINKINFO, _text(_INFO_KIND, "veth") + data)
        body = _link_header(0, _UP, _UP) + _text(_IFLA_IFNAME, name) + _number(_IFLA_MASTER, master) + info
        self._request(_NEWLINK, _ACK | _CREATE | _EXCL, body)

    def delete_link(self, index: int) -> None:
        self._request(_DELLINK, _ACK, _link_header(index))

    def set_up(self, index: int) -> None:
        self._request(_NEWLINK, _ACK, _link_header(index, _UP, _UP))

    def ensure_address(self, index: int, address: str, prefix_length: int) -> None:
        packed = ipaddress.ip_address(address).packed
        family = socket.AF_INET if len(packed) == 4 else socket.AF_INET6
        body = struct.pack("=BBBBI", family, prefix_length, 0, _SCOPE_UNIVERSE, index)
        body += _attribute(_IFA_LOCAL, packed) + _attribute(_IFA_ADDRESS, packed)
        self._ensure(_NEWADDR, body)

    def add_route(self, destination: str, *, index: int, gateway: str | None = None, kind: int = ROUTE_UNICAST) -> None:
        """A route in the main table. A local one makes every address in it this machine's own.

        EEXIST if there is one to the same destination.
        """
        network = ipaddress.ip_network(destination)
        scope = _SCOPE_HOST if kind == ROUTE_LOCAL else _SCOPE_UNIVERSE
        header = struct.pack(
            "=BBBBBBBBI", socket.AF_INET, network.prefixlen, 0, 0, _TABLE_MAIN, _PROTOCOL_STATIC, scope, kind, 0
        )
        body = header + _number(_RTA_OIF, index)
        if network.prefixlen:
            body += _attribute(_RTA_DST, network.network_address.packed)
        if gateway:
            body += _attribute(_RTA_GATEWAY, ipaddress.ip_address(gateway).packed)
        self._request(_NEWROUTE, _ACK | _CREATE | _EXCL, body)

    def networks(self) -> list[ipaddress.IPv4Network]:
        """Destinations of the main table's IPv4 routes, the default route left out."""
        found = []
        header = struct.pack("=BBBBBBBBI", socket.AF_INET, 0, 0, 0, _TABLE_MAIN, 0, 0, 0, 0)
        for payload in self._request(_GETROUTE, _DUMP, header):
            length, table = payload[1], payload[4]
            destination = dict(_attributes(payload[12:])).get(_RTA_DST)
            if table == _TABLE_MAIN and length and destination:
                found.append(ipaddress.IPv4Network((destination, length)))
        return found

    def _ensure(self, kind: int, body: bytes) -> None:
        try:
            self._request(kind, _ACK | _CREATE | _EXCL, body)
        except OSError as error:
            if error.errno != errno.EEXIST:
                raise

    def _request(self, kind: int, flags: int, body: bytes) -> list[bytes]:
        self._sequence += 1
        header = struct.pack("=IHHII", 16 + len(body), kind, flags | _REQUEST, self._sequence, 0)
        self._socket.send(header + body)
        answers: list[bytes] = []
        while True:
            data = self._socket.recv(1 << 18)
            offset = 0
            while offset + 16 <= len(data):
                length, got, _, sequence, _ = struct.unpack_from("=IHHII", data, offset)
                payload = data[offset + 16 : offset + length]
                offset += (length + 3) & ~3
                if sequence != self._sequence:
                    continue
                if got == _DONE:
                    return answers
                if got == _ERROR:
                    code = -struct.unpack_from("=i", payload)[0]
                    if code:
                        raise OSError(code, os.strerror(code))
                    return answers
                answers.append(payload)
