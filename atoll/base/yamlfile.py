"""Files that a person writes in YAML: read key by key, so that a mistake is told with its file, line and key.

A subclass of `YamlReader` says what is known where; a method takes a node and its path and returns the value. Nothing
is guessed: unknown keys, keys given twice and values of another type are refused with what would be right.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Any

import yaml

from atoll.base import quantity
from atoll.base.errors import UserError

Read = Callable[[yaml.Node, str], Any]


def compose(text: str, source: str, hint: str) -> yaml.Node:
    """The document of a YAML text. Raises UserError; `hint` is for an empty one."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = (error.problem_mark.line + 1) if error.problem_mark else 1
        raise UserError(f"{source}:{line}: not YAML: {error.problem}") from None
    except yaml.YAMLError as error:
        raise UserError(f"{source}: not YAML: {error}") from None
    if root is None:
        raise UserError(f"{source}: the file is empty", hint=hint)
    check_keys(root, source)
    return root


def check_keys(root: yaml.Node, source: str) -> None:
    """Raises UserError where a mapping has a key twice: the one of them that counted would not be told."""
    todo, seen = [(root, "")], {id(root)}
    while todo:
        node, key = todo.pop()
        inner: list[tuple[yaml.Node, str]] = []
        if isinstance(node, yaml.MappingNode):
            known: set[str] = set()
            for name, value in node.value:
                path = f"{key}.{name.value}" if key else str(name.value)
                if str(name.value) in known:
                    raise UserError(f"{source}:{name.start_mark.line + 1}: {path}: given twice")
                known.add(str(name.value))
                inner.append((value, path))
        elif isinstance(node, yaml.SequenceNode):
            inner = [(item, f"{key}[{index}]") for index, item in enumerate(node.value)]
        for item, path in inner:
            if id(item) not in seen:  # an alias is looked at where its anchor is
                seen.add(id(item))
                todo.append((item, path))


class _PlainLoader(yaml.SafeLoader):
    """Times stay text, as JSON has none."""


_PlainLoader.add_constructor("tag:yaml.org,2002:timestamp", lambda loader, node: str(node.value))


def plain(node: yaml.Node, source: str) -> Any:
    """The value of a node, as safe YAML has it. Raises UserError: a tag that nobody knows, or a value that is none."""
    try:
        return _PlainLoader("").construct_document(node)
    except (yaml.MarkedYAMLError, ValueError) as error:
        mark = error.problem_mark if isinstance(error, yaml.MarkedYAMLError) else None
        why = (error.problem if isinstance(error, yaml.MarkedYAMLError) else None) or str(error)
        line = (mark or node.start_mark).line + 1
        raise UserError(f"{source}:{line}: {why}", hint="write plain YAML: mappings, lists, text and numbers") from None


class YamlReader:
    """Walks YAML nodes, which know their lines."""

    def __init__(self, source: str) -> None:
        self._source = source

    def fail(self, node: yaml.Node, key: str, why: str, hint: str | None = None) -> UserError:
        return UserError(f"{self._source}:{node.start_mark.line + 1}: {key or 'the document'}: {why}", hint=hint)

    def mapping(self, node: yaml.Node, key: str, known: dict[str, Read]) -> dict[str, Any]:
        if not isinstance(node, yaml.MappingNode):
            raise self.fail(node, key, "must be a mapping")
        found: dict[str, Any] = {}
        for name_node, value in node.value:
            name = str(name_node.value)
            path = f"{key}.{name}" if key else name
            if name not in known:
                options = ", ".join(sorted(known))
                raise self.fail(name_node, path, f"unknown key; known here: {options}")
            if name in found:
                raise self.fail(name_node, path, "given twice")
            found[name] = known[name](value, path)
        return found

    def items(self, node: yaml.Node, key: str, read: Read) -> list[Any]:
        if not isinstance(node, yaml.SequenceNode):
            raise self.fail(node, key, "must be a list")
        return [read(item, f"{key}[{index}]") for index, item in enumerate(node.value)]

    def text(self, node: yaml.Node, key: str) -> str:
        if not isinstance(node, yaml.ScalarNode):
            raise self.fail(node, key, "must be a string")
        return str(node.value)

    def number(self, node: yaml.Node, key: str, low: int = 0, high: int = 100_000) -> int:
        text = self.text(node, key)
        if not (text.isascii() and text.isdigit()) or not low <= int(text[:20]) <= high:
            raise self.fail(node, key, f"must be a whole number from {low} to {high}, not {text[:40]!r}")
        return int(text)

    def flag(self, node: yaml.Node, key: str) -> bool:
        text = self.text(node, key).lower()
        if text not in ("true", "false"):
            raise self.fail(node, key, f"must be true or false, not {text!r}")
        return text == "true"

    def labels(self, node: yaml.Node, key: str) -> dict[str, str]:
        if not isinstance(node, yaml.MappingNode):
            raise self.fail(node, key, "must be a mapping of strings")
        return {str(k.value): self.text(v, f"{key}.{k.value}") for k, v in node.value}

    def amount(self, node: yaml.Node, key: str) -> str:
        text = self.text(node, key)
        try:
            if quantity.parse(text) < 0:
                raise ValueError
        except ValueError:
            raise self.fail(node, key, f"{text!r} is not a quantity such as 16, 500m or 64Gi") from None
        return text

    def amounts(self, node: yaml.Node, key: str) -> dict[str, str]:
        if not isinstance(node, yaml.MappingNode):
            raise self.fail(node, key, "must be a mapping of quantities")
        return {str(k.value): self.amount(v, f"{key}.{k.value}") for k, v in node.value}

    def cidr(self, node: yaml.Node, key: str) -> str:
        text = self.text(node, key)
        try:
            network = ipaddress.IPv4Network(text)
        except ValueError as error:
            raise self.fail(node, key, f"not an IPv4 network: {error}") from None
        if network.is_loopback:
            raise self.fail(node, key, "API servers refuse loopback addresses in endpoints; use a private network")
        return text

    def port(self, node: yaml.Node, key: str) -> int:
        return self.number(node, key, 0, 65535)

    def constant(self, wanted: str) -> Read:
        def read(node: yaml.Node, key: str) -> str:
            text = self.text(node, key)
            if text != wanted:
                raise self.fail(node, key, f"must be {wanted}, not {text}")
            return text

        return read
