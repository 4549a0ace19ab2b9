"""What is served: each resource's version, how it is stored, how it behaves; looked up by path and by kind.

Built-in kinds come from the catalogue, custom ones from CustomResourceDefinitions (`extensions`). A change
of the set bumps `generation`, so that discovery and OpenAPI documents are made again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import orjson
from msgspec import Struct

from atoll.cluster.apiserver import names
from atoll.cluster.apiserver.ports import Behaviour, Object
from atoll.cluster.apiserver.tables.cells import Printer
from atoll.cluster.apiserver.tables.table import printer_for
from atoll.cluster.store.port import Key, Record
from atoll.kinds import schemas
from atoll.kinds.catalog import ApiResource
from atoll.kinds.convert import convert
from atoll.kinds.nodes import SchemaNode
from atoll.kinds.resource import Resource
from atoll.objects import managed


class Converts(Protocol):
    """What `extensions.conversion.Converter` does."""

    async def prepare(self, records: Sequence[Record], api_version: str) -> None: ...

    def shown(self, record: Record, api_version: str) -> Object: ...

    async def converted(self, obj: Object, api_version: str) -> Object: ...


Convert = Callable[[Object], Object]


class Served(Struct):
    """One version of one resource. `to_storage`/`from_storage` are set where another version is the stored one."""

    resource: Resource
    storage: Resource
    entry: ApiResource
    make_behaviour: Callable[[], Behaviour] = Behaviour
    check_name: names.NameCheck = names.dns_subdomain
    custom: Any = None  # extensions.CustomKind for custom resources
    virtual: bool = False  # made up on read, and not of the catalogue
    converter: Converts | None = None  # of custom resources whose versions a webhook converts: see `ready`
    to_storage: Convert | None = None
    from_storage: Convert | None = None
    warning: str = ""  # said on every write: accepted, but not acted upon
    deprecation: str = ""  # said on every request
    printer: Printer | None = None  # of tables; made from the kind where None
    store_resource: str = ""
    item_prefix: bytes = b""
    field_schemas: dict[str, managed.Schema] = {}  # by subresource, made when asked for
    _schema: SchemaNode | None = None
    _behaviour: Behaviour | None = None

    def __post_init__(self) -> None:
        self.store_resource = self.storage.group_resource
        head = orjson.dumps({"apiVersion": self.resource.api_version, "kind": self.resource.kind})
        self.item_prefix = head[:-1] + b","

    @property
    def schema(self) -> SchemaNode | None:
        """Compiled when first asked for: a cluster uses few of the kinds."""
        if self._schema is None:
            resource = self.resource
            self._schema = schemas.schema_for(resource.group, resource.version, resource.kind)
        return self._schema

    @property
    def behaviour(self) -> Behaviour:
        """Put together when first asked for, likewise."""
        if self._behaviour is None:
            self._behaviour = self.make_behaviour()
        return self._behaviour

    def reads_name(self) -> bool:
        """Whether more than the check of names looks at an object's name: rules of a custom resource may."""
        return self.custom is not None and bool(self.custom.reads_name(self.resource.version))

    @property
    def columns(self) -> Printer:
        """How kubectl's tables show it."""
        if self.printer is None:
            self.printer = printer_for(self.resource.group_resource)
        return self.printer

    def convert(self, obj: Object, api_version: str) -> Object | None:
        """In another version of the kind, for managers that wrote in it; None if that is not served."""
        if self.custom is not None:
            return {**obj, "apiVersion": api_version} if self.custom.serves(api_version) else None
        try:
            return convert(obj, api_version)
        except (ValueError, KeyError):
            return None

    @property
    def list_kind(self) -> str:
        return self.entry.list_kind

    @property
    def stored_as_served(self) -> bool:
        return self.resource == self.storage

    def key(self, namespace: str, name: str) -> Key:
        return Key(self.store_resource, namespace if self.resource.namespaced else "", name)

    def present(self, record: Record) -> Object:
        """The object in this version; shared, never to be changed."""
        if self.converter is not None and not record.data.startswith(self.item_prefix):
            return self.converter.shown(record, self.resource.api_version)
        return self.present_object(record.object)

    async def ready(self, *records: Record) -> None:
        """To be awaited before `present` where a webhook converts: until the next await these can be presented."""
        if self.converter is not None:
            await self.converter.prepare(records, self.resource.api_version)

    def working(self, record: Record) -> Object:
        """The object that writes start from: as it is stored, or in this version where only a webhook can convert."""
        return record.object if self.converter is None else self.present(record)

    async def storable(self, obj: Object) -> Object:
        """What a write has made, in the storage version."""
        return obj if self.converter is None else await self.converter.converted(obj, self.storage.api_version)

    def present_object(self, obj: Object) -> Object:
        """A stored object in this version; shared with it."""
        if self.from_storage is not None:
            return self.from_storage(obj)
        if obj.get("apiVersion") != self.resource.api_version:  # custom resources: any stored version, None conversion
            return {**obj, "apiVersion": self.resource.api_version}
        return obj

    def present_bytes(self, record: Record) -> bytes:
        """The same as JSON; the stored bytes where nothing is converted."""
        if self.from_storage is None and record.data.startswith(self.item_prefix):
            return record.data
        return orjson.dumps(self.present(record))

    def item_bytes(self, record: Record) -> bytes:
        """As in a list: items of built-in lists carry no apiVersion and kind."""
        data = self.present_bytes(record)
        if self.custom is None and data.startswith(self.item_prefix):
            return b"{" + data[len(self.item_prefix) :]
        return data

    def stored(self, obj: Object) -> Object:
        """The (private) object in its storage version, or as it is where only a webhook converts: see `storable`."""
        if self.converter is not None:
            return obj
        if self.to_storage is not None:
            return self.to_storage(obj)
        if obj.get("apiVersion") != self.storage.api_version:
            obj["apiVersion"] = self.storage.api_version
        return obj


