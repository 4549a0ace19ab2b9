"""A `Sink` of HTTP/2's frames that writes down what it is called with."""

from __future__ import annotations

from typing import Any

from atoll.wire.http2.frames import StreamFault


class Recorder:
    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def on_headers(self, stream: int, block: bytes, ended: bool) -> None:
        self.calls.append(("headers", stream, block, ended))

    def on_data(self, stream: int, data: bytes, size: int, ended: bool) -> None:
        self.calls.append(("data", stream, data, size, ended))

    def on_reset(self, stream: int) -> None:
        self.calls.append(("reset", stream))

    def on_settings(self, settings: list[tuple[int, int]]) -> None:
        self.calls.append(("settings", settings))

    def on_ping(self, data: bytes) -> None:
        self.calls.append(("ping", data))

    def on_goaway(self) -> None:
        self.calls.append(("goaway",))

    def on_window_update(self, stream: int, increment: int) -> None:
        self.calls.append(("window", stream, increment))

    def on_idle_frame(self) -> None:
        self.calls.append(("idle",))

    def on_stream_fault(self, fault: StreamFault) -> None:
        self.calls.append(("fault", fault.stream, fault.code))
