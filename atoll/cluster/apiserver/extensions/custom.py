"""Custom resources: what one version of a CRD makes of them (accept, behaviour, columns, scale)."""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Sequence
from typing import Any

import orjson

from atoll.base.chance import Chance
from atoll.base.names import CONVERSION_ANNOTATION, INERT_ANNOTATION
from atoll.cluster.apiserver import names
from atoll.cluster.apiserver.discovery import custom_resource, version_order
from atoll.cluster.apiserver.extensions import structure, validation
from atoll.cluster.apiserver.extensions.conversion import Converter, Finish
from atoll.cluster.apiserver.extensions.indifference import looks_into
from atoll.cluster.apiserver.extensions.internal import InternalConverter, conversion_of
from atoll.cluster.apiserver.extensions.rule_validation import by_rules
from atoll.cluster.apiserver.extensions.structure import Json, Structure
from atoll.cluster.apiserver.ports import Behaviour, Cause, HookCaller, Object
from atoll.cluster.apiserver.problems import bad_value
from atoll.cluster.apiserver.request import Context
from atoll.cluster.apiserver.served import Convert, Converts, Served
from atoll.cluster.apiserver.tables.custom import custom_printer
from atoll.cluster.apiserver.verbs.accept import report
from atoll.cluster.apiserver.verbs.scale import Paths
from atoll.kinds import schemas
from atoll.kinds.decode import DecodeError, cannot_handle, decode
from atoll.kinds.resource import Resource
from atoll.kinds.structural import compile_crd

# All that a schema may say at its root that lets each property be judged by itself.
_APART = frozenset({"type", "description", "properties", "required", "x-kubernetes-validations"})
_PRESERVE_ALL: Json = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


class CustomVersion:
    """One served version of a CRD."""

    def __init__(self, raw: Json) -> None:
        self.name: str = raw["name"]
        self.served = bool(raw.get("served"))
        self.storage = bool(raw.get("storage"))
        schema = (raw.get("schema") or {}).get("openAPIV3Schema") or _PRESERVE_ALL
        self.schema: Json = schema
        self.structure = Structure(schema)
        self.printer = custom_printer(raw.get("additionalPrinterColumns"))
        self.given_schema: Json | None = (raw.get("schema") or {}).get("openAPIV3Schema")
        self.selectable = tuple(item["jsonPath"] for item in raw.get("selectableFields") or ())
        subresources = raw.get("subresources") or {}
        self.has_status = subresources.get("status") is not None
        self.scale = _scale(subresources.get("scale"))
        self.deprecated = bool(raw.get("deprecated"))
        self.deprecation: str = raw.get("deprecationWarning") or ""

    @functools.cached_property
    def gate(self) -> Any:
        """None: the slow walk decides."""
        return structure.gate(self.structure)

    @functools.cached_property
    def status_gate(self) -> Any:
        """For statuses alone; None also where what is beside a status has a say in it."""
        status = self.structure.properties.get("status")
        apart = self.schema.keys() <= _APART and status is not None and self.gate is not None
        return structure.gate(status, root=False) if apart and status is not None else None


def _steps(path: str) -> tuple[str, ...]:
    return tuple(path.lstrip(".").split("."))


def _scale(raw: Json | None) -> Paths | None:
    if raw is None:
        return None
    selector = raw.get("labelSelectorPath")
    return Paths(
        _steps(raw["specReplicasPath"]), _steps(raw["statusReplicasPath"]), _steps(selector) if selector else None
    )


