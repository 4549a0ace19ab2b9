"""kopf, a Python operator framework, runs an operator with a CRD: watches, finalizers, status patches."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from conftest import ROOT, Shell, until

CRD = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "boats.kopf.example.com"},
    "spec": {
        "group": "kopf.example.com",
        "scope": "Namespaced",
        "names": {"plural": "boats", "singular": "boat", "kind": "Boat"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
            }
        ],
    },
}


def test_an_operator_reconciles_updates_and_finalizes(cluster: Shell, namespace: str, tmp_path: Path) -> None:
    cluster.kubectl("apply", "-f", "-", stdin=json.dumps(CRD))
    cluster.kubectl("wait", "crd/boats.kopf.example.com", "--for=condition=Established", "--timeout=30s")
    sunk = tmp_path / "sunk"
    shell = Shell({**cluster.env, "SUNK": str(sunk)}, cluster.context)
    operator = shell.popen(
        sys.executable, "-m", "kopf", "run", "-n", namespace, "--standalone", str(ROOT / "tests/e2e/boat_operator.py")
    )
    try:
        boat = {"apiVersion": "kopf.example.com/v1", "kind": "Boat", "metadata": {"name": "b", "namespace": namespace}}
        cluster.kubectl("apply", "-f", "-", stdin=json.dumps({**boat, "spec": {"sails": 2}}))
        crew = lambda: (cluster.get("boat", "b", "-n", namespace).get("status") or {}).get("sail", {}).get("crew")
        until(lambda: crew() == 4, "the operator has set the status")
        cluster.kubectl("patch", "boat", "b", "-n", namespace, "--type=merge", "-p", '{"spec":{"sails":3}}')
        until(lambda: crew() == 6, "the operator has seen the update")
        cluster.kubectl("delete", "boat", "b", "-n", namespace, "--timeout=30s")
        assert sunk.read_text() == "- b\n"
    finally:
        operator.kill()
        operator.communicate()
