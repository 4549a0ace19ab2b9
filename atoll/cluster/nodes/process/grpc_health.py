"""The gRPC health check (grpc.health.v1.Health/Check) as a probe: as much HTTP/2 as one unary call needs.

Header fields are sent as literals without compression, and the answer is judged by its message alone, so that no HPACK
state is needed.
"""

from __future__ import annotations

import asyncio
import struct
from contextlib import suppress

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GOAWAY = 0x0, 0x1, 0x3, 0x4, 0x6, 0x7
_END_STREAM, _END_HEADERS, _ACK = 0x1, 0x4, 0x1
_SERVING = 1


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + payload


def _literal(name: str, value: str) -> bytes:
    out = b"\x00"
    for text in (name.encode(), value.encode()):
        out += bytes((len(text),)) + text
    return out


def _request(host: str, service: str) -> bytes:
    fields = {
        ":method": "POST", ":scheme": "http", ":path": "/grpc.health.v1.Health/Check", ":authority": host[:120],
        "content-type": "application/grpc", "te": "trailers", "user-agent": "kube-probe/1.36",
    }  # fmt: skip
    head = b"".join(_literal(name, value) for name, value in fields.items())
    name = service.encode()[:127]
    message = b"\x0a" + bytes((len(name),)) + name if name else b""
    body = b"\0" + struct.pack(">I", len(message)) + message
    return (
        _PREFACE
        + _frame(_SETTINGS, 0, 0, b"")
        + _frame(_HEADERS, _END_HEADERS, 1, head)
        + _frame(_DATA, _END_STREAM, 1, body)
    )


async def grpc_health(host: str, port: int, service: str, timeout: float) -> tuple[bool, str]:
    """(serving, message)."""
    try:
        async with asyncio.timeout(timeout):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(_request(f"{host}:{port}", service))
                status = await _answer(reader, writer)
            finally:
                writer.close()
    except TimeoutError:
        return False, f'timeout: failed to connect service "{host}:{port}" within {timeout:g}s'
    except (OSError, asyncio.IncompleteReadError):
        return False, f'error: failed to connect service "{host}:{port}"'
    if status is None:
        return False, "error: this server does not implement the grpc health protocol (grpc.health.v1.Health)"
    if status == _SERVING:
        return True, ""
    names = {0: "UNKNOWN", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}
    return False, f'service unhealthy (responded with "{names.get(status, status)}")'


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int | None:
    body = b""
    while True:
        head = await reader.readexactly(9)
        length, kind, flags = int.from_bytes(head[:3], "big"), head[3], head[4]
        payload = await reader.readexactly(length)
        if kind == _SETTINGS and not flags & _ACK:
            writer.write(_frame(_SETTINGS, _ACK, 0, b""))
        elif kind == _PING and not flags & _ACK:
            writer.write(_frame(_PING, _ACK, 0, payload))
        elif kind == _DATA:
            body += payload
        if kind in (_RESET, _GOAWAY) or (kind in (_DATA, _HEADERS) and flags & _END_STREAM):
            return _status(body)


def _status(body: bytes) -> int | None:
    if len(body) < 5:
        return None
    message = body[5:]
    with suppress(IndexError):
        return message[1] if message and message[0] == 0x08 else 0
    return None
