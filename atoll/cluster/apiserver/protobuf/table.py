"""The committed table of field numbers, read message by message as they are needed.

fields.txt has blocks between blank lines: a note, the groups (`apps/v1 api.apps.v1`), then a block per message: its
name and lines of `number name type [k]`. The name is JSON's; `<` is a message whose fields belong to the outer object.
Types: s string, b bytes, t bool, i signed and u unsigned integer, d double, else a message (`.Name` in the same
package); `*` repeated, `%` a map from strings. `k` keeps a zero value, as it is a pointer in Go or has no omitempty:
a client that writes protobuf sends zeros that a client that writes JSON would leave out.
"""

from __future__ import annotations

import functools
from importlib import resources

from msgspec import Struct

_META = "apimachinery.pkg.apis.meta.v1"

# Messages whose JSON is not an object of their fields, by full name; see `decoder`.
_SPECIAL = {
    f"{_META}.Time": "time",
    f"{_META}.MicroTime": "micro_time",
    f"{_META}.Duration": "duration",
    f"{_META}.FieldsV1": "raw_json",
    f"{_META}.Verbs": "items",
    "apimachinery.pkg.runtime.RawExtension": "raw_extension",
    "apimachinery.pkg.util.intstr.IntOrString": "int_or_string",
    "apimachinery.pkg.api.resource.Quantity": "quantity",
    "apimachinery.pkg.api.resource.QuantityValue": "quantity",
}
_SPECIAL_NAMES = {
    "ExtraValue": "items",
    "JSON": "raw_json",
    "JSONSchemaPropsOrArray": "schema_or_array",
    "JSONSchemaPropsOrBool": "schema_or_bool",
    "JSONSchemaPropsOrStringArray": "schema_or_strings",
}


class Field(Struct, frozen=True):
    """One field. `kind` is a scalar's letter, "message", or the name of a special form."""

    name: str  # JSON's; "" for an inlined message
    kind: str
    message: str  # of a message
    repeated: bool
    mapped: bool
    keeps_zero: bool


class Table:
    """All messages; each parsed at its first use."""

    def __init__(self, text: str) -> None:
        blocks = text.strip("\n").split("\n\n")
        self._packages = dict(line.split(" ") for line in blocks[1].splitlines())
        self._blocks: dict[str, str] = {}
        for block in blocks[2:]:
            name, _, body = block.partition("\n")
            self._blocks[name] = body
        self._fields: dict[str, dict[int, Field]] = {}

    def message_of(self, api_version: str, kind: str) -> str | None:
        """The message of a kind. Options and Status are known in every group version."""
        for package in (self._packages.get(api_version), _META):
            if package is not None and f"{package}.{kind}" in self._blocks:
                return f"{package}.{kind}"
        return None

    def fields(self, message: str) -> dict[int, Field]:
        found = self._fields.get(message)
        if found is None:
            package = message.rsplit(".", 1)[0]
            found = {}
            for line in self._blocks[message].splitlines():
                number, field = _parse(line, package)
                found[number] = field
            self._fields[message] = found
        return found

    @property
    def messages(self) -> list[str]:
        return list(self._blocks)


def _parse(line: str, package: str) -> tuple[int, Field]:
    number, name, code, *flags = line.split(" ")
    repeated, mapped = code.startswith("*"), code.startswith("%")
    code = code.lstrip("*%")
    message = ""
    kind = code
    if len(code) > 1:
        message = package + code if code.startswith(".") else code
        kind = _SPECIAL.get(message) or _SPECIAL_NAMES.get(message.rsplit(".", 1)[1]) or "message"
    return int(number), Field("" if name == "<" else name, kind, message, repeated, mapped, "k" in flags)


@functools.cache
def table() -> Table:
    """The committed table."""
    return Table(resources.files(__package__).joinpath("fields.txt").read_text())
