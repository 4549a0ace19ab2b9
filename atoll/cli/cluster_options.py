"""Which cluster a command looks at, and what it finds written there for capacity's parts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from atoll.base.errors import NotFound, UserError

if TYPE_CHECKING:
    from atoll.client.port import Client

KUBECONFIG = click.option("--kubeconfig", type=click.Path(path_type=Path), help="Instead of the usual one.")
CONTEXT = click.option("--context", help="Of the kubeconfig; the current one by default.")

Object = dict[str, Any]
T = TypeVar("T")


async def settings_map(client: Client, name: str) -> Object | None:
    """The ConfigMap that holds settings of capacity's; None where there is none."""
    from atoll.capacity import names
    from atoll.kinds.builtin import CONFIGMAPS

    try:
        return await client.get(CONFIGMAPS, name, names.SYSTEM_NAMESPACE)
    except NotFound:
        return None


async def required_map(client: Client, name: str, document: str) -> Object:
    """The same. Raises UserError where there is none; `document` has an example of it."""
    from atoll.capacity import names

    found = await settings_map(client, name)
    if found is None:
        where = f"{names.SYSTEM_NAMESPACE}/{name}"
        raise UserError(f"there is no ConfigMap {where}", hint=f"{document} has an example")
    return found


def settings_in(config_map: Object | None, name: str, key: str, kind: type[T]) -> T:
    """What it says, the defaults where there is none. Raises UserError for a mistake in it."""
    from atoll.capacity import names
    from atoll.capacity.settings import SettingsError, read

    try:
        return read(config_map, key, kind)
    except SettingsError as error:
        where = f"{names.SYSTEM_NAMESPACE}/{name}"
        raise UserError(f"the ConfigMap {where}: {error}", hint="until it is mended the last good one counts") from None
