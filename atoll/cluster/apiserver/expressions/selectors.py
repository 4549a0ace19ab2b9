"""The scheduler's CEL: `scheduling.dra.model.Selectors` by `devices.py`, which the first expression loads.

A device is turned into values once.
"""

from __future__ import annotations

import functools
from types import ModuleType

from atoll.cluster.apiserver.expressions.errors import CompileError, EvaluationError
from atoll.scheduling.dra.model import Device, SelectorError


class CelSelectors:
    def matches(self, expression: str, device: Device) -> bool:
        """Raises SelectorError."""
        cel = _cel()
        try:
            selector = cel.compile_selector(expression)
        except CompileError as error:
            raise SelectorError(str(error), compiling=True) from None
        try:
            if device.view is None:
                device.view = cel.view(device.id[0], device.source)
            return bool(selector.matches(device.view))
        except EvaluationError as error:
            raise SelectorError(str(error)) from None


@functools.cache
def _cel() -> ModuleType:
    from atoll.cluster.apiserver.expressions import devices

    return devices