class CustomKind:
    """A CRD as it is served. Made anew whenever the CRD changes."""

    def __init__(self, crd: Object, caller: HookCaller, chance: Chance) -> None:
        """`caller`, `chance` are for conversion webhooks."""
        spec = crd["spec"]
        self.crd_name: str = crd["metadata"]["name"]
        self.group: str = spec["group"]
        self.names: Json = spec["names"]
        self.namespaced = spec.get("scope") == "Namespaced"
        self.versions = {item["name"]: CustomVersion(item) for item in spec["versions"]}
        self.storage = next(name for name, version in self.versions.items() if version.storage)
        self.terminating = "deletionTimestamp" in crd["metadata"]
        self._changed = crd["metadata"].get("generation", 1) > 1
        annotations = crd["metadata"].get("annotations") or {}
        internal = annotations.get(CONVERSION_ANNOTATION) == "internal"
        self.converter = self._converter(spec.get("conversion") or {}, internal, caller, chance)
        self.inert: str = annotations.get(INERT_ANNOTATION) or ""

    def _converter(self, conversion: Json, internal: bool, caller: HookCaller, chance: Chance) -> Converts | None:
        by_webhook = conversion.get("strategy") == "Webhook"
        function = conversion_of(self.group) if internal and not by_webhook else None
        if not by_webhook and function is None:
            return None

        def finish(version: CustomVersion) -> Finish:
            def taken(obj: Object) -> Object:
                found: Object = structure.take(obj, version.structure, [], root=True)
                return {**found, "metadata": obj["metadata"]}

            return taken

        finishing = {f"{self.group}/{name}": finish(version) for name, version in self.versions.items()}
        if function is not None:
            return InternalConverter(function, finishing)
        return Converter(conversion, self.names["kind"], finishing, caller, chance)

    def resource(self, version: str) -> Resource:
        return Resource(self.group, version, self.names["plural"], self.names["kind"], self.namespaced)

    def served(self) -> list[Served]:
        """One entry per served version."""
        storage = self.resource(self.storage)
        return [self._served(version, storage) for version in self.versions.values() if version.served]

    def _served(self, version: CustomVersion, storage: Resource) -> Served:
        resource = self.resource(version.name)
        entry = custom_resource(
            resource,
            singular=self.names.get("singular") or self.names["kind"].lower(),
            list_kind=self.names.get("listKind") or "",
            short_names=self.names.get("shortNames") or (),
            categories=self.names.get("categories") or (),
            status=version.has_status,
            scale=version.scale is not None,
            storage_version=self.storage,
        )
        warning = ""
        if version.deprecated:
            warning = version.deprecation or (
                f"{resource.api_version} {resource.kind} is deprecated{self._instead_of(version)}"
            )
        return Served(
            resource,
            storage,
            entry,
            make_behaviour=_Rules(version).behaviour,
            check_name=names.dns_subdomain,
            custom=self,
            converter=self.converter,
            deprecation=warning,
            from_storage=self._reader(resource) if self._changed and self.converter is None else None,
            warning=f"{resource.group_resource}: stored, but {self.inert}" if self.inert else "",
            printer=version.printer,
            _schema=compile_crd(version.schema),
        )

    def _reader(self, resource: Resource) -> Convert | None:
        """What was stored before the CRD had its defaults gets them when it is read, and loses what is unknown now."""
        stored = self.versions[self.storage].structure

        def read(obj: Object) -> Object:
            taken: Object = structure.take(obj, stored, [], root=True)
            return {**taken, "apiVersion": resource.api_version}

        return read if stored.defaults_below else None

    def serves(self, api_version: str) -> bool:
        group, _, version = api_version.rpartition("/")
        return group == self.group and version in self.versions and self.versions[version].served

    def _instead_of(self, old: CustomVersion) -> str:
        """What to use instead of a deprecated version: the first one that is not."""
        for name in sorted(self.versions, key=version_order):
            version = self.versions[name]
            if version.served and not version.deprecated:
                return f"; use {self.group}/{name} {self.names['kind']}" if name != old.name else ""
        return ""

    def scale_paths(self, version: str) -> Paths | None:
        return self.versions[version].scale

    def accept(
        self, context: Context, served: Served, obj: Object, repeated: Sequence[str], standing: Object | None
    ) -> Object:
        """Pruned, defaulted, its metadata decoded; but for what is part of `standing`. Raises BadRequest."""
        version = self.versions[served.resource.version]
        dropped: list[str] = []
        taken: Object = structure.take(obj, version.structure, dropped, root=True, standing=standing)
        known = (standing or {}).get("metadata")
        metadata, problems = dict(known or {}), list[str]()
        if not known or obj.get("metadata") != known:
            metadata, problems = _metadata(served.resource, obj.get("metadata"))
        taken["metadata"] = metadata
        if dropped and context.field_validation != "Ignore":
            problems = problems + structure.unknown_fields(obj, version.structure)
        if version.structure.embedded_below:
            problems = problems + structure.decode_embedded(taken, version.structure, _embedded(served.resource))
        if repeated or problems:
            report(context, [*repeated, *problems], served.resource.api_version, served.resource.kind)
        if (
            not version.storage and self.converter is None
        ):  # what the stored version can't hold is lost, as by a round trip through etcd
            taken = structure.take(taken, self.versions[self.storage].structure, [], root=True)
        return taken

    def looks_into(self, version: str, new: Object, old: Object, values: Collection[str]) -> bool:
        """Whether validation may treat this new status differently where these values are others."""
        return looks_into(_shown_to_rules(new), old, self.versions[version].structure, values)

    def reads_name(self, version: str) -> bool:
        """Whether a rule may look at the metadata; rules below the root see none."""
        at = self.versions[version].structure
        return bool(at.rules or at.raw.get("allOf")) and (at.held is None or at.held.reads("metadata"))


