"""Plans, explanations and trees, against a living fleet in virtual time."""

from pathlib import Path
from typing import Any

import pytest
from fleet_lab import POLICY, FleetLab, deployment, divided, fleet_lab, policy

from atoll.base.errors import Forbidden, UserError
from atoll.client.port import Object
from atoll.fleet.plan import model, source
from atoll.fleet.plan.carry import apply_plan
from atoll.fleet.plan.explain import explain
from atoll.fleet.plan.planner import make_plan
from atoll.fleet.plan.read import read_clusters, read_hub
from atoll.fleet.plan.tree import Branch, tree
from atoll.kinds.builtin import DEPLOYMENTS, NODES, SECRETS
from atoll.kinds.resource import Resource
from atoll.runtime.virtual import run_virtual

INPUTS = Path(__file__).parents[3] / "shared" / "inputs"


async def plan_on_hub(lab: FleetLab, *objects: Object) -> model.Plan:
    return make_plan(list(objects), await read_hub(lab.client, list(objects), lab.clock))


def actions(plan: model.Plan) -> dict[tuple[str, str], str]:
    return {(step.label, step.where): step.action for one in plan.decided for step in one.steps}


async def _ready(lab: FleetLab, wanted: int, name: str = "web") -> bool:
    return await lab.ready(name) == wanted


def test_a_plan_for_the_hub_is_what_then_happens() -> None:
    async def story() -> None:
        async with fleet_lab() as lab:
            plan = await plan_on_hub(lab, policy(**divided()), deployment(replicas=7))
            assert {step.label: step.action for step in plan.hub} == {
                "PropagationPolicy default/web": "create", "Deployment default/web": "create"}  # fmt: skip
            decided = plan.decided[0]
            assert decided.targets == {"member1": 3, "member2": 2, "member3": 2}
            assert decided.policy == "PropagationPolicy default/web"
            assert all(verdict.chosen and verdict.reason == "fits" for verdict in decided.verdicts)
            again = model.decode(model.encode(plan))
            assert again == plan
            await apply_plan(again, lab.clock, hub=lab.client)
            await lab.until(lambda: _ready(lab, 7))
            assert await lab.replicas("web") == decided.targets
            same = await plan_on_hub(lab, policy(**divided()), deployment(replicas=7))
            assert same.is_empty

    run_virtual(story())


def test_changes_are_shown_field_by_field_and_deletions_too() -> None:
    async def story() -> None:
        async with fleet_lab() as lab:
            await lab.client.create(POLICY, policy(**divided()))
            await lab.client.create(DEPLOYMENTS, deployment(replicas=9))
            await lab.until(lambda: _ready(lab, 9))
            fewer = policy(**divided(clusterAffinity={"clusterNames": ["member1", "member2"]}))
            plan = await plan_on_hub(lab, fewer)
            assert actions(plan) == {
                ("Deployment default/web", "member1"): "change",
                ("Deployment default/web", "member2"): "change",
                ("Deployment default/web", "member3"): "delete",
            }
            steps = {step.where: step for one in plan.decided for step in one.steps}
            assert [str(change) for change in steps["member1"].changes] == ["~ spec.replicas: 3 → 5"]
            reasons = {one.cluster: one.reason for one in plan.decided[0].verdicts}
            assert reasons["member3"] == "not among the affinity's clusterNames"

    run_virtual(story())


def test_a_plan_is_refused_when_what_it_read_has_changed() -> None:
    async def story() -> None:
        async with fleet_lab() as lab:
            await lab.client.create(DEPLOYMENTS, deployment(replicas=9))
            plan = await plan_on_hub(lab, policy(**divided()), deployment(replicas=4))
            await lab.client.patch(DEPLOYMENTS, "web", {"metadata": {"labels": {"edited": "yes"}}}, "default")
            with pytest.raises(UserError, match=r"out of date: Deployment default/web on hub changed"):
                await apply_plan(plan, lab.clock, hub=lab.client)
            assert (await lab.client.get(DEPLOYMENTS, "web", "default"))["spec"]["replicas"] == 9

    run_virtual(story())


