"""Record tests/unit/goldens from a real kube-apiserver:  python tests/real/goldens

field_managers.json  managedFields, results and conflicts of applies and patches (field_managers.yaml)
tables.json          rows of kubectl's tables (tables.yaml)
messages.json        what the server says of bad selectors and bad objects (messages.yaml)
"""

from __future__ import annotations

import json
import sys
import time
import urllib.parse
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from control_plane import ControlPlane, control_plane  # noqa: E402

from atoll.kinds.catalog import catalog  # noqa: E402

TARGET = HERE.parents[1] / "unit" / "goldens"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
MERGE = "application/merge-patch+json"
# rows that the server prints from another version, or in another order, than its list
_LEFT_OUT = {"events.events.k8s.io", "flowschemas.flowcontrol.apiserver.k8s.io", "componentstatuses"}
_LARGE = {"clusterroles.rbac.authorization.k8s.io", "roles.rbac.authorization.k8s.io",
          "apiservices.apiregistration.k8s.io"}  # fmt: skip
_MOST_ROWS = 9


class Server:
    """JSON in, JSON out."""

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane

    def __call__(
        self, method: str, path: str, body: Any = None, kind: str = "application/json", accept: str = ""
    ) -> Any:
        headers = {"Content-Type": kind, "Accept": accept or "application/json"}
        data = None if body is None else json.dumps(body).encode()
        return self._plane.request(method, path, data, headers).json()


def message(answer: Any) -> str | None:
    return answer["message"] if answer.get("kind") == "Status" and answer.get("status") == "Failure" else None


def record_messages(server: Server) -> dict[str, list[Any]]:
    asked = yaml.safe_load((HERE / "messages.yaml").read_text())
    pods = "/api/v1/namespaces/default/pods"
    deployments = "/apis/apps/v1/namespaces/default/deployments?dryRun=All&fieldValidation=Strict"
    quote = urllib.parse.quote
    return {
        "labels": [[text, message(server("GET", f"{pods}?labelSelector={quote(text)}"))] for text in asked["labels"]],
        "fields": [[text, message(server("GET", f"{pods}?fieldSelector={quote(text)}"))] for text in asked["fields"]],
        "decode": [[obj, message(server("POST", deployments, obj))] for obj in asked["decode"]],
    }


def record_field_managers(server: Server) -> list[Any]:
    recorded = []
    for case in yaml.safe_load_all((HERE / "field_managers.yaml").read_text()):
        live = None
        path = f"{case['path']}/{case['name']}"
        if "create" in case:
            live = server("POST", f"{case['path']}?fieldManager=kubectl-client-side-apply", case["create"])
        for step in case["steps"]:
            operation, manager = next(item for item in step.items() if item[0] not in ("force", "body"))
            body, force = step["body"], step.get("force", False)
            query = f"?fieldManager={manager}"
            if operation == "apply":
                query += f"&force={str(force).lower()}"
                names = {"name": case["name"]} | ({"namespace": "default"} if "namespaces" in path else {})
                body = {"apiVersion": case["apiVersion"], "kind": case["kind"], **body}
                body["metadata"] = {**names, **step["body"].get("metadata", {})}
            kind = "application/apply-patch+yaml" if operation == "apply" else f"application/{operation}+json"
            answer = server("PATCH", path + query, body, kind)
            recorded.append({"apiVersion": case["apiVersion"], "kind": case["kind"], "live": live,
                             "operation": operation, "body": body, "manager": manager, "force": force,
                             "answer": answer})  # fmt: skip
            live = live if message(answer) else answer
    return recorded


def make_objects(server: Server) -> None:
    for entry in yaml.safe_load_all((HERE / "tables.yaml").read_text()):
        name = entry.get("name")
        if "object" in entry:
            name = entry["object"]["metadata"]["name"]
            problem = message(server("POST", entry["path"], entry["object"]))
            if problem and "already exists" not in problem:
                raise SystemExit(f"{entry['path']}/{name}: {problem}")
        if "status" in entry:
            problem = message(server("PATCH", f"{entry['path']}/{name}/status", {"status": entry["status"]}, MERGE))
            if problem:
                raise SystemExit(f"{entry['path']}/{name}/status: {problem}")


def rows_of(server: Server, path: str, resource: str, **more: Any) -> list[Any]:
    now = time.time()
    table, listed = server("GET", path, accept=TABLE), server("GET", path)
    recorded = []
    for index, (obj, row) in enumerate(zip(listed["items"], table["rows"] or (), strict=True)):
        if index == _MOST_ROWS:
            break
        obj["metadata"].pop("managedFields", None)
        entry = {"resource": resource, "now": round(now, 2), "object": obj, "cells": row["cells"], **more}
        if row.get("conditions"):
            entry["conditions"] = row["conditions"]
        if index == 0:
            entry["columns"] = [[item[key] for key in ("name", "type", "format", "priority")]
                                for item in table["columnDefinitions"]]  # fmt: skip
        recorded.append(entry)
    return recorded


def record_tables(server: Server) -> list[Any]:
    make_objects(server)
    recorded = []
    for item in catalog():
        resource = item.resource
        if "list" not in item.verbs or resource.group_resource in _LEFT_OUT | _LARGE:
            continue
        if (resource.group, resource.version) == ("autoscaling", "v1"):
            continue
        recorded += rows_of(server, resource.path(), resource.group_resource)
    crd = next(iter(yaml.safe_load_all((HERE / "tables.yaml").read_text())))["object"]["spec"]
    for version in crd["versions"]:
        path = f"/apis/{crd['group']}/{version['name']}/{crd['names']['plural']}"
        columns = version.get("additionalPrinterColumns")
        recorded += rows_of(server, path, f"{crd['names']['plural']}.{crd['group']}", printerColumns=columns)
    return recorded


def lines(values: list[Any]) -> str:
    return "[\n" + ",\n".join(json.dumps(value, separators=(",", ":")) for value in values) + "\n]"


def main() -> None:
    with control_plane() as plane:
        server = Server(plane)
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
        server("POST", "/api/v1/namespaces/default/serviceaccounts", account)
        messages = record_messages(server)
        (TARGET / "field_managers.json").write_text(lines(record_field_managers(server)) + "\n")
        (TARGET / "tables.json").write_text(lines(record_tables(server)) + "\n")
    text = ",\n".join(f'"{name}":{lines(values)}' for name, values in messages.items())
    (TARGET / "messages.json").write_text("{\n" + text + "\n}\n")


if __name__ == "__main__":
    main()
