"""What `admission.py` does as a MutatingAdmissionPolicy, for API servers of others (admissionregistration.k8s.io/v1).

The teams are not looked up: a label that names no team gives a toleration that nothing asks for. Namespaces that teams
are bound to are written into a ValidatingAdmissionPolicy, which is applied anew when they change.
"""

from __future__ import annotations

from typing import Any

from atoll.capacity import names
from atoll.capacity.teams.settings import Team, TeamSettings

Object = dict[str, Any]
NAME = "atoll-teams"
_GROUP = "admissionregistration.k8s.io/v1"


def policy(settings: TeamSettings) -> list[Object]:
    """The policies and their bindings."""
    bound = [team for team in settings.teams if team.namespaces is not None]
    return [*_tolerations(settings.borrow_at_most), *(_refusals(bound, settings.borrow_at_most) if bound else [])]


def _refusals(bound: list[Team], borrow_at_most: int) -> list[Object]:
    own = f"object.metadata.?labels[?'{names.TEAM}'].orValue('')"
    common = f"namespaceObject.metadata.?labels[?'{names.TEAM}'].orValue('')"
    named = f"t.?key.orValue('') == '{names.TEAM}'"
    borrows = f"has(object.spec.priority) && object.spec.priority <= {borrow_at_most}"
    exists = f"t.?operator.orValue('Equal') == 'Exists' && !({borrows})"
    validations = []
    for team in bound:
        spaces = ", ".join(f"'{name}'" for name in team.namespaces or ())
        its = f"{named} && ({exists} || t.?value.orValue('') == '{team.name}')"
        uses = f"variables.team == '{team.name}' || object.spec.?tolerations.orValue([]).exists(t, {its})"
        validations.append(
            {
                "expression": f"request.namespace in [{spaces}] || !({uses})",
                "message": f"this namespace may not use nodes of the team {team.name}",
                "reason": "Forbidden",
            }
        )
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["pods"]}
    tolerated = "object.spec.?tolerations.orValue([])"
    changed = f"{own} != {_old(own)} || {tolerated} != {_old(tolerated)}"  # a pod of before may end in peace
    return [
        {
            "apiVersion": _GROUP,
            "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": NAME},
            "spec": {
                "failurePolicy": "Fail",
                "matchConstraints": {"resourceRules": [rule]},
                "matchConditions": [{"name": "newly", "expression": f"request.operation == 'CREATE' || {changed}"}],
                "variables": [{"name": "team", "expression": f"{own} != '' ? {own} : {common}"}],
                "validations": validations,
            },
        },
        {
            "apiVersion": _GROUP,
            "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": NAME},
            "spec": {"policyName": NAME, "validationActions": ["Deny"]},
        },
    ]


def _old(expression: str) -> str:
    return expression.replace("object.", "oldObject.", 1)


def _tolerations(borrow_at_most: int) -> list[Object]:
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
