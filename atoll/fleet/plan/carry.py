"""Carrying out a plan: the same value, refused where anything that it rests on has changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from atoll.base.clock import Clock
from atoll.base.errors import AtollError, UserError
from atoll.client.port import Client
from atoll.fleet.kindmap import KindMap
from atoll.fleet.plan.model import Plan, Step
from atoll.fleet.plan.planner import changed_reads, make_plan
from atoll.fleet.plan.read import read_clusters, read_hub

_ORDER = (
    "Namespace", "CustomResourceDefinition", "PriorityClass", "StorageClass", "ClusterOverridePolicy", "OverridePolicy",
    "ClusterPropagationPolicy", "PropagationPolicy", "ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role",
    "RoleBinding", "Secret", "ConfigMap", "PersistentVolume", "PersistentVolumeClaim", "Service",
)  # fmt: skip


async def apply_plan(
    plan: Plan, clock: Clock, *, hub: Client | None = None, clusters: Mapping[str, Client] | None = None,
    members: Mapping[str, Client] | None = None, tell: Callable[[Step], None] = lambda step: None,
) -> None:  # fmt: skip
    """`hub` for a plan of mode hub, `clusters` for one without. `tell` is called after each step.

    Raises UserError where something has changed since, or a step is refused; steps before that one are done.
    """
    await _check(plan, clock, hub, clusters, members)
    if plan.mode == "hub":
        assert hub is not None
        kinds = {"hub": KindMap(hub)}
        places: Mapping[str, Client] = {"hub": hub}
        steps = list(plan.hub)
    else:
        places = clusters or {}
        kinds = {name: KindMap(client) for name, client in places.items()}
        steps = [step for one in plan.decided for step in one.steps]
    for step in sorted(steps, key=_rank):
        if step.action in ("create", "change"):
            await _carry_out(step, places[step.where], kinds[step.where])
            tell(step)


def _rank(step: Step) -> int:
    return _ORDER.index(step.kind) if step.kind in _ORDER else len(_ORDER)


async def _check(
    plan: Plan, clock: Clock, hub: Client | None, clusters: Mapping[str, Client] | None,
    members: Mapping[str, Client] | None,
) -> None:  # fmt: skip
    objects = manifests_of(plan)
    if plan.mode == "hub":
        if hub is None:
            raise UserError("this plan is for a hub, and there is none", hint="atoll up, or name the hub's kubeconfig")
        state = await read_hub(hub, objects, clock, members=members)
    else:
        missing = [name for name in plan.clusters if name not in (clusters or {})]
        if missing:
            raise UserError(
                f"this plan needs the clusters {', '.join(missing)}", hint="give --kubeconfigs as for the plan"
            )
        state = await read_clusters({name: (clusters or {})[name] for name in plan.clusters}, objects, clock)
    now = make_plan(objects, state)
    changed = changed_reads(plan.reads, now.reads)
    if changed:
        listed = ", ".join(changed[:5]) + (f" and {len(changed) - 5} more" if len(changed) > 5 else "")
        raise UserError(f"the plan is out of date: {listed} changed since it was made", hint="make the plan again")
    targets = {one.label: one.targets for one in plan.decided}
    if targets != {one.label: one.targets for one in now.decided}:
        raise UserError("the plan is out of date: the clusters' free room changed", hint="make the plan again")


def manifests_of(plan: Plan) -> list[dict[str, object]]:
    """What the plan was made of."""
    if plan.mode == "hub":
        return [step.manifest for step in plan.hub if step.manifest is not None]
    return list(plan.source)


async def _carry_out(step: Step, client: Client, kinds: KindMap) -> None:
    resource = await kinds.resource(step.api_version, step.kind)
    if resource is None or step.manifest is None:
        raise UserError(f"{step.where} does not serve {step.api_version} {step.kind}")
    try:
        await client.apply(resource, step.manifest, force=True)
    except AtollError as error:
        raise UserError(f"{step.label} on {step.where}: {error.message}", hint=error.hint) from error