def _shown_to_rules(obj: Object) -> Object:
    """With as much of its metadata as rules may see."""
    known = {key: obj["metadata"][key] for key in ("name", "generateName") if key in obj["metadata"]}
    return {**obj, "metadata": known}


def _metadata(resource: Resource, raw: Any) -> tuple[Json, list[str]]:
    try:
        metadata, problems = decode(raw if raw is not None else {}, schemas.object_meta())
    except DecodeError as error:
        raise cannot_handle(resource.kind, resource.api_version, str(error)) from None
    metadata.pop("creationTimestamp", None) if metadata.get("creationTimestamp") is None else None
    return metadata, [item.replace('"', '"metadata.', 1) for item in problems]


def _embedded(resource: Resource) -> structure.Decode:
    def decoded(raw: Any, path: str) -> tuple[Json, list[str]]:
        try:
            metadata, problems = decode(raw, schemas.object_meta())
        except DecodeError as error:
            shown = orjson.dumps(raw).decode()
            detail = f"{path}: Invalid value: {shown}: {error}"
            raise cannot_handle(resource.kind, resource.api_version, detail) from None
        return metadata, [item.replace('"', f'"{path}.', 1) for item in problems]

    return decoded


_BLOCKING = frozenset(
    {
        "FieldValueNotSupported", "FieldValueRequired", "FieldValueTooLong", "FieldValueTooMany",
        "FieldValueTypeInvalid",
    }
)  # fmt: skip
_UNCHECKED = Cause(
    "FieldValueInvalid",
    "Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing"
    " errors to complete validation",
    "<nil>",
)


def _replicas(body: Object, where: Paths) -> list[Cause]:
    """Where the scale subresource looks there must be a number."""
    value: Any = body
    for step in where.spec:
        value = value.get(step) if isinstance(value, dict) else None
    path = "." + ".".join(where.spec)
    if value is None:
        return []
    if isinstance(value, bool) or not isinstance(value, int):
        shown = str(value).lower() if isinstance(value, bool) else value
        kind = {str: "string", float: "float64", bool: "bool"}.get(type(value), "map[string]interface {}")
        return [bad_value(path, 0, f"{path} accessor error: {shown} is of the type {kind}, expected int64")]
    return [bad_value(path, value, "should be a non-negative integer")] if value < 0 else []


def _finalizer_warnings(obj: Object, old: Object | None) -> list[str]:
    known = ((old or {}).get("metadata") or {}).get("finalizers") or ()
    return [
        f'metadata.finalizers: "{name}": prefer a domain-qualified finalizer name to avoid accidental conflicts with'
        " other finalizer writers"
        for name in obj["metadata"].get("finalizers") or ()
        if name not in known and "/" not in name and name not in ("orphan", "foregroundDeletion")
    ]


