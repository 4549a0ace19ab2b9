"""JSON patch operations as override policies use them: add, remove, replace at an RFC 6901 pointer, in place."""

from __future__ import annotations

from typing import Any

from atoll.base.errors import UserError


def parse(pointer: str) -> list[str]:
    """The pointer's parts. Raises UserError where it does not begin with a slash."""
    if pointer == "":
        return []
    if not pointer.startswith("/"):
        raise UserError(f"path {pointer!r} must begin with /", hint="paths are JSON pointers such as /spec/replicas")
    return [part.replace("~1", "/").replace("~0", "~") for part in pointer[1:].split("/")]


def get(document: Any, pointer: str) -> Any:
    """The value there. Raises UserError where nothing is."""
    value = document
    for part in parse(pointer):
        value = _step(value, part, pointer)
    return value


def operate(document: Any, operator: str, pointer: str, value: Any = None) -> None:
    """One operation on a document of dicts and lists. Raises UserError where it can't be carried out.

    `add` makes what is missing on the way, and `remove` of what is not there is done already, so that one override
    serves objects that differ.
    """
    parts = parse(pointer)
    if not parts:
        raise UserError(f"{operator} needs a path below the root")
    parent = document
    for number, part in enumerate(parts[:-1]):
        if isinstance(parent, dict) and part not in parent:
            if operator == "remove":
                return
            if operator == "replace":
                raise UserError(f"nothing to replace at {pointer}")
            parent[part] = [] if parts[number + 1] in ("-", "0") else {}
        parent = _step(parent, part, pointer)
    _change(parent, parts[-1], operator, pointer, value)


def _step(value: Any, part: str, pointer: str) -> Any:
    if isinstance(value, dict) and part in value:
        return value[part]
    if isinstance(value, list) and part.isdigit() and int(part) < len(value):
        return value[int(part)]
    raise UserError(f"there is nothing at {part!r} of {pointer}")


def _change(parent: Any, last: str, operator: str, pointer: str, value: Any) -> None:
    if isinstance(parent, dict):
        if operator == "remove":
            parent.pop(last, None)
        elif operator == "replace" and last not in parent:
            raise UserError(f"nothing to replace at {pointer}")
        else:
            parent[last] = value
        return
    if not isinstance(parent, list):
        raise UserError(f"{pointer} is below a value that has no parts")
    if last == "-" and operator == "add":
        parent.append(value)
        return
    if not last.isdigit() or int(last) > len(parent) - (operator != "add"):
        if operator == "remove":
            return
        raise UserError(f"there is no place {last} in the list of {pointer}")
    if operator == "add":
        parent.insert(int(last), value)
    elif operator == "remove":
        del parent[int(last)]
    else:
        parent[int(last)] = value
