"""DeviceTaintRules in virtual time: the scheduler keeps off what they taint, NoExecute evicts, the status counts."""

from __future__ import annotations

import asyncio

import pytest
from test_device_claims import claims, devices, exactly, given, spec_of, template

from atoll.base.errors import NotFound
from atoll.kinds.builtin import PODS, RESOURCE_CLAIM_TEMPLATES
from atoll.kinds.devices import DEVICE_TAINT_RULES
from atoll.objects.meta import condition
from atoll.objects.resource_claims import allocation
from atoll.runtime.virtual import run_virtual

USE = {"resourceClaims": [{"name": "g", "resourceClaimTemplateName": "one"}]}
PATIENT = [{"key": "sick", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 60}]


def rule(name, effect, **selector):
    spec = {"deviceSelector": {"driver": "gpu.nvidia.com", **selector}, "taint": {"key": "sick", "effect": effect}}
    return {"metadata": {"name": name}, "spec": spec}


async def told(world, name):
    """(status, reason, message) of the rule's condition, once it has one."""

    async def holds():
        found = condition(await world.client.get(DEVICE_TAINT_RULES, name), "EvictionInProgress")
        return found and (found["status"], found["reason"], found["message"])

    return await world.until(holds)


async def gone(world, name):
    async def holds():
        try:
            await world.client.get(PODS, name, "default")
        except NotFound:
            return True
        return False

    await world.until(holds)


def test_a_device_that_a_rule_taints_is_given_to_nobody_until_the_rule_is_gone():
    async def main():
        async with devices(nodes=1, previews=True) as world:
            await template(world, spec_of(exactly()))
            await world.client.create(DEVICE_TAINT_RULES, rule("one", "NoSchedule", pool="n-0", device="gpu-0"))
            await world.pod("a", spec=USE)
            await world.phase("a", "Running")
            assert [given(claim) for claim in (await claims(world)).values()] == [[("n-0", "gpu-1")]]
            await world.pod("b", spec=USE)
            await world.why_not("b", "cannot allocate all claims")
            assert await told(world, "one") == (
                "False", "OtherEffect", "Eviction only happens for the NoExecute effect.",
            )  # fmt: skip
            await world.client.patch(DEVICE_TAINT_RULES, "one", {"spec": {"taint": {"effect": "None"}}})
            await world.phase("b", "Running")  # a taint without effect

    run_virtual(main())


@pytest.mark.parametrize("change", ["deleted", "moved"])
def test_a_pod_that_waits_is_placed_when_the_rule_lets_go(change):
    async def main():
        async with devices(nodes=1, gpus=1, previews=True) as world:
            await template(world, spec_of(exactly()))
            await world.client.create(DEVICE_TAINT_RULES, rule("all", "NoExecute"))
            await world.pod("a", spec=USE)
            await world.why_not("a", "cannot allocate all claims")
            if change == "deleted":
                await world.client.delete(DEVICE_TAINT_RULES, "all")
            else:
                selector = {"spec": {"deviceSelector": {"pool": "elsewhere"}}}
                await world.client.patch(DEVICE_TAINT_RULES, "all", selector)
            await world.phase("a", "Running")

    run_virtual(main())


def test_no_execute_evicts_at_once_and_the_status_counts():
    async def main():
        async with devices(previews=True) as world:
            await template(world, spec_of(exactly()))
            await template(world, spec_of(exactly(tolerations=PATIENT)), "patient")
            await world.pod("a", spec=USE)
            await world.phase("a", "Running")
            patient = {"resourceClaims": [{"name": "g", "resourceClaimTemplateName": "patient"}]}
            await world.pod("p", spec=patient)
            await world.phase("p", "Running")
            await world.client.create(DEVICE_TAINT_RULES, rule("trial", "None"))
            status, reason, message = await told(world, "trial")
            assert (status, reason) == ("False", "NoEffect")
            assert message.startswith(
                "4 published devices selected. 2 allocated devices selected. 2 pods would be evicted in 1 namespace if"
            )
            assert await world.get("a")
            await world.client.create(DEVICE_TAINT_RULES, rule("sick", "NoExecute"))
            await gone(world, "a")
            assert await told(world, "sick") == (
                "True", "PodsPendingEviction", "2 pods need to be evicted in 1 namespace.",
            )  # fmt: skip
            await asyncio.sleep(12)
            assert await told(world, "sick") == (
                "True",
                "PodsPendingEviction",
                "1 pod needs to be evicted in 1 namespace. 1 pod evicted since starting the controller.",
            )
            await gone(world, "p")
            await asyncio.sleep(12)
            assert await told(world, "sick") == ("False", "Completed", "2 pods evicted since starting the controller.")
            await asyncio.sleep(60)
            assert not any(allocation(claim) for claim in (await claims(world)).values())
            events = await world.events("DeviceTaintManagerEviction")
            assert sorted(event["involvedObject"]["name"] for event in events) == ["a", "p"]

    run_virtual(main())


def test_a_rule_without_a_selector_selects_nothing():
    async def main():
        async with devices(nodes=1, previews=True) as world:
            await template(world, spec_of(exactly()))
            taint = {"metadata": {"name": "x"}, "spec": {"taint": {"key": "sick", "effect": "NoExecute"}}}
            await world.client.create(DEVICE_TAINT_RULES, taint)
            await world.pod("a", spec=USE)
            await world.phase("a", "Running")
            assert await told(world, "x") == ("False", "NotStarted", "")

    run_virtual(main())


def test_rules_are_off_unless_asked_for():
    async def main():
        async with devices(nodes=1) as world:
            with pytest.raises(NotFound):
                await world.client.create(DEVICE_TAINT_RULES, rule("one", "NoSchedule"))
            await template(world, spec_of(exactly()))
            assert (await world.client.get(RESOURCE_CLAIM_TEMPLATES, "one", "default"))["spec"]

    run_virtual(main())