class Registry:
    """All that is served, by (group, version, plural)."""

    def __init__(self) -> None:
        self.generation = 0
        self._groups: dict[str, int] = {}  # resources served of each
        self._by_path: dict[tuple[str, str, str], Served] = {}
        self._by_kind: dict[tuple[str, str], Served] = {}
        self._by_storage: dict[str, Served] = {}
        self._equivalents: dict[str, list[Served]] = {}
        self._equivalents_at = -1

    def add(self, served: Served) -> None:
        resource = served.resource
        if (resource.group, resource.version, resource.plural) not in self._by_path:
            self._groups[resource.group] = self._groups.get(resource.group, 0) + 1
        self._by_path[resource.group, resource.version, resource.plural] = served
        self._by_kind[resource.api_version, resource.kind] = served
        if served.stored_as_served or resource.group_resource not in self._by_storage:
            self._by_storage[resource.group_resource] = served
        self.generation += 1

    def remove(self, resource: Resource) -> None:
        if self._by_path.pop((resource.group, resource.version, resource.plural), None) is None:
            return
        self._groups[resource.group] -= 1
        if not self._groups[resource.group]:
            del self._groups[resource.group]
        self._by_kind.pop((resource.api_version, resource.kind), None)
        left = [item for item in self._by_path.values() if item.resource.group_resource == resource.group_resource]
        if left:
            self._by_storage[resource.group_resource] = left[0]
        else:
            self._by_storage.pop(resource.group_resource, None)
        self.generation += 1

    def find(self, group: str, version: str, plural: str) -> Served | None:
        return self._by_path.get((group, version, plural))

    def of(self, resource: Resource) -> Served | None:
        return self._by_path.get((resource.group, resource.version, resource.plural))

    def of_kind(self, api_version: str, kind: str) -> Served | None:
        return self._by_kind.get((api_version, kind))

    def of_group_resource(self, group_resource: str) -> Served | None:
        """The version in which it is stored, or any."""
        return self._by_storage.get(group_resource)

    def stored_as(self, store_resource: str) -> list[Served]:
        """All that is served of one stored resource: its versions, and the groups that share it."""
        if self._equivalents_at != self.generation:
            self._equivalents, self._equivalents_at = {}, self.generation
            for served in self._by_path.values():
                self._equivalents.setdefault(served.store_resource, []).append(served)
        return self._equivalents.get(store_resource, [])

    def __iter__(self) -> Iterator[Served]:
        return iter(list(self._by_path.values()))

    def is_custom(self, group: str) -> bool:
        """Whether all that the group serves comes from CRDs."""
        return group in self._groups and all(
            served.custom is not None for key, served in self._by_path.items() if key[0] == group
        )

    def has_group(self, group: str) -> bool:
        return group in self._groups
