"""The contracts of `atoll.capacity.autoscale.provider.Provider` and `atoll.capacity.health.remedy.Remedies`: what any
source of machines does for a pool, and what anything that mends them does for a node.

    class TestMine(ProviderContract):
        async def opened(self, stack, folder):
            return MySite(…)          # provider, again, joined, left, sell_out
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Protocol

import pytest

from atoll.capacity import names
from atoll.capacity.autoscale.provider import OutOfStock, Provider
from atoll.capacity.autoscale.settings import NodeShape, Pool
from atoll.capacity.health.model import Object, Remedy, Repair
from atoll.capacity.health.remedy import Progress, Remedies
from atoll.objects.meta import labels

POOL = Pool("gpu", 4, node=NodeShape("96", "1Ti", gpus=8, labels={"zone": "a"}))


class Site(Protocol):
    """A provider and what stands around it."""

    @property
    def provider(self) -> Provider: ...

    def again(self) -> Provider:
        """As another process would have it after the first one's death."""

    async def joined(self, name: str) -> Object:
        """The Node of a machine that has been made, once it is there."""

    async def left(self, name: str) -> None:
        """Once the Node is gone."""

    async def sell_out(self) -> None:
        """No machine is to be had from now on."""


class ProviderContract:
    """Subclass it, and give it `opened`."""

    async def opened(self, stack: AsyncExitStack, folder: Path) -> Site:
        """A site without machines, closed by the stack."""
        raise NotImplementedError

    @pytest.fixture
    def play(self, tmp_path: Path) -> Callable[[Callable[[Site], Awaitable[None]]], None]:
        def run(main: Callable[[Site], Awaitable[None]]) -> None:
            async def whole() -> None:
                async with AsyncExitStack() as stack, asyncio.timeout(60):
                    await main(await self.opened(stack, tmp_path))

            asyncio.run(whole())

        return run

    def test_a_machine_is_there_from_its_order_to_its_return(self, play: Callable[..., None]) -> None:
        async def main(site: Site) -> None:
            assert await site.provider.machines() == []
            await site.provider.create(POOL, "gpu-1", "old-1")
            (found,) = await site.provider.machines()
            assert (found.name, found.pool, found.replaces) == ("gpu-1", "gpu", "old-1")
            assert abs(found.created - time.time()) < 30
            node = await site.joined("gpu-1")
            told = labels(node)
            assert (told[names.MACHINE], told[names.POOL_LABEL], told["zone"]) == ("gpu-1", "gpu", "a")
            await site.provider.delete("gpu-1")
            assert await site.provider.machines() == []
            await site.left("gpu-1")

        play(main)

    def test_what_is_asked_twice_is_done_once(self, play: Callable[..., None]) -> None:
        async def main(site: Site) -> None:
            await site.provider.create(POOL, "gpu-1")
            (first,) = await site.provider.machines()
            await site.provider.create(POOL, "gpu-1", "another")
            assert await site.provider.machines() == [first]
            await site.provider.delete("gpu-1")
            await site.provider.delete("gpu-1")
            await site.provider.delete("never-there")
            assert await site.provider.machines() == []

        play(main)

    def test_another_process_knows_the_same_machines(self, play: Callable[..., None]) -> None:
        async def main(site: Site) -> None:
            await asyncio.gather(*(site.provider.create(POOL, f"gpu-{number}") for number in range(4)))
            other = site.again()
            assert {it.name for it in await other.machines()} == {f"gpu-{number}" for number in range(4)}
            await other.delete("gpu-2")
            assert "gpu-2" not in {it.name for it in await site.provider.machines()}

        play(main)

    def test_out_of_stock_is_told_and_makes_nothing(self, play: Callable[..., None]) -> None:
        async def main(site: Site) -> None:
            await site.provider.create(POOL, "gpu-1")
            await site.sell_out()
            with pytest.raises(OutOfStock, match="gpu"):
                await site.provider.create(POOL, "gpu-2")
            await site.provider.create(POOL, "gpu-1")  # it is there already
            assert [it.name for it in await site.provider.machines()] == ["gpu-1"]

        play(main)


class Workshop(Protocol):
    """Remedies, and time."""

    @property
    def remedies(self) -> Remedies: ...

    def again(self) -> Remedies:
        """As another process would have them."""

    async def node(self) -> Object:
        """The node that is mended, as it is now."""

    def now(self) -> str:
        """RFC 3339."""

    async def wait(self) -> None:
        """Until what was begun is done."""


class RemedyContract:
    """Subclass it, and give it `opened`."""

    async def opened(self, stack: AsyncExitStack, folder: Path) -> Workshop:
        """A workshop in which nothing was begun, closed by the stack."""
        raise NotImplementedError

    @pytest.mark.parametrize("remedy", ["reset", "reboot", "replace"])
    def test_a_remedy_is_begun_once_and_carried_on_by_whoever_asks(self, remedy: Remedy, tmp_path: Path) -> None:
        async def whole() -> None:
            async with AsyncExitStack() as stack, asyncio.timeout(60):
                shop = await self.opened(stack, tmp_path)
                repair = Repair(remedy, "repairing", shop.now(), "XID79", number=1)
                first = await shop.remedies.advance(await shop.node(), repair)
                assert (first.done, first.failed) == (False, "") and (first.again_seconds or 0) > 0
                assert not (await shop.again().advance(await shop.node(), repair)).done
                await shop.wait()
                for remedies in (shop.remedies, shop.again(), shop.remedies):
                    last = await remedies.advance(await shop.node(), repair)
                    assert last == Progress(done=True, again_seconds=last.again_seconds)

        asyncio.run(whole())
