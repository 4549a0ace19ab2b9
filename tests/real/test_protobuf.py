"""The table of protobuf fields is what the published modules say; random objects decode as Go encodes them."""

from __future__ import annotations

import base64
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import orjson
import pytest

from atoll.cluster.apiserver.protobuf import decode

ROOT = Path(__file__).resolve().parents[2]
MODULE = ROOT / "tests" / "real" / "go"
pytestmark = pytest.mark.real


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def go() -> str:
    found = load(ROOT / "tests" / "real" / "build.py").find_go()
    if found is None:
        pytest.skip("Go is not on this machine")
    return str(found)


def test_the_table_is_what_the_modules_say(go: str) -> None:
    tool = load(ROOT / "tools" / "protobuf_fields.py")
    command = [go, "env", "GOMODCACHE"]
    cache = Path(subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip())
    if not (cache / "k8s.io" / f"api@{tool.VERSION}").exists():
        subprocess.run([go, "mod", "download"], cwd=MODULE, check=True)
    committed = ROOT / "atoll" / "cluster" / "apiserver" / "protobuf" / "fields.txt"
    assert tool.generate(cache) == committed.read_text()


def test_random_objects_decode_as_go_writes_them_in_json(go: str, tmp_path: Path) -> None:
    program = tmp_path / "protobuf"
    environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly -buildvcs=false"}
    subprocess.run([go, "build", "-o", str(program), "./protobuf"], cwd=MODULE, check=True, env=environment)
    lines = subprocess.run([program], capture_output=True, check=True).stdout.splitlines()
    assert len(lines) > 1500
    for line in lines:
        encoded, text = line.split(b" ", 1)
        expected = orjson.loads(text)
        api_version, kind, found = decode(base64.b64decode(encoded))
        assert (api_version, kind) == (expected["apiVersion"], expected["kind"])
        assert without_empty(found) == without_empty(expected), f"{api_version} {kind}"


def without_empty(value: Any) -> Any:
    """Go writes null for an absent value and {} or "" for zeros without omitempty: neither says anything."""
    if isinstance(value, dict):
        items = {key: without_empty(item) for key, item in value.items()}
        return {key: item for key, item in items.items() if item not in (None, {}, [], "", 0, "0")}
    return [without_empty(item) for item in value] if isinstance(value, list) else value
