"""Our tables of kinds are what Kubernetes says: field facts, discovery and OpenAPI against the real server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
sys.path.insert(0, str(HERE.parents[1] / "tools"))
import kind_tables  # noqa: E402
from build import find_go  # noqa: E402
from control_plane import ControlPlane, available, control_plane  # noqa: E402

from atoll.cluster.apiserver.discovery import AGGREGATED, Discovery  # noqa: E402
from atoll.cluster.apiserver.openapi import OpenApi  # noqa: E402
from atoll.cluster.apiserver.openapi_schemas import META  # noqa: E402

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def plane() -> Any:
    if not available():
        pytest.skip("the real programs are not built")
    with control_plane() as running:
        yield running


def answer(plane: ControlPlane, path: str, accept: str = "application/json") -> Any:
    return plane.request("GET", path, headers={"Accept": accept}).json()


def ours(document: Any) -> Any:
    assert document is not None
    return json.loads(document.body)


def test_field_facts_are_those_of_the_go_types() -> None:
    go = find_go()
    if go is None:
        pytest.skip("Go is not on this machine")
    environment = {**os.environ, "GOFLAGS": "-mod=readonly"}
    run = subprocess.run([go, "run", "./fields"], cwd=HERE / "go", capture_output=True, check=True, env=environment)
    schemas = json.loads((kind_tables.DATA / "built" / "schemas.json").read_bytes())
    made = kind_tables.fields(json.loads(run.stdout), schemas)
    assert made == json.loads((kind_tables.DATA / "fields.json").read_bytes())


def test_discovery(plane: ControlPlane) -> None:
    address = answer(plane, "/api")["serverAddressByClientCIDRs"][0]["serverAddress"]
    discovery = Discovery(server_address=address)
    paths = ["/api", "/apis", "/api/v1"]
    for group in discovery.groups:
        if group.name:
            paths += [f"/apis/{group.name}", *(f"/apis/{group.name}/{item.version}" for item in group.versions)]
    for path in paths:
        assert ours(discovery.get(path)) == answer(plane, path), path
    for path in ("/api", "/apis"):
        assert ours(discovery.get(path, AGGREGATED)) == answer(plane, path, AGGREGATED), path


# Texts of our own; an enum of a map's values; and a list of kinds that depends on the group.
_KNOWN = {
    "io.k8s.apimachinery.pkg.api.resource.Quantity",
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString",
    "io.k8s.api.core.v1.PersistentVolumeClaimStatus",
    META + "WatchEvent",
}


def without_enum_texts(value: Any) -> Any:
    if isinstance(value, dict):
        made = {key: without_enum_texts(item) for key, item in value.items()}
        if isinstance(made.get("description"), str):
            made["description"] = made["description"].partition("\n\nPossible enum")[0].rstrip()
        return made
    return [without_enum_texts(item) for item in value] if isinstance(value, list) else value


def test_openapi(plane: ControlPlane) -> None:
    openapi = OpenApi(Discovery())
    different = set()
    for path in ours(openapi.v3_index())["paths"]:
        real, made = answer(plane, f"/openapi/v3/{path}"), ours(openapi.v3(path))
        schemas = without_enum_texts(made["components"]["schemas"])
        for name, schema in without_enum_texts(real["components"]["schemas"]).items():
            if name not in _KNOWN and name in schemas and schemas[name] != schema:
                different.add(name)
        for url, item in real["paths"].items():
            if "/watch/" in url or url.endswith("/") or url not in made["paths"]:
                continue
            for method, operation in item.items():
                mine = made["paths"][url].get(method)
                if method == "parameters" or operation["x-kubernetes-action"] == "connect":
                    continue
                for key in ("operationId", "x-kubernetes-action", "x-kubernetes-group-version-kind"):
                    assert mine[key] == operation[key], (url, method)
    assert different == set()
