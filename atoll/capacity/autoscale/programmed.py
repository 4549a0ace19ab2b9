"""The provider that is a program of the user's (docs/machines.md): anybody's machines, by anybody's script."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated

from msgspec import Meta, Struct

from atoll.base.clock import parse_rfc3339
from atoll.base.errors import NotFound
from atoll.capacity import names
from atoll.capacity.autoscale.model import Machine
from atoll.capacity.autoscale.provider import OutOfStock
from atoll.capacity.autoscale.settings import Pool
from atoll.capacity.program import MachineProgram, ProgramFailed
from atoll.client.port import Client, DeleteOptions
from atoll.kinds.builtin import NODES
from atoll.objects.meta import labels

Name = Annotated[str, Meta(pattern=r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$")]


class Listed(Struct, frozen=True, forbid_unknown_fields=True):
    """A machine, as the program lists it."""

    name: Name
    pool: Name
    created: str
    replaces: str = ""


class Listing(Struct, frozen=True, forbid_unknown_fields=True):
    machines: tuple[Listed, ...]


class Created(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    out_of_stock: bool = False
    message: str = ""


class Done(Struct, frozen=True, forbid_unknown_fields=True):
    pass


class ProgramProvider:
    """Implements `Provider`. A machine's Node goes when the program says that the machine is gone."""

    def __init__(self, program: MachineProgram, client: Client) -> None:
        self._program = program
        self._client = client

    async def machines(self) -> list[Machine]:
        """Raises ProgramFailed."""
        found = (await self._program.ask("list", Listing)).machines
        known: dict[str, Machine] = {}
        for item in found:
            if item.name in known:
                raise ProgramFailed(f"list: the machine {item.name!r} is named twice")
            try:
                created = parse_rfc3339(item.created)
            except ValueError:
                raise ProgramFailed(f"list: {item.name}: created is no RFC 3339 time: {item.created!r}") from None
            known[item.name] = Machine(item.name, item.pool, created, item.replaces)
        return list(known.values())

    async def create(self, pool: Pool, name: str, replaces: str = "") -> None:
        """Raises OutOfStock, ProgramFailed."""
        answer = await self._program.ask(
            "create", Created, name=name, pool=pool.name, replaces=replaces,
            labels={**pool.labels, names.MACHINE: name}, taints=[dict(taint) for taint in pool.node.taints],
            capacity=pool.node.capacity,
        )  # fmt: skip
        if answer.out_of_stock:
            raise OutOfStock(f"pool {pool.name}: {answer.message or 'no machine is to be had now'}")

    async def delete(self, name: str) -> None:
        """Raises ProgramFailed, and what the API says: then the Node is there still, and this is called again."""
        await self._program.ask("delete", Done, name=name)
        with suppress(NotFound):
            node = await self._client.get(NODES, name)
            if names.MACHINE in labels(node):
                await self._client.delete(NODES, name, options=DeleteOptions(uid=node["metadata"]["uid"]))
