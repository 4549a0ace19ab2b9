"""numpy and the array types of this package, loaded when first used.

Loading numpy takes 0.1 s and 11 MB. A hub, a cluster that only serves its API, and one whose pods all have a single
node to go to never need it.
"""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

__all__ = ["Bools", "Floats", "Ids", "Ints", "NDArray", "Rows", "grown", "load", "np"]

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]
    Ids = NDArray[np.int32]
    Rows = NDArray[np.intp]
    Bools = NDArray[np.bool_]
    Floats = NDArray[np.float64]
else:

    def _lazy(name: str) -> ModuleType:
        if name in sys.modules:
            return sys.modules[name]
        spec = importlib.util.find_spec(name)
        spec.loader = importlib.util.LazyLoader(spec.loader)
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        return module

    np = _lazy("numpy")
    NDArray = Ints = Ids = Rows = Bools = Floats = Any


def load() -> None:
    """Now rather than when first used."""
    np.zeros(0)


def grown(array: NDArray[Any], rows: int, fill: Any) -> NDArray[Any]:
    """The array with its last axis made longer."""
    new = np.full((*array.shape[:-1], rows), fill, array.dtype)
    new[..., : array.shape[-1]] = array
    return new
