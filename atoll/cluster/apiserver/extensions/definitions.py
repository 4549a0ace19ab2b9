"""CustomResourceDefinition as a kind: its defaults, strategy and checks (apiextensions pkg/apis/…/validation)."""

from __future__ import annotations

from collections.abc import Sequence

from atoll.base.clock import rfc3339
from atoll.cluster.apiserver import names
from atoll.cluster.apiserver.behaviour.webhook_clients import conversion as conversion_causes
from atoll.cluster.apiserver.extensions.schema_checks import check_schema
from atoll.cluster.apiserver.extensions.structure import Json
from atoll.cluster.apiserver.ports import Behaviour, Cause, Object
from atoll.cluster.apiserver.problems import bad_value, not_supported, required

CLEANUP = "customresourcecleanup.apiextensions.k8s.io"
_COLUMN_TYPES = ("boolean", "date", "integer", "number", "string")
_COLUMN_FORMATS = ("byte", "date", "date-time", "double", "float", "int32", "int64", "password")
_APPROVED = "api-approved.kubernetes.io"


def behaviour() -> Behaviour:
    return Behaviour(
        default=default,
        prepare_create=prepare_create,
        prepare_update=prepare_update,
        prepare_status=prepare_status,
        validate_create=validate_create,
        validate_update=validate_update,
        has_status=True,
        unconditional_update=False,
        extra={"begin_deletion": begin_deletion},
    )


def default(crd: Object) -> None:
    spec = crd.setdefault("spec", {})
    conversion = spec.setdefault("conversion", {"strategy": "None"})
    service = ((conversion.get("webhook") or {}).get("clientConfig") or {}).get("service")
    if service is not None:
        service.setdefault("port", 443)
    found = spec.setdefault("names", {})
    kind = found.get("kind") or ""
    if not found.get("singular"):
        found["singular"] = kind.lower()
    if not found.get("listKind") and kind:
        found["listKind"] = f"{kind}List"


def prepare_create(crd: Object) -> None:
    crd["metadata"]["generation"] = 1
    stored = [item.get("name") for item in crd["spec"].get("versions") or () if item.get("storage")]
    crd["status"] = {
        "conditions": None,
        "acceptedNames": {"plural": "", "kind": ""},
        "storedVersions": stored,
    }


def prepare_update(new: Object, old: Object) -> None:
    new["status"] = {**(old.get("status") or {})}
    stored = list(new["status"].get("storedVersions") or [])
    for item in new["spec"].get("versions") or ():
        if item.get("storage") and item.get("name") not in stored:
            stored.append(item.get("name"))
    new["status"]["storedVersions"] = stored
    generation = old["metadata"].get("generation", 1)
    new["metadata"]["generation"] = generation + 1 if new["spec"] != old["spec"] else generation


def prepare_status(new: Object, old: Object) -> None:
    new["spec"] = old["spec"]
    for field in ("labels", "annotations", "finalizers", "ownerReferences", "generation"):
        if field in old["metadata"]:
            new["metadata"][field] = old["metadata"][field]
    if "finalizers" in old["metadata"] and "finalizers" not in new["metadata"]:
        new["metadata"]["finalizers"] = old["metadata"]["finalizers"]


def begin_deletion(crd: Object, now: float) -> None:
    """The first delete adds the clean-up finalizer: instances go first."""
    metadata = crd["metadata"]
    finalizers = metadata.get("finalizers") or []
    if CLEANUP not in finalizers:
        metadata["finalizers"] = [*finalizers, CLEANUP]
    metadata["deletionTimestamp"] = rfc3339(now)
    status = dict(crd.get("status") or {})
    terminating = {
        "type": "Terminating",
        "status": "True",
        "lastTransitionTime": rfc3339(now),
        "reason": "InstanceDeletionPending",
        "message": "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon",
    }
    kept = [item for item in status.get("conditions") or () if item.get("type") != "Terminating"]
    crd["status"] = {**status, "conditions": [*kept, terminating]}


def validate_create(crd: Object) -> list[Cause]:
    spec = crd.get("spec") or {}
    causes: list[Cause] = []
    expected = f"{(spec.get('names') or {}).get('plural', '')}.{spec.get('group', '')}"
    name = crd["metadata"].get("name")
    if name:
        causes += [bad_value("metadata.name", name, message) for message in names.dns_subdomain(name)]
    if name and name != expected:
        causes.append(bad_value("metadata.name", name, 'must be spec.names.plural+"."+spec.group'))
    return causes + _spec(spec) + _stored(crd) + _approval(crd)


