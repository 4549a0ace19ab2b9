"""Manifests from files and folders, each with the place that it came from for messages."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import yaml

from atoll.base.errors import UserError

Object = dict[str, Any]
_SUFFIXES = (".yaml", ".yml", ".json")


def load(paths: list[str]) -> list[Object]:
    """All objects in files, folders (recursively) and "-" (standard input), lists taken apart.

    Raises UserError naming file and line.
    """
    found: list[Object] = []
    for text in paths:
        if text == "-":
            found += parse(sys.stdin.read(), "standard input")
            continue
        path = Path(text)
        if path.is_dir():
            files = sorted(one for one in path.rglob("*") if one.suffix in _SUFFIXES and one.is_file())
            if not files:
                raise UserError(f"{path} holds no manifests", hint="files end in .yaml, .yml or .json")
        elif path.is_file():
            files = [path]
        else:
            raise UserError(f"{path} does not exist")
        for file in files:
            found += parse(file.read_text(errors="replace"), str(file))
    return found


def parse(text: str, source: str) -> list[Object]:
    """The objects of one YAML or JSON text. Raises UserError."""
    try:
        documents = list(yaml.load_all(text, yaml.CSafeLoader))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark is not None else ""
        raise UserError(f"{source}{line}: {getattr(error, 'problem', error)}", hint="this is no valid YAML") from error
    found: list[Object] = []
    for number, document in enumerate(documents, 1):
        if document is None:
            continue
        where = f"{source}, document {number}"
        if not isinstance(document, dict):
            raise UserError(f"{where}: an object was expected, not {type(document).__name__}")
        if isinstance(document.get("items"), list) and str(document.get("kind", "")).endswith("List"):
            found += [_checked(item, where) for item in document["items"]]
        else:
            found.append(_checked(document, where))
    return found


def _checked(obj: Any, where: str) -> Object:
    if not isinstance(obj, dict):
        raise UserError(f"{where}: an object was expected, not {type(obj).__name__}")
    for key in ("apiVersion", "kind"):
        if not isinstance(obj.get(key), str) or not obj[key]:
            raise UserError(f"{where}: {key} is missing", hint="every Kubernetes object has apiVersion and kind")
    metadata = obj.get("metadata")
    if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str) or not metadata["name"]:
        raise UserError(
            f"{where}: {obj['kind']} has no metadata.name", hint="a plan needs names: generateName has none"
        )
    found: Object = obj
    return found
