"""The loop of devices' taints: evicts the pods that `plan.py` names, and says in DeviceTaintRules what they do
(`rules.py`). Keys are claims and rules."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from atoll.base.errors import NotFound
from atoll.client.port import STRATEGIC_PATCH, DeleteOptions, Object
from atoll.cluster.workloads.common.context import Context
from atoll.cluster.workloads.devicetaints import rules as status
from atoll.cluster.workloads.devicetaints.plan import (
    NO_EXECUTE,
    Cause,
    Eviction,
    causes,
    eviction,
    generation,
    leaving,
)
from atoll.kinds.builtin import PODS, RESOURCE_CLAIMS, RESOURCE_SLICES
from atoll.kinds.devices import DEVICE_TAINT_RULES
from atoll.objects import meta
from atoll.objects.resource_claims import DeviceId, device_id, known_names, results
from atoll.runtime.controller import Controller
from atoll.runtime.events import NORMAL
from atoll.scheduling.dra.taint_rules import may_select

NAME = "device-taint-eviction-controller"
_REASON = "DeletionByDeviceTaintManager"
_CLAIM, _RULE = "claim", "rule"

Key = tuple[str, str, str]  # kind, namespace, name
PoolId = tuple[str, str]


class DeviceTaintEviction:
    """A NoExecute taint on a device drives its users away, a driver's as well as an administrator's."""

    def __init__(self, context: Context) -> None:
        self.name = NAME
        self._client = context.client(NAME)
        self._events = context.recorder("device-taint-eviction")
        self._clock = context.clock
        self._slices = context.informers.of(RESOURCE_SLICES)
        self._claims = context.informers.of(RESOURCE_CLAIMS)
        self._pods = context.informers.of(PODS)
        ruled = context.options.device_taint_rules
        self._rules = context.informers.of(DEVICE_TAINT_RULES) if ruled else None
        self._evicted: Counter[str] = Counter()  # pods by the uid of the rule, since the start
        self._slices.add_index("pool", lambda found: (_pool_of(found),))
        self._claims.add_index("pool", _pools_of)
        waits = (self._slices, self._claims, self._pods, *(() if self._rules is None else (self._rules,)))
        self.loop: Controller[Key] = Controller(NAME, self._reconcile, workers=8, wait_for=waits)
        self._slices.add_handler(self._slice_changed)
        self._claims.add_handler(self._claim_changed)
        if self._rules is not None:
            self._rules.add_handler(self._rule_changed)

    async def run(self) -> None:
        await self.loop.run()

    def _slice_changed(self, old: Object | None, new: Object | None) -> None:
        for claim in self._claims.by_index("pool", _pool_of(new or old or {})):
            self.loop.queue.add((_CLAIM, *_place(claim)))

    def _claim_changed(self, old: Object | None, new: Object | None) -> None:
        if new is not None and results(new):
            self.loop.queue.add((_CLAIM, *_place(new)))

    def _rule_changed(self, old: Object | None, new: Object | None) -> None:
        if old is not None and new is not None and meta.uid(old) == meta.uid(new) and old["spec"] == new["spec"]:
            return
        if new is not None:
            self.loop.queue.add((_RULE, "", meta.name(new)))
        if old is not None and (new is None or meta.uid(old) != meta.uid(new)):
            self._evicted.pop(meta.uid(old), None)
        for rule in filter(None, (old, new)):
            for claim in self._claims_under(rule):
                self.loop.queue.add((_CLAIM, *_place(claim)))

    def _claims_under(self, rule: Object) -> list[Object]:
        """Allocated claims whose devices a rule may select."""
        return [claim for claim in self._claims if any(may_select(rule, pool) for pool in _pools_of(claim))]

    async def _reconcile(self, key: Key) -> float | None:
        kind, namespace, name = key
        if kind == _RULE:
            return await self._tell(name)
        claim = self._claims.get(name, namespace)
        due = None if claim is None else self._due(claim)
        if claim is None or due is None:
            return None
        left = due.at - self._clock.wall()
        if left > 0:
            return left
        for pod in leaving(claim, lambda name: self._pods.get(name, namespace)):
            await self._evict(pod)
        return None

    def _due(self, claim: Object) -> Eviction | None:
        return eviction(claim, lambda device: self._causes(device, ()))

    def _causes(self, device: DeviceId, more: tuple[Object, ...]) -> list[Cause]:
        return causes(self._slices.by_index("pool", device[:2]), (*(self._rules or ()), *more), device)

    # evictions

    async def _evict(self, pod: Object) -> None:
        metadata = pod["metadata"]
        namespace, name = metadata["namespace"], metadata["name"]
        self._events.event(pod, NORMAL, "DeviceTaintManagerEviction", f"Marking for deletion Pod {namespace}/{name}")
        mark = meta.disruption_target(
            _REASON, "Device Taint manager: deleting due to NoExecute taint", self._clock.wall()
        )
        body = {"metadata": {"uid": metadata["uid"]}, "status": {"conditions": [mark]}}
        by = self._rules_against(pod)
        try:
            await self._client.patch(PODS, name, body, namespace, content_type=STRATEGIC_PATCH, subresource="status")
            await self._client.delete(PODS, name, namespace, options=DeleteOptions(uid=metadata["uid"]))
        except NotFound:
            return
        for rule in by:
            self._evicted[meta.uid(rule)] += 1
            self.loop.queue.add_after((_RULE, "", meta.name(rule)), status.PERIOD_SECONDS)

    def _rules_against(self, pod: Object) -> list[Object]:
        """The rules by which a pod must go, over all its claims."""
        found: set[str] = set()
        for name in known_names(pod):
            claim = self._claims.get(name, pod["metadata"]["namespace"])
            due = None if claim is None else self._due(claim)
            found |= due.rules if due is not None else frozenset()
        return [rule for rule in self._rules or () if meta.uid(rule) in found]

    # what rules are told

    async def _tell(self, name: str) -> float | None:
        rule = None if self._rules is None else self._rules.get(name)
        if rule is None:
            return None
        now = self._clock.wall()
        early = status.too_early(rule, now)
        if early:
            return early
        chosen = status.selected(rule, list(self._published()), list(self._allocated()))
        made = status.in_progress(rule, self._pending(rule), chosen, self._evicted[meta.uid(rule)], now)
        if made is not None:
            head = {"apiVersion": DEVICE_TAINT_RULES.api_version, "kind": DEVICE_TAINT_RULES.kind}
            body = {**head, "metadata": {"name": name, "uid": meta.uid(rule)}, "status": {"conditions": [made]}}
            await self._client.apply(DEVICE_TAINT_RULES, body, subresource="status")
        return None

    def _pending(self, rule: Object) -> status.Pending:
        """Pods that must go by it; of one without effect those that would have to."""
        if status.effect_of(rule) not in (NO_EXECUTE, "None"):
            return status.Pending()
        trial = {**rule, "spec": {**rule["spec"], "taint": {**rule["spec"]["taint"], "effect": NO_EXECUTE}}}
        more = () if status.effect_of(rule) == NO_EXECUTE else (trial,)
        found: dict[str, str] = {}
        for claim in self._claims_under(rule):
            due = eviction(claim, lambda device: self._causes(device, more))
            if due is not None and meta.uid(rule) in due.rules:
                namespace = claim["metadata"]["namespace"]
                for pod in leaving(claim, lambda name, space=namespace: self._pods.get(name, space)):  # type: ignore[misc]
                    found[meta.uid(pod)] = namespace
        return status.Pending(len(found), len(set(found.values())))

    def _published(self) -> Iterator[DeviceId]:
        newest: dict[PoolId, int] = {}
        for found in self._slices:
            pool = _pool_of(found)
            newest[pool] = max(newest.get(pool, 0), generation(found))
        for found in self._slices:
            if generation(found) == newest[_pool_of(found)]:
                for device in found["spec"].get("devices") or ():
                    yield (*_pool_of(found), device["name"])

    def _allocated(self) -> Iterator[DeviceId]:
        return (device_id(result) for claim in self._claims for result in results(claim))


def _place(obj: Object) -> tuple[str, str]:
    return obj["metadata"].get("namespace") or "", obj["metadata"]["name"]


def _pool_of(found: Object) -> PoolId:
    """Of a ResourceSlice."""
    return found["spec"]["driver"], found["spec"]["pool"]["name"]


def _pools_of(claim: Object) -> tuple[PoolId, ...]:
    return tuple({(result["driver"], result["pool"]): None for result in results(claim)})
