"""Makes the CRDs that Atoll serves: compact JSON in atoll/kinds/data, from the projects' published schemas.

    python tools/generate_crds.py /path/to/apis          writes
    python tools/generate_crds.py /path/to/apis --check  exits 1 where what is committed differs

A hub's go to `crds`, those of a cluster with queueing to `queueing`, those of one with batch kinds to `batch`. Only
what a server needs to accept, default and print an object is kept: no descriptions, no annotations.
Cluster (cluster.karmada.io) is no CRD upstream: its schema is made from its OpenAPI document.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import yaml

OUT = Path(__file__).parent.parent / "atoll" / "kinds" / "data"
GROUPS = (
    "apps.karmada.io", "autoscaling.karmada.io", "config.karmada.io", "networking.karmada.io", "policy.karmada.io",
    "remedy.karmada.io", "work.karmada.io", "multicluster.x-k8s.io",
)  # fmt: skip
QUEUEING = ("kueue.x-k8s.io",)
BATCH = (
    "jobset.x-k8s.io", "leaderworkerset.x-k8s.io", "scheduling.x-k8s.io", "scheduling.volcano.sh", "batch.volcano.sh",
)  # fmt: skip
KEPT = ("name", "served", "storage", "deprecated", "subresources")
ANYTHING = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
CLUSTER = "com.github.karmada-io.karmada.pkg.apis.cluster.v1alpha1.Cluster"
QUANTITY_PATTERN = (
    r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))"
    r"(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$"
)
QUANTITY = {"anyOf": [{"type": "integer"}, {"type": "string"}], "pattern": QUANTITY_PATTERN,
            "x-kubernetes-int-or-string": True}  # fmt: skip
CLUSTER_COLUMNS = [
    {"name": "Version", "type": "string", "jsonPath": ".status.kubernetesVersion"},
    {"name": "Mode", "type": "string", "jsonPath": ".spec.syncMode"},
    {"name": "Ready", "type": "string", "jsonPath": '.status.conditions[?(@.type=="Ready")].status'},
    {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
    {"name": "Zones", "type": "string", "jsonPath": ".spec.zones", "priority": 1},
    {"name": "Region", "type": "string", "jsonPath": ".spec.region", "priority": 1},
    {"name": "Provider", "type": "string", "jsonPath": ".spec.provider", "priority": 1},
    {"name": "APIEndpoint", "type": "string", "jsonPath": ".spec.apiEndpoint", "priority": 1},
]


def strip(schema: Any) -> Any:
    """The schema without descriptions (a property named `description` stays)."""
    if isinstance(schema, list):
        return [strip(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    out = {}
    for key, value in schema.items():
        if key == "description" and isinstance(value, str):
            continue
        if key in ("properties", "patternProperties", "definitions") and isinstance(value, dict):
            out[key] = {name: strip(item) for name, item in value.items()}
        elif key in ("default", "enum", "x-kubernetes-validations", "required"):
            out[key] = value
        else:
            out[key] = strip(value)
    return out


def crd(group: str, names: dict[str, Any], scope: str, versions: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{names['plural']}.{group}"},
        "spec": {"group": group, "names": names, "scope": scope, "versions": versions},
    }


def from_published(document: dict[str, Any]) -> dict[str, Any]:
    spec = document["spec"]
    versions = []
    for version in spec["versions"]:
        kept = {key: version[key] for key in KEPT if key in version}
        schema = (version.get("schema") or {}).get("openAPIV3Schema") or ANYTHING
        kept["schema"] = {"openAPIV3Schema": strip(schema)}
        if version.get("additionalPrinterColumns"):
            kept["additionalPrinterColumns"] = strip(version["additionalPrinterColumns"])
        versions.append(kept)
    return crd(spec["group"], spec["names"], spec["scope"], versions)


def inline(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """The schema with its references put in place, as a structural schema."""
    reference = schema.get("$ref")
    if reference:
        name = reference.removeprefix("#/definitions/")
        if name.endswith("api.resource.Quantity"):
            return dict(QUANTITY)
        if name.endswith("meta.v1.ObjectMeta"):
            return {"type": "object"}
        if name.endswith("meta.v1.Time"):
            return {"type": "string", "format": "date-time"}
        if name.endswith("meta.v1.Condition"):
            return inline(CONDITION, definitions)
        return inline(definitions[name], definitions)
    out: dict[str, Any] = {}
    for key in ("type", "format", "required", "enum", "minimum", "maximum", "pattern", "additionalProperties"):
        if key in schema:
            out[key] = schema[key]
    if "properties" in schema:
        out["properties"] = {name: inline(item, definitions) for name, item in schema["properties"].items()}
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            out[key] = inline(schema[key], definitions)
    return out


CONDITION: dict[str, Any] = {
    "type": "object",
    "required": ["type", "status", "lastTransitionTime", "reason", "message"],
    "properties": {
        "type": {"type": "string"},
        "status": {"type": "string", "enum": ["True", "False", "Unknown"]},
        "observedGeneration": {"type": "integer", "format": "int64"},
        "lastTransitionTime": {"type": "string", "format": "date-time"},
        "reason": {"type": "string"},
        "message": {"type": "string"},
    },
}


def cluster(document: dict[str, Any], group: str) -> dict[str, Any]:
    """The Cluster kind under `group`: cluster.karmada.io in the embedded hub, our own as storage on a real one."""
    schema = inline(document["definitions"][CLUSTER], document["definitions"])
    schema["properties"] |= {"apiVersion": {"type": "string"}, "kind": {"type": "string"}}
    names = {"kind": "Cluster", "listKind": "ClusterList", "plural": "clusters", "singular": "cluster"}
    if group == "cluster.karmada.io":
        names["categories"] = ["karmada-io"]  # type: ignore[assignment]
    version = {"name": "v1alpha1", "served": True, "storage": True, "subresources": {"status": {}},
               "schema": {"openAPIV3Schema": schema}, "additionalPrinterColumns": CLUSTER_COLUMNS}  # fmt: skip
    return crd(group, names, "Cluster", [version])


def budget() -> dict[str, Any]:
    """Our own kind: how much may be destroyed in a while, what is held back, and how a person confirms it."""
    text, whole = {"type": "string"}, {"type": "integer", "format": "int64"}
    held = {"type": "object", "required": ["kind"], "properties": {
        "id": text, "kind": text, "objects": whole, "limit": whole, "reason": text,
        "since": {"type": "string", "format": "date-time"}, "confirm": text}}  # fmt: skip
    window = {"type": "object", "required": ["kind"], "properties": {
        "kind": text, "deleted": whole, "limit": whole,
        "since": {"type": "string", "format": "date-time"}}}  # fmt: skip
    schema = {"type": "object", "properties": {
        "apiVersion": text, "kind": text, "metadata": {"type": "object"},
        "spec": {"type": "object", "properties": {
            "percent": {"type": "integer", "minimum": 0, "maximum": 100, "default": 20},
            "atLeast": {"type": "integer", "minimum": 0, "default": 20},
            "windowSeconds": {"type": "integer", "minimum": 1, "default": 600}}},
        "status": {"type": "object", "properties": {
            "held": {"type": "array", "items": held}, "windows": {"type": "array", "items": window}}}}}  # fmt: skip
    names = {"kind": "DestructionBudget", "listKind": "DestructionBudgetList", "plural": "destructionbudgets",
             "singular": "destructionbudget"}  # fmt: skip
    version = {"name": "v1alpha1", "served": True, "storage": True, "subresources": {"status": {}},
               "schema": {"openAPIV3Schema": schema}, "additionalPrinterColumns": [
                   {"name": "Percent", "type": "integer", "jsonPath": ".spec.percent"},
                   {"name": "At-Least", "type": "integer", "jsonPath": ".spec.atLeast"},
                   {"name": "Held", "type": "integer", "jsonPath": ".status.held[0].objects"},
                   {"name": "Kind", "type": "string", "jsonPath": ".status.held[0].kind"},
                   {"name": "Confirm", "type": "string", "jsonPath": ".status.held[0].confirm"}]}  # fmt: skip
    return crd("fleet.atoll.dev", names, "Cluster", [version])


def command() -> dict[str, Any]:
    """Volcano's Command: small, and without a spec; `target` is an owner reference."""
    names = {"kind": "Command", "listKind": "CommandList", "plural": "commands", "singular": "command"}
    text = {"type": "string"}
    target = {
        "type": "object", "x-kubernetes-map-type": "atomic", "required": ["apiVersion", "kind", "name", "uid"],
        "properties": {**dict.fromkeys(("apiVersion", "kind", "name", "uid"), text),
                       "blockOwnerDeletion": {"type": "boolean"}, "controller": {"type": "boolean"}},
    }  # fmt: skip
    fields = ("action", "apiVersion", "kind", "message", "reason")
    properties = {**dict.fromkeys(fields, text), "metadata": {"type": "object"}, "target": target}
    schema = {"openAPIV3Schema": {"type": "object", "properties": properties}}
    version = {"name": "v1alpha1", "served": True, "storage": True, "schema": schema}
    return crd("bus.volcano.sh", names, "Namespaced", [version])


