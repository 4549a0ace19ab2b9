"""What /metrics says of admission webhooks: answers, refusals, failures that count and failures that are ignored."""

import asyncio
from contextlib import suppress

import orjson
import pytest

from atoll.app.assembly import ApiOptions, assemble, bootstrap
from atoll.base.chance import Chance
from atoll.base.clock import ManualClock
from atoll.base.errors import AtollError, Unreachable
from atoll.cluster.store.memory import MemoryStore
from atoll.kinds.builtin import NAMESPACES
from atoll.kinds.resource import Resource

CONFIG_MAPS = Resource("", "v1", "configmaps", "ConfigMap")
NAME = "policy.example.com"
GROUP = "admissionregistration.k8s.io"


class Hook:
    """Answers each question as told, after half a second of the clock."""

    def __init__(self, clock, status, allowed, code):
        self._clock, self._status, self._allowed, self._code = clock, status, allowed, code

    async def post(self, target, body, seconds):
        self._clock.advance(0.5)
        if self._status is None:
            raise Unreachable("connection refused")
        uid = orjson.loads(body)["request"]["uid"]
        response = {"uid": uid, "allowed": self._allowed}
        if self._code:
            response["status"] = {"code": self._code}
        review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}
        return self._status, "application/json", orjson.dumps(review)


async def lines(kind, policy, status=200, allowed=True, code=0):
    clock = ManualClock()
    options = ApiOptions(hook_caller=Hook(clock, status, allowed, code))
    assembly = assemble(MemoryStore(clock), clock, Chance(1), options)
    await bootstrap(assembly)
    client = assembly.client()
    await client.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "ns"}})
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}
    hook = {
        "name": NAME, "rules": [rule], "failurePolicy": policy, "sideEffects": "None",
        "admissionReviewVersions": ["v1"], "clientConfig": {"url": "https://hook.example/"},
    }  # fmt: skip
    resource = Resource(GROUP, "v1", f"{kind.lower()}webhookconfigurations", f"{kind}WebhookConfiguration", False)
    configuration = {"apiVersion": f"{GROUP}/v1", "kind": resource.kind, "metadata": {"name": "c"}, "webhooks": [hook]}
    await client.create(resource, configuration)
    with suppress(AtollError):
        await client.create(CONFIG_MAPS, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}, "ns")
    text = assembly.metrics.text()
    return {line for line in text.splitlines() if line.startswith("apiserver_admission_webhook") and NAME in line}


def of(labels):
    return "{" + ",".join(f'{name}="{value}"' for name, value in sorted(labels.items())) + "}"


@pytest.mark.parametrize(
    ("asked", "kind", "code", "rejected", "refusal"),
    [
        ({}, "Validating", 200, "false", None),
        ({"allowed": False, "code": 409}, "Validating", 409, "true", "no_error"),
        ({"allowed": False, "code": 999}, "Mutating", 600, "true", "no_error"),
        ({"status": None}, "Validating", 503, "true", "calling_webhook_error"),
        ({"status": 500}, "Mutating", 500, "true", "calling_webhook_error"),
    ],
)
def test_a_question_is_counted_by_what_came_of_it(asked, kind, code, rejected, refusal):
    found = asyncio.run(lines(kind, "Fail", **asked))
    who = {"name": NAME, "type": "admit" if kind == "Mutating" else "validating", "operation": "CREATE"}
    labels = of({**who, "code": code, "rejected": rejected})
    assert f"apiserver_admission_webhook_request_total{labels} 1" in found
    seconds = of({**who, "rejected": rejected})
    assert f"apiserver_admission_webhook_admission_duration_seconds_sum{seconds} 0.5" in found
    refusals = [line for line in found if "rejection_count" in line]
    if refusal is None:
        assert not refusals
    else:
        told = of({**who, "error_type": refusal, "rejection_code": code})
        assert refusals == [f"apiserver_admission_webhook_rejection_count{told} 1"]


def test_a_failure_that_is_ignored_is_no_refusal():
    found = asyncio.run(lines("Validating", "Ignore", status=None))
    opened = of({"name": NAME, "type": "validating"})
    assert f"apiserver_admission_webhook_fail_open_count{opened} 1" in found
    assert not [line for line in found if "rejection_count" in line]
    assert any(
        'code="503",name="policy.example.com",operation="CREATE",rejected="false",type="validating"} 1' in line
        for line in found
    )