class ViewOnly:
    """A client that may read most things: what the role `view` may not see is forbidden, and so is every write."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        assert name in ("raw", "watch", "close"), f"a plan must not call {name}"
        return getattr(self._client, name)

    def _check(self, resource: Resource) -> None:
        if resource in (SECRETS, NODES):
            raise Forbidden(f'{resource.plural} is forbidden: User "viewer" cannot get resource')

    async def get(self, resource: Resource, name: str, namespace: str | None = None, **more: Any) -> Object:
        self._check(resource)
        found: Object = await self._client.get(resource, name, namespace, **more)
        return found

    async def list(self, resource: Resource, namespace: str | None = None, **more: Any) -> Any:
        self._check(resource)
        return await self._client.list(resource, namespace, **more)


def test_without_a_hub_and_with_read_only_access() -> None:
    async def story() -> None:
        async with fleet_lab(members=2) as lab:
            clusters = {name: ViewOnly(member.client) for name, member in lab.members.items()}
            secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "key"}, "data": {}}
            live = deployment(replicas=1)
            await lab.members["member1"].client.create(DEPLOYMENTS, live)
            objects = [deployment(replicas=4), policy(**divided()), secret,
                       policy("key", kind="Secret", api_version="v1")]  # fmt: skip
            plan = make_plan(objects, await read_clusters(clusters, objects, lab.clock))
            assert plan.mode == "clusters"
            assert actions(plan) == {
                ("Deployment default/web", "member1"): "change",
                ("Deployment default/web", "member2"): "create",
                ("Secret default/key", "member1"): "unknown",
                ("Secret default/key", "member2"): "unknown",
            }
            steps = {(step.where, step.kind): step for one in plan.decided for step in one.steps}
            assert [str(one) for one in steps["member1", "Deployment"].changes] == ["~ spec.replicas: 1 → 2"]
            assert "may not be read" in steps["member1", "Secret"].reason
            assert any("nodes are unknown" in warning for warning in plan.warnings)
            writers = {name: member.client for name, member in lab.members.items()}
            assert not await _is_stale(plan, lab, clusters)
            with pytest.raises(UserError, match="out of date"):
                await apply_plan(plan, lab.clock, clusters=writers)  # they may read more than was read

    async def _is_stale(plan: model.Plan, lab: FleetLab, clusters: Any) -> bool:
        again = make_plan(list(plan.source), await read_clusters(clusters, list(plan.source), lab.clock))
        return again.reads != plan.reads

    run_virtual(story())


def test_a_plan_without_a_hub_can_be_carried_out() -> None:
    async def story() -> None:
        async with fleet_lab(members=2) as lab:
            clusters = {name: member.client for name, member in lab.members.items()}
            objects = [deployment(replicas=4), policy(**divided())]
            plan = make_plan(objects, await read_clusters(clusters, objects, lab.clock))
            await apply_plan(plan, lab.clock, clusters=clusters)
            assert await lab.replicas("web") == {"member1": 2, "member2": 2}

    run_virtual(story())


@pytest.mark.skipif(not INPUTS.is_dir(), reason="the inputs are not on this machine")
def test_online_boutique_with_one_policy() -> None:
    async def story() -> None:
        async with fleet_lab() as lab:
            objects = source.load([str(INPUTS / "online-boutique")])
            everything = policy("boutique", **divided())
            everything["spec"]["resourceSelectors"] = [
                {"apiVersion": "apps/v1", "kind": "Deployment"}, {"apiVersion": "v1", "kind": "Service"},
                {"apiVersion": "v1", "kind": "ServiceAccount"}]  # fmt: skip
            plan = await plan_on_hub(lab, everything, *objects)
            placed = {one.kind for one in plan.decided if one.targets}
            assert placed == {"Deployment", "Service", "ServiceAccount"}
            assert plan.count("create") == len(objects) + 1 + sum(len(one.targets) for one in plan.decided)
            assert not plan.warnings
            await apply_plan(plan, lab.clock, hub=lab.client)
            names = [one.name for one in plan.decided if one.kind == "Deployment"]
            for name in names:
                await lab.until(lambda name=name: _ready(lab, 1, name))

    run_virtual(story())


def test_explain_and_tree() -> None:
    async def story() -> None:
        async with fleet_lab() as lab:
            await lab.client.create(POLICY, policy(**divided(clusterAffinity={"exclude": ["member3"]})))
            await lab.client.create(DEPLOYMENTS, deployment(replicas=3))
            await lab.until(lambda: _ready(lab, 3))
            told = await explain(lab.client, lab.clock, "deploy/web")
            assert told.policy == "PropagationPolicy default/web"
            assert told.why == "matches by name, priority 0"
            assert told.division == "by static weights (member1 1, member2 1)"
            assert {one.cluster: one.reason for one in told.verdicts}["member3"] == "excluded by the affinity"
            assert [(one.cluster, one.replicas, one.ready, one.health) for one in told.clusters] == [
                ("member1", 2, 2, "Healthy"), ("member2", 1, 1, "Healthy")]  # fmt: skip
            clients = {name: member.client for name, member in lab.members.items()}
            top = await tree(lab.client, clients, "deployment/web")
            kinds = _kinds(top)
            assert kinds[:3] == ["Deployment", "ResourceBinding", "Work"]
            assert kinds.count("Pod") == 3
            assert _worst(top) == {"Ready"}
            with pytest.raises(UserError, match="there is no Deployment nothing"):
                await tree(lab.client, clients, "deployment/nothing")
            with pytest.raises(UserError, match="no kind 'gadget'"):
                await explain(lab.client, lab.clock, "gadget/web")

    run_virtual(story())


def _kinds(branch: Branch) -> list[str]:
    return [branch.kind, *(kind for child in branch.children for kind in _kinds(child))]


def _worst(branch: Branch) -> set[str]:
    return {branch.health}.union(*(_worst(child) for child in branch.children))


def test_manifests_that_are_none_are_refused_with_their_place(tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("kind: Pod\n---\n- x\n")
    with pytest.raises(UserError, match=r"bad.yaml, document 1: apiVersion is missing"):
        source.load([str(bad)])
    bad.write_text("a: [1\nb: }")
    with pytest.raises(UserError, match=r"bad.yaml:2"):
        source.load([str(bad)])
    with pytest.raises(UserError, match="does not exist"):
        source.load([str(tmp_path / "none")])
