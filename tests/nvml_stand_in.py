"""A stand-in for the module pynvml: the functions that Atoll calls, over GPUs that are described, not there.

It answers as NVIDIA's bindings do (types, units, errors as exceptions named after their code), so that the code that
calls them can be run where there is no GPU. What it can't show is that a driver answers so: that is the hardware run.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any


class NVMLError(Exception):
    """Base of NVML's errors."""


class NVMLError_Timeout(NVMLError):
    pass


class NVMLError_GpuIsLost(NVMLError):
    pass


class NVMLError_NotSupported(NVMLError):
    pass


@dataclass
class Board:
    uuid: str
    minor: int
    name: str = "NVIDIA H200"
    memory: int = 143771 << 20
    compute: tuple[int, int] = (9, 0)
    lost: bool = False
    ecc: int | None = 0  # None: the board has no ECC


@dataclass
class StandIn:
    """The module. `raise_xid(board, number)` lets an event happen."""

    boards: list[Board]
    pending: list[tuple[Board, int]] = field(default_factory=list)
    shut: bool = False

    NVMLError = NVMLError
    NVML_TEMPERATURE_GPU = 0
    NVML_CLOCK_SM = 1
    NVML_CLOCK_MEM = 2
    NVML_MEMORY_ERROR_TYPE_UNCORRECTED = 1
    NVML_VOLATILE_ECC = 0
    nvmlEventTypeXidCriticalError = 8

    def raise_xid(self, board: Board, number: int) -> None:
        self.pending.append((board, number))

    def nvmlShutdown(self) -> None:
        self.shut = True

    def nvmlDeviceGetCount(self) -> int:
        return len(self.boards)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Board:
        return self.boards[index]

    def nvmlDeviceGetUUID(self, board: Board) -> str:
        return board.uuid

    def nvmlDeviceGetName(self, board: Board) -> bytes:
        return board.name.encode()

    def nvmlDeviceGetMinorNumber(self, board: Board) -> int:
        return board.minor

    def nvmlDeviceGetCudaComputeCapability(self, board: Board) -> tuple[int, int]:
        return board.compute

    def nvmlDeviceGetMemoryInfo(self, board: Board) -> Any:
        self._reach(board)
        return SimpleNamespace(total=board.memory, used=600 << 20, free=board.memory - (600 << 20))

    def nvmlDeviceGetUtilizationRates(self, board: Board) -> Any:
        self._reach(board)
        return SimpleNamespace(gpu=37, memory=12)

    def nvmlDeviceGetTemperature(self, board: Board, sensor: int) -> int:
        self._reach(board)
        return 41

    def nvmlDeviceGetPowerUsage(self, board: Board) -> int:
        self._reach(board)
        return 75_500

    def nvmlDeviceGetTotalEnergyConsumption(self, board: Board) -> int:
        self._reach(board)
        return 1_234_567

    def nvmlDeviceGetPcieReplayCounter(self, board: Board) -> int:
        self._reach(board)
        return 2

    def nvmlDeviceGetClockInfo(self, board: Board, kind: int) -> int:
        self._reach(board)
        return {self.NVML_CLOCK_SM: 1980, self.NVML_CLOCK_MEM: 3201}[kind]

    def nvmlDeviceGetTotalEccErrors(self, board: Board, kind: int, counter: int) -> int:
        self._reach(board)
        if board.ecc is None:
            raise NVMLError_NotSupported
        return board.ecc

    def nvmlEventSetCreate(self) -> object:
        return object()

    def nvmlDeviceRegisterEvents(self, board: Board, kinds: int, events: object) -> None:
        assert kinds == self.nvmlEventTypeXidCriticalError

    def nvmlEventSetWait_v2(self, events: object, timeout: int) -> Any:
        assert timeout == 0, "a node does not wait for events"
        if not self.pending:
            raise NVMLError_Timeout
        board, number = self.pending.pop(0)
        return SimpleNamespace(device=board, eventType=8, eventData=number)

    def _reach(self, board: Board) -> None:
        if board.lost:
            raise NVMLError_GpuIsLost
