"""Write atoll/cluster/apiserver/behaviour/internal.json: the fields of upstream's internal Go structs.

Some field errors show a value as Go prints its internal (unversioned) type, which has no JSON names: `{"Name":"c",
"Image":"a","Command":null …}`. The order and types of those fields are facts of pkg/apis/*/types.go; the JSON name
beside each is that of the same field in k8s.io/api.

    python tools/make_internal_types.py [~/go/pkg/mod]
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

KUBERNETES, API = "v1.36.3", "v0.36.3"
TARGET = Path(__file__).parent.parent / "atoll/cluster/apiserver/behaviour/internal.json"
ROOTS = ("core.PodSpec", "core.PersistentVolumeClaimSpec", "core.PersistentVolumeSource", "core.SecurityContext",
         "core.PodTemplateSpec", "batch.SuccessPolicy", "batch.PodFailurePolicy", "core.Taint",
         "core.EphemeralContainer")  # fmt: skip
LEAVES = {
    "string": "s", "bool": "b", "int32": "i", "int64": "i", "int": "i", "float64": "i",
    "resource.Quantity": "q", "intstr.IntOrString": "v", "metav1.Time": "v", "metav1.LabelSelector": "v",
    "metav1.ObjectMeta": "v", "types.UID": "s", "api.ResourceList": "m", "ResourceList": "m", "core.ResourceList": "m",
}  # fmt: skip
# Where the internal type keeps a field elsewhere than the versioned one.
MOVED = {
    ("core.PodSecurityContext", "HostNetwork"), ("core.PodSecurityContext", "HostPID"),
    ("core.PodSecurityContext", "HostIPC"), ("core.PodSecurityContext", "ShareProcessNamespace"),
    ("core.PodSecurityContext", "HostUsers"),
}  # fmt: skip
STRUCT = re.compile(r"^type (\w+) struct \{\n(.*?)^\}", re.M | re.S)
ALIAS = re.compile(r"^type (\w+) ([\w\[\]*.]+)\s*$", re.M)
FIELD = re.compile(r"^\t(\w+(?:, \w+)*)\s+([^\s`]+)\s*(?:`([^`]*)`)?(?:\s*//.*)?$")
EMBEDDED = re.compile(r"^\t(?:\w+\.)?(\w+)\s*(?:`[^`]*`)?(?:\s*//.*)?$")


def structs(path: Path) -> tuple[dict[str, str], dict[str, str]]:
    text = path.read_text()
    return dict(STRUCT.findall(text)), dict(ALIAS.findall(text))


class Reader:
    def __init__(self, modules: Path) -> None:
        self.made: dict[str, list[list[str]]] = {}
        self.internal, self.aliases, self.external = {}, {}, {}
        for group in ("core", "batch"):
            found, aliases = structs(modules / f"k8s.io/kubernetes@{KUBERNETES}/pkg/apis/{group}/types.go")
            self.internal |= {f"{group}.{name}": body for name, body in found.items()}
            self.aliases |= {f"{group}.{name}": target for name, target in aliases.items()}
            versioned, _ = structs(modules / f"k8s.io/api@{API}/{group}/v1/types.go")
            self.external |= {f"{group}.{name}": body for name, body in versioned.items()}

    def json_name(self, struct: str, field: str) -> str:
        body = self.external.get(struct, "")
        for line in body.splitlines():
            match = FIELD.match(line)
            if match and match[1] == field and match[3]:
                tag = re.search(r'json:"([^",]*)', match[3])
                return tag[1] if tag else ""
        return field[:1].lower() + field[1:]

    def struct(self, name: str) -> None:
        if name in self.made:
            return
        fields: list[list[str]] = []
        self.made[name] = fields
        group = name.partition(".")[0]
        for line in self.internal[name].splitlines():
            if line.strip().startswith("//") or not line.strip():
                continue
            match = FIELD.match(line)
            if match and match[2] != "//":
                for field in match[1].split(", "):
                    where = "^" if (name, field) in MOVED else ""
                    fields.append([field, where + self.json_name(name, field), self.kind(match[2], group)])
                continue
            embedded = EMBEDDED.match(line)
            if embedded is None:
                continue
            inner = f"{group}.{embedded[1]}"
            if embedded[1] == "ObjectMeta":
                fields.append(["", "metadata", "v"])
            elif inner in self.internal:
                self.struct(inner)
                fields += self.made[inner]

    def kind(self, text: str, group: str) -> str:
        if text.startswith("*"):
            return "*" + self.kind(text[1:], group)
        if text.startswith("[]"):
            inner = self.kind(text[2:], group)
            return "v?" if inner == "byte" else "[]" + inner
        if text.startswith("map["):
            return "m" if "Quantity" in text else "{}" + self.kind(text[text.index("]") + 1 :], group)
        if text == "byte":
            return "byte"
        if text in LEAVES:
            return LEAVES[text]
        name = text if "." in text else f"{group}.{text}"
        name = name.replace("api.", "core.") if name.startswith("api.") else name
        if name in self.internal:
            self.struct(name)
            return name
        if name in self.aliases:
            return self.kind(self.aliases[name], group)
        return "v"


def main() -> None:
    reader = Reader(Path(sys.argv[1] if len(sys.argv) > 1 else "~/go/pkg/mod").expanduser())
    for root in ROOTS:
        reader.struct(root)
    lines = ",\n".join(f"{json.dumps(name)}:{json.dumps(fields, separators=(',', ':'))}"
                       for name, fields in sorted(reader.made.items()))  # fmt: skip
    TARGET.write_text("{\n" + lines + "\n}\n")
    print(f"{len(reader.made)} types, {TARGET.stat().st_size} bytes")


if __name__ == "__main__":
    main()
