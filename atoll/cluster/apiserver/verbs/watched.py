"""How long what was decided once may be repeated: until a resource changes that admission read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from atoll.cluster.apiserver.request import Context
from atoll.cluster.store.port import Store


class Watched(Struct):
    """The resources that admission depends on, and their last changes when it was looked."""

    resources: tuple[str, ...]
    changes: tuple[int, ...]
    checked: int = -1  # the store's version at which they were compared last

    @classmethod
    def of(cls, store: Store, resources: Sequence[str]) -> Watched:
        """As they are now: to be asked before what depends on them is decided."""
        return cls(tuple(resources), tuple([store.last_change(resource) for resource in resources]))

    def hold(self, store: Store) -> bool:
        """Whether none has changed since."""
        version = store.version
        if self.checked != version:
            last_change = store.last_change
            if tuple([last_change(resource) for resource in self.resources]) != self.changes:
                return False
            self.checked = version
        return True


def caller(context: Context) -> tuple[Any, ...]:
    """Who asks and how, as far as the result or admission can depend on it."""
    user = context.user
    return (
        user.name, user.groups, user.uid, *user.extra.items(),
        context.field_manager, context.field_validation, context.annotations is None,
    )  # fmt: skip
