"""Admission policies beyond what is recorded: the type checker's status, params of custom kinds, audit annotations."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest

from atoll.app.assembly import ApiOptions, Assembly, assemble, bootstrap
from atoll.base.chance import Chance
from atoll.base.errors import ApiError, Forbidden, Invalid
from atoll.client.port import Client
from atoll.cluster.apiserver.admission.policies.typechecking import TypeChecker
from atoll.cluster.apiserver.builtins import builtin_registry
from atoll.cluster.apiserver.ports import (
    NO_OPINION,
    SYSTEM_ADMIN,
    AdmissionRequest,
    Attributes,
    Decision,
    MustWait,
    User,
)
from atoll.cluster.store.memory import MemoryStore
from atoll.cluster.workloads.common.context import Context
from atoll.cluster.workloads.policies.controller import PolicyStatusController
from atoll.kinds.builtin import CONFIGMAPS, CUSTOM_RESOURCE_DEFINITIONS, NAMESPACES
from atoll.kinds.resource import Resource
from atoll.runtime.informer import Informers
from atoll.runtime.virtual import LoopClock, run_virtual

GROUP = "admissionregistration.k8s.io"
POLICIES = Resource(GROUP, "v1", "validatingadmissionpolicies", "ValidatingAdmissionPolicy", False)
BINDINGS = Resource(GROUP, "v1", "validatingadmissionpolicybindings", "ValidatingAdmissionPolicyBinding", False)
LIMITS = Resource("x.example.com", "v1", "limits", "Limit", False)
Story = Callable[[Client, Assembly], Awaitable[None]]


def tell(story: Story) -> None:
    async def main() -> None:
        clock = LoopClock(asyncio.get_running_loop(), 1_800_000_000.0)
        store = MemoryStore(clock)
        assembly = assemble(store, clock, Chance(1), ApiOptions())
        await bootstrap(assembly)
        await story(assembly.client(), assembly)
        await store.close()

    run_virtual(main())


def policy(*expressions: str, rules: list[dict[str, Any]] | None = None, **spec: Any) -> dict[str, Any]:
    config_maps = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}
    validations = [{"expression": expression} for expression in expressions]
    body = {"matchConstraints": {"resourceRules": rules or [config_maps]}, "validations": validations, **spec}
    return {"metadata": {"name": "p", "generation": 1}, "spec": body}


def binding(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "b"}, "spec": {"policyName": "p", "validationActions": ["Deny"], **spec}}


def rule(group: str, *resources: str) -> dict[str, Any]:
    return {"apiGroups": [group], "apiVersions": ["v1"], "operations": ["*"], "resources": list(resources)}


@pytest.mark.parametrize(
    ("expression", "rules", "warning"),
    [
        ("object.spec.replicas > 1", [rule("apps", "deployments")], ""),
        ("object.spec.template.spec.containers.all(c, c.image.startsWith('a'))", [rule("apps", "deployments")], ""),
        ("object.metadata.labels['a'] == 'b'", [rule("", "pods")], ""),
        ("object.metadata.creationTimestamp < timestamp('2024-01-01T00:00:00Z')", [rule("", "pods")], ""),
        (
            "object.spec.replicas > '1'",
            [rule("apps", "deployments")],
            "apps/v1, Kind=Deployment: compilation failed: ERROR: <input>:1:22: found no matching overload for '_>_'"
            " applied to '(int, string)'\n | object.spec.replicas > '1'\n | .....................^\n",
        ),
        (
            "object.foo > 1",
            [rule("", "pods", "configmaps")],
            "/v1, Kind=ConfigMap: compilation failed: ERROR: <input>:1:7: undefined field 'foo'\n | object.foo > 1\n"
            " | ......^\n\n/v1, Kind=Pod: compilation failed: ERROR: <input>:1:7: undefined field 'foo'\n"
            " | object.foo > 1\n | ......^\n",
        ),
        ("object.foo > 1", [rule("*", "pods"), rule("", "pods/status")], ""),
    ],
)
def test_type_checks(expression: str, rules: list[dict[str, Any]], warning: str) -> None:
    found = TypeChecker(builtin_registry()).warnings(policy(expression, rules=rules))
    assert found == ([{"fieldRef": "spec.validations[0].expression", "warning": warning}] if warning else [])


def test_the_status_says_what_the_type_checker_found() -> None:
    async def story(client: Client, assembly: Assembly) -> None:
        informers = Informers(client)
        context = Context(assembly.controller_client, informers, assembly.clock, assembly.chance)
        controller = PolicyStatusController(context, TypeChecker(assembly.api.registry).warnings)
        running = asyncio.create_task(controller.run())
        informers.start()
        await client.create(POLICIES, policy("object.foo == 'x'"))
        while "typeChecking" not in (found := await client.get(POLICIES, "p")).get("status", {}):
            await asyncio.sleep(0.1)
        assert found["status"]["observedGeneration"] == 1
        assert "undefined field 'foo'" in found["status"]["typeChecking"]["expressionWarnings"][0]["warning"]
        await client.patch(POLICIES, "p", {"spec": policy("object.data.x == 'x'")["spec"]})
        while (found := await client.get(POLICIES, "p"))["status"]["observedGeneration"] != 2:
            await asyncio.sleep(0.1)
        assert not found["status"].get("typeChecking")
        running.cancel()
        await informers.stop()

    tell(story)


def limit_definition() -> dict[str, Any]:
    schema = {"type": "object", "properties": {"most": {"type": "integer"}}}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    names = {"plural": "limits", "singular": "limit", "kind": "Limit", "listKind": "LimitList"}
    spec = {"group": "x.example.com", "scope": "Cluster", "names": names, "versions": [version]}
    return {"metadata": {"name": "limits.x.example.com"}, "spec": spec}


def test_params_of_a_custom_kind_and_a_policy_that_goes() -> None:
    async def story(client: Client, _: Assembly) -> None:
        await client.create(CUSTOM_RESOURCE_DEFINITIONS, limit_definition())
        kind = {"apiVersion": LIMITS.api_version, "kind": LIMITS.kind}
        await client.create(POLICIES, policy("size(object.data) <= params.most", paramKind=kind))
        reference = {"name": "low", "parameterNotFoundAction": "Deny"}
        await client.create(BINDINGS, binding(paramRef=reference))
        two = {"metadata": {"name": "two"}, "data": {"a": "1", "b": "2"}}
        with pytest.raises(Invalid, match="no params found"):
            await client.create(CONFIGMAPS, two, "default")
        await client.create(LIMITS, {**kind, "metadata": {"name": "low"}, "most": 1})
        with pytest.raises(Invalid, match="failed expression: size"):
            await client.create(CONFIGMAPS, two, "default")
        await client.patch(LIMITS, "low", {"most": 2})
        await client.create(CONFIGMAPS, two, "default")
        await client.patch(LIMITS, "low", {"most": 0})
        await client.delete(POLICIES, "p")
        await client.create(CONFIGMAPS, {**two, "metadata": {"name": "three"}}, "default")

    tell(story)


def test_a_policy_of_cel_without_end_does_not_hold_the_server() -> None:
    async def story(client: Client, _: Assembly) -> None:
        loop = "lists.range(3000).all(x, lists.range(3000).all(y, x + y >= 0))"
        await client.create(POLICIES, policy(loop))
        await client.create(BINDINGS, binding())
        with pytest.raises(Invalid, match="actual cost limit exceeded"):
            await client.create(CONFIGMAPS, {"metadata": {"name": "c"}}, "default")

    tell(story)


def request(annotations: dict[str, str], warnings: list[str], obj: dict[str, Any]) -> AdmissionRequest:
    made = AdmissionRequest("CREATE", CONFIGMAPS, "", "default", "c", obj, None, SYSTEM_ADMIN, False, {}, warnings)
    made.annotations = annotations
    return made


def test_audit_annotations() -> None:
    async def story(client: Client, assembly: Assembly) -> None:
        audits = [
            {"key": "size", "valueExpression": "'has ' + string(size(object.data))"},
            {"key": "none", "valueExpression": "null"},
        ]
        await client.create(POLICIES, policy("size(object.data) > 1", auditAnnotations=audits))
        await client.create(BINDINGS, binding(validationActions=["Audit", "Warn"]))
        annotations: dict[str, str] = {}
        warnings: list[str] = []
        obj = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"a": "b"}}
        await assembly.api.hooks.admission.validate(request(annotations, warnings, obj))
        assert annotations["p/size"] == "has 1" and "p/none" not in annotations
        assert '"expressionIndex":0' in annotations["validation.policy.admission.k8s.io/validation_failure"]
        assert warnings == [
            "Validation failed for ValidatingAdmissionPolicy 'p' with binding 'b': failed expression: size(object.data)"
            " > 1"
        ]

    tell(story)


def test_pods_of_one_mold_obey_a_namespace_that_becomes_strict() -> None:
    async def story(client: Client, _: Assembly) -> None:
        await client.create(Resource("", "v1", "serviceaccounts", "ServiceAccount"), {"metadata": {"name": "default"}},
                            "default")  # fmt: skip
        pods = Resource("", "v1", "pods", "Pod")

        def pod(name: str) -> dict[str, Any]:
            return {"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "i"}]}}

        for number in range(4):
            await client.create(pods, pod(f"p-{number}"), "default")
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        await client.patch(NAMESPACES, "default", {"metadata": {"labels": labels}})
        with pytest.raises(Forbidden, match='violates PodSecurity "restricted:latest"'):
            await client.create(pods, pod("p-9"), "default")

    tell(story)


def test_policies_themselves_are_exempt() -> None:
    async def story(client: Client, _: Assembly) -> None:
        everything = {"apiGroups": ["*"], "apiVersions": ["*"], "operations": ["*"], "resources": ["*"]}
        await client.create(POLICIES, policy("false", rules=[everything]))
        await client.create(BINDINGS, binding())
        with pytest.raises(ApiError):
            await client.create(CONFIGMAPS, {"metadata": {"name": "c"}}, "default")
        await client.delete(BINDINGS, "b")
        await client.create(CONFIGMAPS, {"metadata": {"name": "c"}}, "default")

    tell(story)


class Asks:
    """An authorizer of planes that must ask elsewhere; it remembers nothing."""

    def __init__(self, *allowed: str) -> None:
        self._allowed = allowed
        self.asked: list[str] = []

    def authorize(self, attributes: Attributes) -> Decision:
        if attributes.resource != "planes":
            return NO_OPINION
        raise MustWait(partial(self._finish, attributes.name))

    async def _finish(self, name: str) -> Decision:
        self.asked.append(name)
        await asyncio.sleep(1)
        return Decision(name in self._allowed, f"{name} is looked up")


def may(name: str) -> str:
    return f"authorizer.group('sky').resource('planes').name('{name}').check('fly')"


def test_an_authorizer_that_must_ask_is_waited_for() -> None:
    async def story(client: Client, assembly: Assembly) -> None:
        asks = Asks("a", "b")
        assembly.authorizer.authorizers = (asks, *assembly.authorizer.authorizers)
        condition = {"name": "only-a", "expression": f"{may('a')}.allowed()"}
        denying = policy(f"variables.b && {may('c')}.allowed()", matchConditions=[condition])
        denying["spec"]["variables"] = [{"name": "b", "expression": f"{may('b')}.allowed()"}]
        await client.create(POLICIES, denying)
        await client.create(BINDINGS, binding())
        ada = assembly.client(User("ada"))
        with pytest.raises(Invalid, match="failed expression: variables"):
            await ada.create(CONFIGMAPS, {"metadata": {"name": "one"}}, "default")
        assert asks.asked == ["a", "b", "c"]
        asks.asked.clear()
        await client.patch(POLICIES, "p", {"spec": {"validations": [{"expression": f"{may('a')}.allowed()"}]}})
        await ada.create(CONFIGMAPS, {"metadata": {"name": "two"}}, "default")
        assert asks.asked == ["a"]

    tell(story)


def test_a_mutation_and_a_webhooks_condition_wait_too() -> None:
    async def story(client: Client, assembly: Assembly) -> None:
        asks = Asks("a")
        assembly.authorizer.authorizers = (asks, *assembly.authorizer.authorizers)
        why = f"{may('a')}.reason().replace(' ', '-')"
        told = "Object{metadata: Object.metadata{labels: {'why': " + why + "}}}"
        spec = policy()["spec"]
        del spec["validations"]
        mutation = {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": told}}
        spec |= {"mutations": [mutation], "reinvocationPolicy": "Never", "failurePolicy": "Fail"}
        mutating = Resource(GROUP, "v1", "mutatingadmissionpolicies", "MutatingAdmissionPolicy", False)
        bound = Resource(GROUP, "v1", "mutatingadmissionpolicybindings", "MutatingAdmissionPolicyBinding", False)
        await client.create(mutating, {"metadata": {"name": "p"}, "spec": spec})
        await client.create(bound, {"metadata": {"name": "b"}, "spec": {"policyName": "p"}})
        hook = {
            "name": "a.example.com", "clientConfig": {"url": "https://nowhere.example.com"}, "sideEffects": "None",
            "admissionReviewVersions": ["v1"], "rules": [rule("", "configmaps")],
            "matchConditions": [{"name": "pilots", "expression": f"{may('z')}.allowed()"}],
        }  # fmt: skip
        hooks = Resource(GROUP, "v1", "validatingwebhookconfigurations", "ValidatingWebhookConfiguration", False)
        await client.create(hooks, {"metadata": {"name": "h"}, "webhooks": [hook]})
        ada = assembly.client(User("ada"))
        made = await ada.create(CONFIGMAPS, {"metadata": {"name": "one"}}, "default")
        assert made["metadata"]["labels"] == {"why": "a-is-looked-up"}
        assert asks.asked == ["a", "z"]

    tell(story)
