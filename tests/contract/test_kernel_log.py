"""The kernel log port's contract: the device's records on a stand-in, a journalctl of a few lines, both as one; and
this machine's own log where it can be read."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from atoll.base.clock import SystemClock
from atoll.cluster.nodes.kernel.journal import Journal
from atoll.cluster.nodes.kernel.kmsg import DEVICE, Kmsg, open_device
from atoll.cluster.nodes.kernel.port import FirstLog, KernelLog, UnreadableLog
from atoll.testing.contracts.kernel_log import KernelLogContract, Machine, take


class Device:
    """/dev/kmsg as its readers see it: each has all records that are kept, one for each read, then the new ones."""

    def __init__(self, boot: str = "boot-1") -> None:
        self.kept: list[bytes] = []
        self._readers: list[socket.socket] = []
        self.log: KernelLog = Kmsg(SystemClock(), boot, self.opened)

    def opened(self) -> int:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        theirs.setblocking(False)
        self._readers.append(ours)
        for record in self.kept:
            ours.send(record)
        return theirs.detach()

    def write(self, text: str, facility: int = 0) -> None:
        micros = int(time.monotonic() * 1e6)
        escaped = "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text)
        record = f"{facility * 8 + 6},{len(self.kept)},{micros},-;{escaped}\n SUBSYSTEM=pci\n".encode()
        self.kept.append(record)
        for reader in self._readers:
            with suppress(OSError):  # it has left
                reader.send(record)

    def pretend(self, text: str) -> None:
        self.write(text, facility=1)


JOURNALCTL = """
import sys, time
path = sys.argv[1]
after = next((a.split("=", 1)[1] for a in sys.argv if a.startswith("--after-cursor=")), "")
with open(path) as file:
    skipping = bool(after)
    while True:
        line = file.readline()
        if not line:
            time.sleep(0.02)
        elif skipping:
            skipping = f'"__CURSOR": "{after}"' not in line
        else:
            print(line, end="", flush=True)
"""


class WithJournal:
    """A journal in a file, and a program that follows it as journalctl does."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "journal"
        self._file.touch()
        self._count = 0
        (folder / "journalctl.py").write_text(JOURNALCTL)
        self.log: KernelLog = Journal([sys.executable, str(folder / "journalctl.py"), str(self._file)])

    def write(self, text: str, transport: str = "kernel", facility: str = "0") -> None:
        self._count += 1
        entry = {
            "__CURSOR": f"s=1;i={self._count}", "__REALTIME_TIMESTAMP": str(int(time.time() * 1e6)),
            "_TRANSPORT": transport, "SYSLOG_FACILITY": facility, "MESSAGE": text,
        }  # fmt: skip
        with self._file.open("a") as file:
            file.write(json.dumps(entry) + "\n")

    def pretend(self, text: str) -> None:
        self.write(text, facility="1")


class Closed:
    """A device that may not be opened."""

    @staticmethod
    def opened() -> int:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))


class TestKmsg(KernelLogContract):
    def machine(self, folder: Path) -> Machine:
        return Device()


class TestJournal(KernelLogContract):
    def machine(self, folder: Path) -> Machine:
        return WithJournal(folder)


class TestJournalWhereTheDeviceIsClosed(KernelLogContract):
    def machine(self, folder: Path) -> Machine:
        found = WithJournal(folder)
        found.log = FirstLog(Kmsg(SystemClock(), "b", Closed.opened), found.log)
        return found


def test_where_nothing_can_be_read_the_reasons_are_told() -> None:
    log = FirstLog(Kmsg(SystemClock(), "b", Closed.opened), Journal(["/nowhere/journalctl"]))
    with pytest.raises(UnreadableLog) as told:
        asyncio.run(take(log, 1))
    assert told.value.message == (
        "/dev/kmsg can't be opened: Operation not permitted; "
        "/nowhere/journalctl can't be started: No such file or directory"
    )
    with pytest.raises(UnreadableLog, match="has ended: no journal here"):
        asyncio.run(take(Journal(["sh", "-c", "echo no journal here >&2; exit 1"]), 1))


def test_a_position_of_another_boot_begins_with_the_oldest_line() -> None:
    device = Device("boot-2")
    device.write("one")
    found = asyncio.run(take(device.log, 1, after="boot-1/7"))
    assert found[0].position == "boot-2/0"


def test_records_of_every_kind() -> None:
    device = Device()
    device.kept = [b"", b"nonsense", b"6,1,1,-", b"6,1,notime,-;x", b"30,2,5,-;a daemon's", b"4,3,5,c;tab\\x09\\xff\n"]
    device.kept.remove(b"")  # a read of nothing is the end, which the device has not
    device.write("last\x1b[0m")
    found = asyncio.run(take(device.log, 2))
    assert [line.text for line in found] == ["tab\t\ufffd", "last\x1b[0m"]


def test_this_machines_own_log() -> None:
    try:
        os.close(open_device())
    except OSError as error:
        pytest.skip(f"{DEVICE}: {error.strerror}")
    log = Kmsg(SystemClock(), "b")
    found = asyncio.run(take(log, 2))
    numbers = [int(line.position.removeprefix("b/")) for line in found]
    assert numbers[0] < numbers[1] and all(line.at <= time.time() for line in found)
    (following,) = asyncio.run(take(log, 1, after=found[0].position))
    assert following == found[1] or abs(following.at - found[1].at) < 5
