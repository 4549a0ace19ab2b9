"""What `admission.py` does as a MutatingAdmissionPolicy, for API servers of others (admissionregistration.k8s.io/v1).

The teams are not looked up: a label that names no team gives a toleration that nothing asks for.
"""

from __future__ import annotations

from typing import Any

from atoll.capacity import names

Object = dict[str, Any]
NAME = "atoll-teams"
_GROUP = "admissionregistration.k8s.io/v1"


def policy(borrow_at_most: int) -> list[Object]:
    """The policy and its binding."""
    own = f"object.metadata.?labels[?'{names.TEAM}'].orValue('')"
    common = f"namespaceObject.metadata.?labels[?'{names.TEAM}'].orValue('')"
    borrows = f"has(object.spec.priority) && object.spec.priority <= {borrow_at_most}"
    added = (
        "variables.borrows ? "
        f"{{'key': '{names.TEAM}', 'operator': 'Exists', 'effect': 'NoSchedule'}} : "
        f"{{'key': '{names.TEAM}', 'operator': 'Equal', 'value': variables.team, 'effect': 'NoSchedule'}}"
    )
    patch = (
        "has(object.spec.tolerations) ? "
        "[JSONPatch{op: 'add', path: '/spec/tolerations/-', value: variables.added}] : "
        "[JSONPatch{op: 'add', path: '/spec/tolerations', value: [variables.added]}]"
    )
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
    return [
        {
            "apiVersion": _GROUP,
            "kind": "MutatingAdmissionPolicy",
            "metadata": {"name": NAME},
            "spec": {
                "failurePolicy": "Ignore",
                "reinvocationPolicy": "Never",
                "matchConstraints": {"resourceRules": [rule]},
                "variables": [
                    {"name": "borrows", "expression": borrows},
                    {"name": "team", "expression": f"{own} != '' ? {own} : {common}"},
                    {"name": "added", "expression": added},
                ],
                "matchConditions": [
                    {"name": "of-a-team-or-low", "expression": f"({borrows}) || {own} != '' || {common} != ''"}
                ],
                "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": patch}}],
            },
        },
        {
            "apiVersion": _GROUP,
            "kind": "MutatingAdmissionPolicyBinding",
            "metadata": {"name": NAME},
            "spec": {"policyName": NAME},
        },
    ]
