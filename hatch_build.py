"""Build step: make Kubernetes' published schemas compact, into atoll/kinds/data/built/.

The source is the package kubernetes-validate (a build requirement): JSON schemas of every Kubernetes version, with
upstream's extensions. One version of them becomes two files: `schemas.json` (no descriptions, what the API server
needs at run time) and `descriptions.json.z` (loaded only for `kubectl explain` and the OpenAPI documents).
"""

from __future__ import annotations

import importlib.resources
import json
import zlib
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

VERSION_FOLDER = "v1.36.0-local"
TARGET = Path(__file__).parent / "atoll" / "kinds" / "data" / "built"

# The published JSON schemas spell these two out as a choice of types; upstream's OpenAPI has them as below.
_SPECIAL = {
    "io.k8s.apimachinery.pkg.api.resource.Quantity": {"type": "string"},
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": {"type": "string", "format": "int-or-string"},
}
_DROPPED = {"description", "enum", "oneOf"}


def _compact(schema: dict[str, Any]) -> dict[str, Any]:
    """One schema without descriptions, enums of apiVersion and kind, and the nulls that are allowed everywhere."""
    short: dict[str, Any] = {}
    for key, value in schema.items():
        if key in _DROPPED:
            continue
        if key == "$ref":
            short[key] = value.rsplit("/", 1)[1]
        elif key == "type":
            short[key] = next(item for item in value if item != "null") if isinstance(value, list) else value
        elif key == "properties":
            short[key] = {name: _compact(item) for name, item in value.items()}
        elif key in ("items", "additionalProperties") and isinstance(value, dict):
            short[key] = _compact(value)
        else:
            short[key] = value
    return short


def _descriptions(schema: dict[str, Any]) -> dict[str, str]:
    """{"": the type's description, field: the field's}."""
    texts = {"": schema["description"]} if "description" in schema else {}
    for name, item in schema.get("properties", {}).items():
        if "description" in item:
            texts[name] = item["description"]
    return texts


def build() -> None:
    """Read the installed package and write the two files."""
    folder = importlib.resources.files("kubernetes_validate") / "kubernetes-json-schema" / VERSION_FOLDER
    definitions = json.loads((folder / "_definitions.json").read_bytes())["$defs"]
    schemas = {name: _SPECIAL.get(name) or _compact(schema) for name, schema in definitions.items()}
    texts = {name: _descriptions(schema) for name, schema in definitions.items()}
    TARGET.mkdir(parents=True, exist_ok=True)
    (TARGET / "schemas.json").write_text(json.dumps(schemas, separators=(",", ":"), sort_keys=True))
    packed = zlib.compress(json.dumps(texts, separators=(",", ":"), sort_keys=True).encode(), 9)
    (TARGET / "descriptions.json.z").write_bytes(packed)


class SchemaBuildHook(BuildHookInterface):  # type: ignore[type-arg]
    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        build()
