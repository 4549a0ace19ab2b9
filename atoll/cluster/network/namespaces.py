"""Network namespaces without names: held by a file descriptor, gone with the process that holds it.

A pod's namespace has no entry in the file system, so that a killed cluster leaves none behind: when the last
process in it and the descriptor are gone the kernel takes it away, and its veth pair with it. Entering is per
thread and only ever done between two awaits; sockets and child processes made inside stay inside.
"""

from __future__ import annotations

import ctypes
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from atoll.cluster.network.netlink import Netlink

_CLONE_NEWNET = 0x40000000
_CURRENT = "/proc/thread-self/ns/net"
_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")


class NetworkNamespace:
    """A namespace of its own with loopback up. Raises OSError (EPERM without root)."""

    def __init__(self) -> None:
        before = os.open(_CURRENT, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _check(_libc.unshare(_CLONE_NEWNET), "unshare network namespace")
            try:
                self.fd = os.open(_CURRENT, os.O_RDONLY | os.O_CLOEXEC)
                with Netlink() as netlink:
                    netlink.set_up(socket.if_nametoindex("lo"))
                # as container runtimes do: a container's user need not be root to serve on port 80
                Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").write_text("0")
            finally:
                _check(_libc.setns(before, _CLONE_NEWNET), "return to the host's network namespace")
        finally:
            os.close(before)

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Within, this thread is in the namespace. Never await inside."""
        before = os.open(_CURRENT, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _check(_libc.setns(self.fd, _CLONE_NEWNET), "enter network namespace")
            try:
                yield
            finally:
                _check(_libc.setns(before, _CLONE_NEWNET), "return to the host's network namespace")
        finally:
            os.close(before)

    def connect_veth(self, bridge: int, name: str, address: str, prefix_length: int, gateway: str) -> None:
        """eth0 inside with `address`, `name` outside on the bridge, default route by `gateway`."""
        with Netlink() as netlink:
            netlink.add_veth(name, bridge, "eth0", self.fd)
        with self.entered(), Netlink() as netlink:
            index = socket.if_nametoindex("eth0")
            netlink.ensure_address(index, address, prefix_length)
            netlink.set_up(index)
            netlink.add_route("0.0.0.0/0", index=index, gateway=gateway)

    def socket(self, family: int = socket.AF_INET, kind: int = socket.SOCK_STREAM) -> socket.socket:
        """A non-blocking socket that lives in the namespace."""
        with self.entered():
            made = socket.socket(family, kind)
        made.setblocking(False)
        return made

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
