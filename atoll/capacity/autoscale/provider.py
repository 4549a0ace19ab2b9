"""The port by which machines come and go.

Names are given by the caller and a machine's name is its node's, so each call may be repeated: after an answer that was
lost, `machines` says what happened.
"""

from __future__ import annotations

from typing import Protocol

from atoll.base.errors import AtollError
from atoll.capacity.autoscale.model import Machine
from atoll.capacity.autoscale.settings import Pool


class OutOfStock(AtollError):
    """The provider has no such machine now; another pool, or later."""


class Provider(Protocol):
    """A cloud's machines, or those of a data centre."""

    async def machines(self) -> list[Machine]:
        """All that there are, those that boot still included. Raises AtollError: then nothing is known."""

    async def create(self, pool: Pool, name: str, replaces: str = "") -> None:
        """Order a machine; its node joins by itself. One of that name that is there already is left as it is.

        Raises OutOfStock, AtollError.
        """

    async def delete(self, name: str) -> None:
        """Give a machine back; its Node goes with it. One that is not there is no error. Raises AtollError."""
