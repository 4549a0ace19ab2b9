"""Write atoll/cluster/apiserver/behaviour/shapes.json: how Go reads and writes each built-in type.

A real API server decodes a request into Go structs and encodes them again, which drops unknown and empty fields
and adds zero values that have no `omitempty`. The facts for it (field, type, omitempty, declared default) are in
the struct definitions of k8s.io/api; this reads them from the Go module cache.

    python tools/make_shapes.py [~/go/pkg/mod]
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

VERSION = "v0.36.3"
ROOT = Path(__file__).parent.parent
TARGET = ROOT / "atoll/cluster/apiserver/behaviour/shapes.json"
META = "k8s.io/apimachinery/pkg/apis/meta/v1"

SPECIAL = {
    f"{META}.Time": "Time",
    f"{META}.MicroTime": "MicroTime",
    f"{META}.Duration": "string",
    f"{META}.FieldsV1": "any",
    "k8s.io/apimachinery/pkg/api/resource.Quantity": "Quantity",
    "k8s.io/apimachinery/pkg/util/intstr.IntOrString": "IntOrString",
    "k8s.io/apimachinery/pkg/runtime.RawExtension": "raw",
    "k8s.io/apimachinery/pkg/runtime.Object": "raw",
    "k8s.io/apimachinery/pkg/types.UID": "string",
    "k8s.io/apimachinery/pkg/types.NodeName": "string",
    "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1.JSON": "any",
    "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1.JSONSchemaPropsOrBool": "any",
    "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1.JSONSchemaPropsOrArray": "any",
    "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1.JSONSchemaPropsOrStringArray": "any",
}
SCALARS = {"string": "string", "bool": "bool", "int": "int64", "int32": "int32", "int64": "int64",
           "uint16": "int32",
           "uint32": "int64", "uint64": "int64", "float64": "float", "byte": "byte", "uint8": "byte", "int16": "int32"}  # fmt: skip

CONSTANTS = {"AzureDataDiskCachingReadWrite": "ReadWrite", "AzureSharedBlobDisk": "Shared"}
STRUCT = re.compile(r"^type (\w+) struct \{\n(.*?)^\}", re.M | re.S)
ALIAS = re.compile(r"^type (\w+) (?:= )?([^\s{=]+)\s*(?://.*)?$", re.M)
FIELD = re.compile(r"^\t(\w+)\s+(\S.*?)\s+`([^`]*)`")
EMBEDDED = re.compile(r"^\t([\w.]+)\s+`([^`]*)`")
IMPORT = re.compile(r'^\t?(?:import )?(\w+ )?"([^"]+)"$', re.M)


class Package:
    """The struct and alias definitions of one Go package."""

    def __init__(self, path: str, directory: Path) -> None:
        self.path = path
        self.structs: dict[str, tuple[str, dict[str, str]]] = {}
        self.aliases: dict[str, tuple[str, dict[str, str]]] = {}
        for file in sorted(directory.glob("*.go")):
            if file.name.endswith("_test.go") or file.name.startswith(("zz_", "generated")):
                continue
            text = file.read_text()
            imports = {(alias.strip() or target.rsplit("/", 1)[-1]): target for alias, target in IMPORT.findall(text)}
            for name in re.findall(r"^type (\w+) struct ?\{\}", text, re.M):
                self.structs[name] = ("", imports)
            for name, body in STRUCT.findall(text):
                self.structs[name] = (body, imports)
            for name, target in ALIAS.findall(text):
                if target != "struct" and target != "interface":
                    self.aliases[name] = (target, imports)


class Reader:
    def __init__(self, modules: Path) -> None:
        self.packages: dict[str, Package] = {}
        self.shapes: dict[str, dict[str, list[object]]] = {}
        for module in ("api", "apimachinery", "apiextensions-apiserver", "kube-aggregator"):
            base = modules / f"k8s.io/{module}@{VERSION}"
            for directory in sorted({file.parent for file in base.rglob("types*.go")}):
                relative = directory.relative_to(base).as_posix()
                if module != "api" and f"k8s.io/{module}/{relative}" not in (
                    META,
                    "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1",
                    "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1",
                ):
                    continue
                path = f"k8s.io/{module}/{relative}"
                self.packages[path] = Package(path, directory)

    def short(self, path: str) -> str:
        path = path.replace("k8s.io/", "").replace("/pkg/apis", "")
        return path.removeprefix("api/").removeprefix("apimachinery/").replace("apiextensions-apiserver/", "").replace(
            "kube-aggregator/", ""
        )  # fmt: skip

    def resolve(self, text: str, path: str, imports: dict[str, str]) -> str:
        text = text.strip()
        if text.startswith("*"):
            return "*" + self.resolve(text[1:], path, imports)
        if text.startswith("[]"):
            inner = self.resolve(text[2:], path, imports)
            return "bytes" if inner == "byte" else "[]" + inner
        if text.startswith("map["):
            return "{}" + self.resolve(text[text.index("]") + 1 :], path, imports)
        if text == "interface{}":
            return "any"
        if text in SCALARS:
            return SCALARS[text]
        if "." in text:
            alias, name = text.split(".")
            path = imports[alias]
        else:
            name = text
        full = f"{path}.{name}"
        if full in SPECIAL:
            return SPECIAL[full]
        package = self.packages.get(path)
        if package is None:
            raise SystemExit(f"unknown package of {full}")
        if name in package.structs:
            self.struct(path, name)
            return f"{self.short(path)}.{name}"
        if name in package.aliases:
            target, imports = package.aliases[name]
            if full.endswith("core/v1.ResourceList"):
                return "ResourceList"
            return self.resolve(target, path, imports)
        raise SystemExit(f"unknown type {full}")

    def struct(self, path: str, name: str) -> None:
        key = f"{self.short(path)}.{name}"
        if key in self.shapes:
            return
        shape: dict[str, list[object]] = {}
        self.shapes[key] = shape
        body, imports = self.packages[path].structs[name]
        default: object = None
        for line in body.splitlines():
            marker = re.match(r"^\t// \+default=(.*)$", line)
            if marker:
                default = self.default(marker[1].strip())
                continue
            embedded = EMBEDDED.match(line)
            if embedded and "inline" in embedded[2]:
                inner = self.resolve(embedded[1], path, imports)
                shape.update(self.shapes[inner])
                default = None
                continue
            field = FIELD.match(line) if not embedded else re.match(r"^\t([\w.]+)()\s+`([^`]*)`", line)
            if not field:
                if line.strip() and not line.strip().startswith("//"):
                    default = None
                continue
            tag = re.search(r'json:"([^"]*)"', field[3])
            if not tag or tag[1] == "-":
                default = None
                continue
            parts = tag[1].split(",")
            mode = "z" if "omitzero" in parts else "o" if "omitempty" in parts else "a"
            kind = self.resolve(field[2] or embedded[1], path, imports)  # type: ignore[index]
            entry: list[object] = [kind, mode]
            if default is not None:
                entry.append(default)
            shape[parts[0] or field[1]] = entry
            default = None

    @staticmethod
    def default(text: str) -> object:
        if text.startswith("ref("):
            return CONSTANTS[text[4:-1].rsplit(".", 1)[-1]]
        return json.loads(text)


def main() -> None:
    modules = Path(sys.argv[1] if len(sys.argv) > 1 else "~/go/pkg/mod").expanduser()
    reader = Reader(modules)
    for path, package in sorted(reader.packages.items()):
        for name, (body, _) in sorted(package.structs.items()):
            if 'TypeMeta `json:",inline"' in body or name in ("ObjectMeta", "LabelSelector"):
                reader.struct(path, name)
    lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(shape, separators=(',', ':'))}"
                       for key, shape in sorted(reader.shapes.items()))  # fmt: skip
    TARGET.write_text("{\n" + lines + "\n}\n")
    print(f"{len(reader.shapes)} types, {TARGET.stat().st_size} bytes")


if __name__ == "__main__":
    main()
