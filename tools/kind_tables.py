"""Write the committed tables atoll/kinds/data/{catalog,fields,openapi}.json from the real thing.

    python tools/kind_tables.py

It starts the real kube-apiserver (tests/real/build.py builds it) for discovery and OpenAPI, and runs the Go program
tests/real/go/fields, which prints how Go's JSON encoding treats each field.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

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


def catalog(ask) -> list[dict]:
    """The served resources; `ask(path)` is a GET."""
    groups = [{"group": "", "versions": [{"version": "v1", "resources": resources_of(ask("/api/v1"))}]}]
    for group in ask("/apis")["groups"]:
        versions = [
            {"version": item["version"], "resources": resources_of(ask(f"/apis/{item['groupVersion']}"))}
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


def openapi(ask, table: dict, schemas: dict) -> dict:
    """Enums, and the defaults that do not follow from how Go encodes a field."""
    enums: dict[str, Any] = {}
    defaults: dict[str, Any] = {}
    for entry in ask("/openapi/v3")["paths"].values():
        for name, schema in ask(entry["serverRelativeURL"]).get("components", {}).get("schemas", {}).items():
            facts = table.get(name, {})
            filled = {
                *facts.get("always", "").split(),
                *facts.get("struct", "").split(),
                *facts.get("zero", "").split(),
            }
            filled -= set(facts.get("null", "").split())
            for field, made in schema.get("properties", {}).items():
                items = made.get("items")
                values = made.get("enum") or (items.get("enum") if isinstance(items, dict) else None)
                if values:
                    enums[f"{name} {field}"] = values
                plain = field in filled and schemas[name]["properties"][field].get("type") not in ("array", "object")
                if "default" in made and (not plain or made["default"] not in ("", 0, False, {})):
                    defaults[f"{name} {field}"] = made["default"]
    return {"enums": dict(sorted(enums.items())), "defaults": dict(sorted(defaults.items()))}


def main() -> None:
    sys.path.insert(0, str(ROOT / "tests" / "real"))
    from build import find_go
    from control_plane import control_plane

    go = find_go()
    if go is None:
        raise SystemExit("Go is not on this machine: see tests/real/build.py")
    run = subprocess.run([go, "run", "./fields"], cwd=ROOT / "tests" / "real" / "go", capture_output=True, check=True)
    schemas = load(DATA / "built" / "schemas.json")
    table = fields(json.loads(run.stdout), schemas)
    write(DATA / "fields.json", table)
    with control_plane() as plane:

        def ask(path: str) -> Any:
            return plane.request("GET", path, headers={"Accept": "application/json"}).json()

        write(DATA / "catalog.json", catalog(ask))
        facts = openapi(ask, table, schemas)
    lines = {
        part: "{\n"
        + ",\n".join(f"{json.dumps(k)}:{json.dumps(v, separators=(',', ':'))}" for k, v in rows.items())
        + "\n}"
        for part, rows in facts.items()
    }
    (DATA / "openapi.json").write_text(f'{{"enums":{lines["enums"]},\n"defaults":{lines["defaults"]}}}\n')


if __name__ == "__main__":
    main()
