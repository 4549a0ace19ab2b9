"""The audit log of a cluster: its policy, read once at the start, and the file that events are appended to."""

from __future__ import annotations

import asyncio
import datetime
import logging
import os
import re
from contextlib import AsyncExitStack
from pathlib import Path

import yaml

from atoll.app.assembly import Assembly
from atoll.app.fleetspec import AuditSpec
from atoll.base.clock import Clock
from atoll.base.errors import AtollError, UserError
from atoll.cluster.apiserver.audit.auditor import Auditor
from atoll.cluster.apiserver.audit.policy import BadPolicy, Policy, read_policy
from atoll.cluster.apiserver.ports import Attributes, MustWait, User
from atoll.wire.messages import HttpRequest

log = logging.getLogger("atoll.audit")
_MEGABYTE = 1024 * 1024
_DAY_SECONDS = 86400.0


def audit_policy(path: Path) -> Policy:
    """Raises UserError."""
    try:
        text = path.read_text()
    except OSError as error:
        raise UserError(f"the audit policy {path} can't be read: {error.strerror}") from None
    try:
        return read_policy(yaml.safe_load(text))
    except (yaml.YAMLError, BadPolicy) as error:
        raise UserError(f"the audit policy {path}: {error}") from None


def open_audit_log(stack: AsyncExitStack, assembly: Assembly, spec: AuditSpec, folder: Path) -> Auditor:
    """Until the stack is closed. Raises UserError. `folder`: where the log lies if the spec does not say."""
    policy = audit_policy(Path(spec.policy_file))
    path = Path(spec.log_file) if spec.log_file else folder / "audit.log"
    sink = RotatingFile(path, assembly.clock, spec.max_size_mb * _MEGABYTE, spec.max_backups, spec.max_age_days)
    stack.callback(sink.close)
    registry = assembly.api.registry

    def authenticate(request: HttpRequest, user: User) -> User:
        try:
            return assembly.authenticator.authenticate(request)
        except (MustWait, AtollError):  # it was authenticated a moment ago; who cannot be told again is told as it is
            return user

    def kind_of(asked: Attributes) -> tuple[str, str]:
        served = registry.find(asked.group, asked.version, asked.resource)
        if served is None or asked.subresource not in ("", "status"):
            return "", ""
        return served.resource.api_version, served.resource.kind

    return Auditor(
        policy, sink, assembly.clock, assembly.chance.stream("audit"), assembly.metrics, authenticate, kind_of
    )


class RotatingFile:
    """Lines appended to a file that only its owner reads. What one turn of the loop brings is one write.

    Beyond `most_bytes` the file is set aside as NAME-TIME.EXT; of those, `backups` are kept (0: all), none older than
    `age_days` (0: any age).
    """

    def __init__(self, path: Path, clock: Clock, most_bytes: int, backups: int, age_days: int) -> None:
        self._path = path
        self._clock = clock
        self._most_bytes = most_bytes
        self._backups = backups
        self._age_days = age_days
        self._lines: list[bytes] = []
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._open()
        except OSError as error:
            raise UserError(f"the audit log {path} can't be written: {error.strerror}") from None

    def write(self, line: bytes) -> None:
        self._lines.append(line)
        if len(self._lines) == 1:
            asyncio.get_running_loop().call_soon(self.flush)

    def flush(self) -> None:
        """Write what is gathered."""
        data = b"".join(self._lines)
        self._lines.clear()
        if not data:
            return
        if self._size and self._size + len(data) > self._most_bytes > 0:
            self._rotate()
        self._size += len(data)
        try:
            while data:
                data = data[os.write(self._file, data) :]
        except OSError as error:  # as upstream's: requests go on, what is lost is told
            log.error("audit events were lost: %s", error)

    def close(self) -> None:
        self.flush()
        os.close(self._file)

    def _open(self) -> int:
        file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._size = os.fstat(file).st_size
        return file

    def _rotate(self) -> None:
        os.close(self._file)
        moment = datetime.datetime.fromtimestamp(self._clock.wall(), datetime.UTC)
        stamp = f"{moment:%Y-%m-%dT%H-%M-%S}.{moment.microsecond // 1000:03d}"
        self._path.replace(self._path.with_name(f"{self._path.stem}-{stamp}{self._path.suffix}"))
        self._file = self._open()
        self._remove_old()

    def _remove_old(self) -> None:
        pattern = re.compile(
            re.escape(self._path.stem) + r"-(\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d\.\d{3})" + re.escape(self._path.suffix)
        )
        aside = sorted(
            (match[1], path) for path in self._path.parent.iterdir() if (match := pattern.fullmatch(path.name))
        )
        old = aside[: len(aside) - self._backups] if 0 < self._backups < len(aside) else []
        if self._age_days:
            earliest = self._clock.wall() - self._age_days * _DAY_SECONDS
            limit = f"{datetime.datetime.fromtimestamp(earliest, datetime.UTC):%Y-%m-%dT%H-%M-%S}"
            old += [item for item in aside if item[0] < limit and item not in old]
        for _, path in old:
            path.unlink(missing_ok=True)
