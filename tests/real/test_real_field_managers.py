"""Random writes by several managers: our field management against the real server's, answer by answer."""

from __future__ import annotations

import copy
import json
import random
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))
from control_plane import ControlPlane, available, control_plane

from atoll.base.errors import ApiError
from atoll.cluster.apiserver.extensions.structure import Structure, take
from atoll.kinds.structural import compile_crd
from atoll.objects.apply import apply
from atoll.objects.managed import Schema, update
from atoll.objects.patch_merge import apply_merge_patch
from atoll.objects.reset import reset_fields

pytestmark = pytest.mark.real
SEQUENCES, STEPS = 40, 8
GROUP_VERSION = "f.example.com/v1"
PATH = f"/apis/{GROUP_VERSION}/namespaces/default/fuzzes"

_STRING = {"type": "string"}
_ITEM = {
    "type": "object",
    "required": ["n"],
    "properties": {
        "n": _STRING,
        "p": {"type": "string", "default": "T"},
        "v": {"type": "integer"},
        "l": {"type": "object", "additionalProperties": _STRING},
    },
}
_SPEC = {
    "m": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["n", "p"], "items": _ITEM},
    "s": {"type": "array", "x-kubernetes-list-type": "set", "items": _STRING},
    "a": {"type": "array", "items": {"type": "object", "properties": {"x": _STRING}}},
    "g": {"type": "object", "additionalProperties": {"type": "object", "properties": {"q": _STRING, "r": _STRING}}},
    "at": {"type": "object", "x-kubernetes-map-type": "atomic", "additionalProperties": _STRING},
    "st": {"type": "object", "properties": {"u": _STRING, "w": {"type": "object", "properties": {"z": _STRING}}}},
    "f": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
    "io": {"x-kubernetes-int-or-string": True},
}
SCHEMA: dict[str, Any] = {"type": "object", "properties": {"spec": {"type": "object", "properties": _SPEC}}}
CRD = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "fuzzes.f.example.com"},
    "spec": {
        "group": "f.example.com",
        "scope": "Namespaced",
        "names": {"plural": "fuzzes", "kind": "Fuzz"},
        "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": SCHEMA}}],
    },
}


class Writer:
    """Random bodies."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def letter(self) -> str:
        return self.random.choice("abc")

    def some(self, **makers: Any) -> dict[str, Any]:
        return {name: make() for name, make in makers.items() if self.random.random() < 0.5}

    def items(self) -> list[Any]:
        keys = self.random.sample([("a", "T"), ("a", "U"), ("b", None), ("c", "U")], self.random.randint(0, 3))
        return [
            {"n": name, **({"p": kind} if kind else {}), **self.some(v=lambda: 1, l=self.mapping)}
            for name, kind in keys
        ]

    def mapping(self) -> dict[str, str]:
        return {self.letter(): self.letter() for _ in range(self.random.randint(0, 2))}

    def spec(self) -> dict[str, Any]:
        letter, some = self.letter, self.some
        return some(
            m=self.items,
            s=lambda: self.random.sample("abcd", self.random.randint(0, 3)),
            a=lambda: [some(x=letter) for _ in range(self.random.randint(0, 2))],
            g=lambda: {letter(): some(q=letter, r=letter)},
            at=self.mapping,
            st=lambda: some(u=letter, w=lambda: some(z=letter)),
            f=lambda: some(x=lambda: some(y=letter), l=lambda: [some(n=letter)]),
            io=lambda: self.random.choice([1, "1"]),
        )


def fields_of(obj: Any) -> list[str]:
    entries = obj["metadata"].get("managedFields", [])
    return sorted(json.dumps({**entry, "time": ""}, sort_keys=True) for entry in entries)


def causes_of(details: Any) -> list[tuple[str, str]]:
    return sorted((cause["message"], cause["field"]) for cause in (details or {}).get("causes") or ())


@pytest.fixture(scope="module")
def plane() -> Any:
    if not available():
        pytest.skip("the real programs are not built")
    with control_plane() as running:
        path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
        running.request("POST", path, json.dumps(CRD).encode(), {"Content-Type": "application/json"})
        for _ in range(1000):  # served a moment after it is established
            if running.request("GET", PATH).status == 200:
                break
        yield running


def send(plane: ControlPlane, path: str, body: Any, kind: str) -> Any:
    return plane.request("PATCH", path, json.dumps(body).encode(), {"Content-Type": kind}).json()


@pytest.mark.parametrize("seed", range(SEQUENCES))
def test_sequence(plane: ControlPlane, seed: int) -> None:
    writer, name = Writer(seed), f"fuzz{seed}"
    structure = Structure(SCHEMA)
    schema = Schema(compile_crd(SCHEMA), GROUP_VERSION, reset=reset_fields("fuzzes.f.example.com"), typed=False)
    live: Any = None
    for _ in range(STEPS):
        manager, force = writer.random.choice(["one", "two", "kubectl"]), writer.random.random() < 0.6
        ours: Any = None
        raised: ApiError | None = None
        if live is None or writer.random.random() < 0.7:
            body = {"apiVersion": GROUP_VERSION, "kind": "Fuzz", "metadata": {"name": name}, "spec": writer.spec()}
            body["metadata"] |= {"namespace": "default", **writer.some(labels=writer.mapping)}
            try:
                ours = apply(live, body, schema, manager=manager, now="", force=force)
            except ApiError as error:
                raised = error
            query = f"?fieldManager={manager}&force={str(force).lower()}"
            real = send(plane, f"{PATH}/{name}{query}", body, "application/apply-patch+yaml")
        else:
            body = {"spec": writer.spec()}
            ours = take(copy.deepcopy(apply_merge_patch(live, body)), structure, [], root=True)
            update(live, ours, schema, manager=manager, now="")
            real = send(plane, f"{PATH}/{name}?fieldManager={manager}", body, "application/merge-patch+json")
        if real.get("reason") == "Invalid":
            continue  # validation's, not field management's
        if real["kind"] == "Status":
            assert raised is not None, real["message"]
            assert causes_of(raised.details) == causes_of(real.get("details")), real["message"]
            continue
        assert raised is None, raised
        assert fields_of(ours) == fields_of(real)
        live = real
