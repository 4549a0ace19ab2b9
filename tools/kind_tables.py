"""Write the committed tables atoll/kinds/data/{catalog,fields}.json from the real thing.

    python tools/kind_tables.py DISCOVERY_FOLDER FIELDS_JSON

DISCOVERY_FOLDER holds answers of a real kube-apiserver: `apis.json`, `v1.json` and
`GROUP__VERSION.json` (APIResourceList).
FIELDS_JSON is what `tests/real/go/fields` prints.
"""

import json
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
DATA = ROOT / "atoll" / "kinds" / "data"
FULL = "create delete deletecollection get list patch update watch"


def verbs_of(item: dict) -> str:
    verbs = " ".join(item["verbs"])
    return "*" if verbs == FULL else verbs


def group_version_of(item: dict) -> str:
    return "/".join(part for part in (item.get("group", ""), item.get("version", "")) if part)


def resources_of(listing: dict) -> list[dict]:
    rows: dict[str, dict] = {}
    for item in listing["resources"]:
        plural, _, subresource = item["name"].partition("/")
        if not subresource:
            row = {"name": plural, "singular": item["singularName"], "kind": item["kind"], "verbs": verbs_of(item)}
            if item["namespaced"]:
                row["namespaced"] = True
            for key in ("shortNames", "categories", "storageVersionHash"):
                if item.get(key):
                    row[key] = item[key]
            if item.get("group") or item.get("version"):
                row["apiVersion"] = group_version_of(item)
            rows[plural] = row
            continue
        sub = {"name": subresource, "kind": item["kind"], "verbs": " ".join(item["verbs"])}
        if item.get("group") or item.get("version"):
            sub["apiVersion"] = group_version_of(item)
        rows[plural].setdefault("subresources", []).append(sub)
    return list(rows.values())


def catalog(folder: Path) -> list[dict]:
    groups = [{"group": "", "versions": [{"version": "v1", "resources": resources_of(load(folder / "v1.json"))}]}]
    for group in load(folder / "apis.json")["groups"]:
        versions = [
            {
                "version": item["version"],
                "resources": resources_of(load(folder / f"{group['name']}__{item['version']}.json")),
            }
            for item in group["versions"]
        ]
        groups.append({"group": group["name"], "versions": versions})
    return groups


def load(path: Path) -> dict:
    return json.loads(path.read_bytes())


def definition_name(go_name: str) -> str:
    path, _, kind = go_name.rpartition(".")
    host, _, rest = path.partition("/")
    return ".".join([*reversed(host.split(".")), *rest.split("/"), kind])


def derived_type(schema: dict) -> str:
    """The Go type that the schema alone suggests."""
    if "$ref" in schema:
        package, kind = schema["$ref"].split(".")[-2:]
        return f"{package}.{kind}"
    match schema.get("type"):
        case "array":
            return "[]" + derived_type(schema.get("items", {}))
        case "object":
            return "map[string]" + derived_type(schema.get("additionalProperties") or {})
        case "integer":
            return schema.get("format", "int64")
        case "boolean":
            return "bool"
        case "number":
            return "float64"
    return "string"


def fields(go: dict, schemas: dict) -> dict:
    table = {}
    for go_name, members in sorted(go.items()):
        name = definition_name(go_name)
        properties = schemas.get(name, {}).get("properties")
        if not properties:
            continue
        row: dict[str, list] = {"omit": [], "zero": [], "always": [], "struct": []}
        types = {}
        for field, fact in members.items():
            if field not in properties:
                continue
            is_struct = fact["kind"] == "struct"
            if fact.get("pointer"):
                if not fact.get("omitempty"):
                    row["always"].append(field)
            elif fact.get("omitzero"):
                row["zero"].append(field)
            elif is_struct:
                row["struct"].append(field)
            elif fact.get("omitempty"):
                row["omit"].append(field)
            else:
                row["always"].append(field)
            if fact["type"] != derived_type(properties[field]):
                types[field] = fact["type"]
        short = {key: " ".join(sorted(value)) for key, value in row.items() if value}
        pointers = sorted(f for f in row["always"] if members[f].get("pointer"))
        if pointers:
            short["null"] = " ".join(pointers)
        if types:
            short["types"] = types
        if short:
            table[name] = short
    return table


def write(path: Path, rows: dict | list) -> None:
    """One entry a line, so that a change is read as a diff."""
    dump = lambda value: json.dumps(value, separators=(",", ":"), sort_keys=isinstance(rows, dict))
    if isinstance(rows, dict):
        text = "{\n" + ",\n".join(f"{json.dumps(key)}:{dump(value)}" for key, value in rows.items()) + "\n}\n"
    else:
        text = "[\n" + ",\n".join(dump(value) for value in rows) + "\n]\n"
    path.write_text(text)


def main() -> None:
    folder, go = Path(sys.argv[1]), load(Path(sys.argv[2]))
    write(DATA / "catalog.json", catalog(folder))
    write(DATA / "fields.json", fields(go, load(DATA / "built" / "schemas.json")))


if __name__ == "__main__":
    main()
