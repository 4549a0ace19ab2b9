"""Generate atoll/cluster/apiserver/protobuf/fields.txt: the field numbers of Kubernetes' protobuf messages.

    python tools/protobuf_fields.py [MODULE_CACHE] > atoll/cluster/apiserver/protobuf/fields.txt

Facts are read from the published modules (k8s.io/api, apimachinery, apiextensions-apiserver, kube-aggregator): message
structure from generated.proto, and from the Go types beside it each field's JSON name, whether it is inlined, and
whether a zero value is kept in JSON (a pointer, or no omitempty). tests/real checks the committed file.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

VERSION = "v0.36.3"
MODULES = ("api", "apimachinery", "apiextensions-apiserver", "kube-aggregator")
SKIPPED = ("testapigroup", "imagepolicy", "apidiscovery", "apiserverinternal")
PACKAGE = "k8s.io."

_MESSAGE = re.compile(r"^message (\w+) \{$(.*?)^\}$", re.MULTILINE | re.DOTALL)
_PROTO_FIELD = re.compile(
    r"^\s+(?:(optional|repeated|required) )?(map<string, ([\w.]+)>|[\w.]+) (\w+) = (\d+)", re.MULTILINE
)
_STRUCT = re.compile(r"^type (\w+) struct \{$(.*?)^\}$", re.MULTILINE | re.DOTALL)
_GO_FIELD = re.compile(r"^\t(?:(\w+)[ \t]+)?([^\s`]+)[ \t]*`([^`]*)`", re.MULTILINE)
_SCALARS = {"string": "s", "bytes": "b", "bool": "t", "int32": "i", "int64": "i", "uint32": "u", "double": "d"}


class GoField(NamedTuple):
    json_name: str  # "" inlined, "-" not in JSON
    keeps_zero: bool


def go_fields(folder: Path) -> dict[str, dict[int, GoField]]:
    """Struct name to its fields by protobuf number."""
    structs: dict[str, dict[int, GoField]] = {}
    for path in sorted(folder.glob("*.go")):
        if path.name.startswith("zz_") or path.name.endswith(("_test.go", ".pb.go")):
            continue
        for name, body in _STRUCT.findall(path.read_text()):
            fields = structs.setdefault(name, {})
            for _, go_type, tag in _GO_FIELD.findall(body):
                protobuf = re.search(r'protobuf:"\w+,(\d+)', tag)
                json = re.search(r'json:"([^"]*)"', tag)
                if protobuf is None or json is None:
                    continue
                json_name, *options = json[1].split(",")
                keeps = go_type.startswith("*") or not ({"omitempty", "omitzero"} & set(options))
                fields[int(protobuf[1])] = GoField("" if "inline" in options else json_name, keeps)
    return structs


def type_code(name: str, package: str) -> str:
    """A scalar's letter, or a message's name: .Local or full without the common prefix."""
    if name in _SCALARS:
        return _SCALARS[name]
    if not name.startswith("."):
        return f".{name}"
    name = name[1:]
    if name.startswith(package + ".") and "." not in name[len(package) + 1 :]:
        return name[len(package) :]
    return name.removeprefix(PACKAGE)


def message_lines(name: str, body: str, package: str, go: dict[int, GoField]) -> list[str]:
    lines = [f"{package.removeprefix(PACKAGE)}.{name}"]
    for label, whole, map_value, proto_name, number in _PROTO_FIELD.findall(body):
        field = go.get(int(number), GoField(proto_name, False))
        if field.json_name == "-":
            continue
        code = "%" + type_code(map_value, package) if map_value else type_code(whole, package)
        if label == "repeated":
            code = "*" + code
        lines.append(f"{number} {field.json_name or '<'} {code}{' k' if field.keeps_zero and field.json_name else ''}")
    return lines


def generate(cache: Path) -> str:
    groups: list[str] = []
    blocks: list[str] = []
    for module in MODULES:
        root = cache / "k8s.io" / f"{module}@{VERSION}"
        for proto in sorted(root.rglob("generated.proto")):
            if any(part in SKIPPED for part in proto.parts):
                continue
            text = proto.read_text()
            found = re.search(r"^package ([\w.]+);", text, re.MULTILINE)
            assert found, proto
            package = found[1]
            register = proto.parent / "register.go"
            group = re.search(r'GroupName\s*=\s*"([^"]*)"', register.read_text()) if register.exists() else None
            if group is not None:
                version = package.rsplit(".", 1)[1]
                api_version = f"{group[1]}/{version}" if group[1] else version
                groups.append(f"{api_version} {package.removeprefix(PACKAGE)}")
            go = go_fields(proto.parent)
            for name, body in _MESSAGE.findall(text):
                blocks.append("\n".join(message_lines(name, body, package, go.get(name, {}))))
    head = f"Made by tools/protobuf_fields.py from the k8s.io modules {VERSION}; table.py says how to read it."
    return "\n\n".join([head, "\n".join(groups), *blocks]) + "\n"


def module_cache() -> Path:
    found = subprocess.run(["go", "env", "GOMODCACHE"], capture_output=True, text=True, check=True)
    return Path(found.stdout.strip())


if __name__ == "__main__":
    sys.stdout.write(generate(Path(sys.argv[1]) if len(sys.argv) > 1 else module_cache()))