def validate_update(new: Object, old: Object) -> list[Cause]:
    spec, before = new["spec"], old["spec"]
    causes = _spec(spec, before) + _stored(new)
    established = any(
        item.get("type") == "Established" and item.get("status") == "True"
        for item in (old.get("status") or {}).get("conditions") or ()
    )
    if established:
        for field in ("scope",):
            if spec.get(field) != before.get(field):
                causes.append(bad_value(f"spec.{field}", spec.get(field), "field is immutable"))
        if spec["names"].get("kind") != before["names"].get("kind"):
            causes.append(bad_value("spec.names.kind", spec["names"].get("kind"), "field is immutable"))
    if spec.get("group") != before.get("group"):
        causes.append(bad_value("spec.group", spec.get("group"), "field is immutable"))
    if spec["names"].get("plural") != before["names"].get("plural"):
        causes.append(bad_value("spec.names.plural", spec["names"].get("plural"), "field is immutable"))
    return causes


def _approval(crd: Object) -> list[Cause]:
    group = (crd.get("spec") or {}).get("group") or ""
    if not (group.endswith((".k8s.io", ".kubernetes.io")) or group in ("k8s.io", "kubernetes.io")):
        return []
    value = (crd["metadata"].get("annotations") or {}).get(_APPROVED)
    field = f"metadata.annotations[{_APPROVED}]"
    if not value:
        why = "protected groups must have approval annotation " + f'"{_APPROVED}"'
        return [required(field, why + ", see https://github.com/kubernetes/enhancements/pull/1111")]
    if not value.startswith(("unapproved", "https://", "http://")):
        why = f'protected groups must have approval annotation "{_APPROVED}" with either a URL or a reason starting'
        return [
            bad_value(
                field, value, why + ' with "unapproved", see https://github.com/kubernetes/enhancements/pull/1111'
            )
        ]
    return []


def _stored(crd: Object) -> list[Cause]:
    stored = (crd.get("status") or {}).get("storedVersions") or []
    versions = [item.get("name") for item in crd["spec"].get("versions") or ()]
    if not stored:
        return [bad_value("status.storedVersions", None, "must have at least one stored version")]
    return [
        bad_value(
            f"status.storedVersions[{index}]",
            name,
            f"missing from spec.versions; {name} was previously a storage version, and must remain in spec.versions"
            f" until a storage migration ensures no data remains persisted in {name} and removes {name} from"
            " status.storedVersions",
        )
        for index, name in enumerate(stored)
        if name not in versions
    ]


def _spec(spec: Json, before: Json | None = None) -> list[Cause]:
    causes: list[Cause] = []
    group = spec.get("group") or ""
    if not group:
        causes.append(required("spec.group"))
    elif names.dns_subdomain(group):
        causes.append(bad_value("spec.group", group, ",".join(names.dns_subdomain(group))))
    elif "." not in group:
        causes.append(bad_value("spec.group", group, "should be a domain with at least one dot"))
    scope = spec.get("scope") or ""
    if not scope:
        causes.append(required("spec.scope"))
    elif scope not in ("Cluster", "Namespaced"):
        causes.append(not_supported("spec.scope", scope, ("Cluster", "Namespaced")))
    versions = spec.get("versions") or []
    known = {item.get("name"): item for item in (before or {}).get("versions") or ()}
    for index, version in enumerate(versions):
        old = known.get(version.get("name"))
        if old != version:
            ruled = old is not None and old.get("schema") == version.get("schema")
            causes += _version(version, f"spec.versions[{index}]", len(versions) == 1, ruled)
    causes += _versions(versions)
    causes += _names(spec.get("names") or {})
    conversion = spec.get("conversion") or {}
    if conversion.get("strategy") not in ("None", "Webhook"):
        causes.append(not_supported("spec.conversion.strategy", conversion.get("strategy"), ("None", "Webhook")))
    conversion_causes(causes, conversion)
    if spec.get("preserveUnknownFields"):
        why = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead"
        causes.append(bad_value("spec.preserveUnknownFields", True, why))
    return causes


def _versions(versions: list[Json]) -> list[Cause]:
    causes: list[Cause] = []
    seen = [item.get("name") for item in versions]
    if len(set(seen)) != len(seen):
        causes.append(bad_value("spec.versions", versions, "must contain unique version names"))
    if sum(bool(item.get("storage")) for item in versions) != 1:
        why = "must have exactly one version marked as storage version"
        causes.append(bad_value("spec.versions", versions, why))
    return causes