def published(apis: Path, groups: tuple[str, ...]) -> list[dict[str, Any]]:
    """The CRDs of those groups, as we serve them."""
    found = []
    for path in sorted(apis.glob("*.yaml")):
        for document in yaml.load_all(path.read_text(), yaml.CSafeLoader):
            if document and document["spec"]["group"] in groups:
                found.append(from_published(document))
    return found


def generate(apis: Path) -> dict[str, str]:
    """Path below `data` → content."""
    clusters = json.loads((apis / "cluster.karmada.io_clusters.openapi.json").read_text())
    own = [cluster(clusters, "cluster.karmada.io"), cluster(clusters, "fleet.atoll.dev"), budget()]
    folders = {
        "crds": [*published(apis, GROUPS), *own],
        "queueing": published(apis, QUEUEING),
        "batch": [*published(apis, BATCH), command()],
    }
    return {
        f"{folder}/{item['metadata']['name']}.json": json.dumps(item, separators=(",", ":"), sort_keys=True) + "\n"
        for folder, items in folders.items()
        for item in items
    }


def main(arguments: list[str]) -> int:
    files = generate(Path(arguments[0]))
    existing = [path for folder in ("batch", "crds", "queueing") for path in (OUT / folder).glob("*.json")]
    if "--check" in arguments:
        committed = {f"{path.parent.name}/{path.name}": path.read_text() for path in existing}
        for name in sorted(files.keys() ^ committed.keys() | {n for n in files if files[n] != committed.get(n)}):
            print(f"differs: {name}")
        return int(files != committed)
    for path in existing:
        path.unlink()
    for name, content in files.items():
        (OUT / name).parent.mkdir(parents=True, exist_ok=True)
        (OUT / name).write_text(content)
    print(f"{len(files)} CRDs, {sum(map(len, files.values())) // 1024} KiB")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