class _Rules:
    """The registry strategy of custom resources of one version (apiextensions registry/customresource)."""

    def __init__(self, version: CustomVersion) -> None:
        self._version = version
        self._structure = version.structure

    def behaviour(self) -> Behaviour:
        selectable = self._selectable if self._version.selectable else None
        return Behaviour(
            prepare_create=self._prepare_create,
            prepare_update=self._prepare_update,
            prepare_status=self._prepare_status,
            validate_create=lambda obj: self._validate(obj, validation.MISSING),
            validate_update=self._validate,
            validate_status=self._validate,
            warnings=_finalizer_warnings,
            has_status=self._version.has_status,
            has_scale=self._version.scale is not None,
            unconditional_update=False,
            selectable_fields=selectable,
        )

    def _prepare_create(self, obj: Object) -> None:
        if self._version.has_status:
            obj.pop("status", None)
        obj["metadata"]["generation"] = 1

    def _prepare_update(self, new: Object, old: Object) -> None:
        if self._version.has_status:
            if "status" in old:
                new["status"] = old["status"]
            else:
                new.pop("status", None)
        skipped = {"metadata", "apiVersion"} | ({"status"} if self._version.has_status else set())
        changed = {key: value for key, value in new.items() if key not in skipped} != {
            key: value for key, value in old.items() if key not in skipped
        }
        generation = old["metadata"].get("generation", 1)
        new["metadata"]["generation"] = generation + 1 if changed else generation

    def _prepare_status(self, new: Object, old: Object) -> None:
        status, fields = new.get("status"), new["metadata"].get("managedFields")
        version = new["metadata"].get("resourceVersion")
        for key in [key for key in new if key not in old]:
            del new[key]
        new.update(old)
        metadata = new["metadata"] = dict(old["metadata"])
        if fields is not None:
            metadata["managedFields"] = fields
        if version is not None:
            metadata["resourceVersion"] = version
        if status is not None:
            new["status"] = status
        else:
            new.pop("status", None)

    def _validate(self, obj: Object, old: Any) -> list[Cause]:
        body = {key: value for key, value in obj.items() if key != "metadata"}
        causes: list[Cause] = []
        if not self._passes(body, old):
            causes += validation.by_schema({**body, "metadata": {}}, self._structure, old)
        at = self._structure
        if self._version.scale is not None:
            causes += _replicas(body, self._version.scale)
        if at.lists_below:
            before = old if old is not validation.MISSING else {}
            changed = {key: value for key, value in body.items() if value is not before.get(key)}
            validation.by_list_types(changed, at, "", causes)
        if at.rules_below and any(cause.reason in _BLOCKING for cause in causes):
            causes.append(_UNCHECKED)
        elif at.rules_below:
            by_rules(_shown_to_rules(obj), at, "", old, causes)
        return causes

    def _passes(self, body: Json, old: Any) -> bool:
        """Whether it is valid for certain. What stands beside a new status was judged when it was written."""
        gate = self._version.gate
        if old is not validation.MISSING and "status" in body and self._version.status_gate is not None:
            before: Json = old
            if all(value is before.get(key) for key, value in body.items() if key != "status"):
                return bool(self._version.status_gate.is_valid(body["status"]))
        return gate is not None and bool(gate.is_valid(body))

    def _selectable(self, obj: Object) -> dict[str, str]:
        return {path.lstrip("."): _text_at(obj, path) for path in self._version.selectable}


_INDEX = re.compile(r"\['?([^'\]]+)'?\]")


def _text_at(obj: Any, path: str) -> str:
    for step in _INDEX.sub(r".\1", path).strip(".").split("."):
        if not isinstance(obj, dict):
            return ""
        obj = obj.get(step)
    if isinstance(obj, bool):
        return "true" if obj else "false"
    return "" if obj is None else str(obj)