def _version(version: Json, path: str, alone: bool, same_schema: bool) -> list[Cause]:
    """`alone`: what all versions share is, as upstream keeps it, the definition's own."""
    causes: list[Cause] = []
    name = version.get("name") or ""
    errors = names.dns_1035_label(name)
    if errors:
        causes.append(bad_value(f"{path}.name", name, ",".join(errors)))
    schema = (version.get("schema") or {}).get("openAPIV3Schema")
    subresources = version.get("subresources") or {}
    if schema is None:
        causes.append(required(f"{path}.schema.openAPIV3Schema"))
    else:
        at = "spec.validation.openAPIV3Schema" if alone else f"{path}.schema.openAPIV3Schema"
        causes += check_schema(schema, at, same_schema)
    path = "spec" if alone else path
    causes += _selectable(version.get("selectableFields") or (), schema or {}, f"{path}.selectableFields")
    for index, column in enumerate(version.get("additionalPrinterColumns") or ()):
        causes += _column(column, f"{path}.additionalPrinterColumns[{index}]")
    causes += _scale(subresources.get("scale"), f"{path}.subresources.scale")
    if version.get("deprecationWarning") and not version.get("deprecated"):
        why = "can only be set for deprecated versions"
        causes.append(bad_value(f"{path}.deprecationWarning", version["deprecationWarning"], why))
    return causes


def _selectable(fields: Sequence[Json], schema: Json, path: str) -> list[Cause]:
    causes: list[Cause] = []
    for index, field in enumerate(fields):
        where, json_path = f"{path}[{index}].jsonPath", field.get("jsonPath") or ""
        if not json_path:
            causes.append(required(where))
            continue
        at: Json | None = schema
        for step in json_path.strip(".").split("."):
            at = ((at or {}).get("properties") or {}).get(step)
        if at is None:
            causes.append(bad_value(where, json_path, "is an invalid path: does not refer to a valid field"))
        elif json_path.startswith(".metadata"):
            causes.append(bad_value(where, json_path, "must not point to fields in metadata"))
        elif at.get("type") not in ("string", "boolean", "integer"):
            why = "must point to a field of type string, boolean or integer. Enum string fields and strings with"
            causes.append(bad_value(where, json_path, why + " formats are allowed."))
    return causes


def _column(column: Json, path: str) -> list[Cause]:
    causes: list[Cause] = []
    if not column.get("name"):
        causes.append(required(f"{path}.name"))
    listed = ",".join(_COLUMN_TYPES)
    if not column.get("type"):
        causes.append(required(f"{path}.type", f"must be one of {listed}"))
    elif column["type"] not in _COLUMN_TYPES:
        causes.append(bad_value(f"{path}.type", column["type"], f"must be one of {listed}"))
    if column.get("format") and column["format"] not in _COLUMN_FORMATS:
        why = f"must be one of {','.join(_COLUMN_FORMATS)}"
        causes.append(bad_value(f"{path}.format", column["format"], why))
    if not column.get("jsonPath"):
        causes.append(required(f"{path}.JSONPath"))
    else:
        causes += _simple_path(column["jsonPath"], f"{path}.jsonPath")
    return causes


def _simple_path(path: str, field: str) -> list[Cause]:
    if not path.startswith("."):
        return [bad_value(field, path, "must be a simple json path starting with .")]
    return []


def _scale(scale: Json | None, path: str) -> list[Cause]:
    if scale is None:
        return []
    causes: list[Cause] = []
    for field, root in (("specReplicasPath", ".spec."), ("statusReplicasPath", ".status.")):
        value = scale.get(field) or ""
        if not value:
            causes.append(required(f"{path}.{field}"))
        elif not value.startswith(root):
            causes.append(bad_value(f"{path}.{field}", value, f"should be a json path under {root.rstrip('.')}"))
    selector = scale.get("labelSelectorPath")
    if selector and not selector.startswith((".spec.", ".status.")):
        why = "should be a json path under either .spec or .status"
        causes.append(bad_value(f"{path}.labelSelectorPath", selector, why))
    return causes


def _names(found: Json) -> list[Cause]:
    causes: list[Cause] = []
    for field in ("plural", "singular", "kind", "listKind"):
        if not found.get(field):
            causes.append(required(f"spec.names.{field}"))
    prefix = "may have mixed case, but should otherwise match: "
    for field in ("plural", "singular"):
        value = found.get(field)
        if value and (errors := names.dns_1035_label(value)):
            causes.append(bad_value(f"spec.names.{field}", value, ",".join(errors)))
    for field in ("kind", "listKind"):
        value = found.get(field)
        if value and (errors := names.dns_1035_label(value.lower())):
            causes.append(bad_value(f"spec.names.{field}", value, prefix + ",".join(errors)))
    for field in ("shortNames", "categories"):
        for index, value in enumerate(found.get(field) or ()):
            if errors := names.dns_1035_label(value):
                causes.append(bad_value(f"spec.names.{field}[{index}]", value, ",".join(errors)))
    if found.get("kind") and found.get("kind") == found.get("listKind"):
        causes.append(bad_value("spec.names.listKind", found["listKind"], "kind and listKind may not be the same"))
    return causes
