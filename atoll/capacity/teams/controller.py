"""The loop of teams: taints and labels equal to the allotment, and work that a new team does not know leaves.

Each change is one write with the Node's resourceVersion as precondition; the whole allotment is planned anew from what
is there, so it may be killed at any await and goes on. It plans only on synced caches: an empty list of nodes, or a
ConfigMap that is not there (yet), takes nothing from anybody. To dissolve all teams, write `teams: []`.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter

from atoll.base.clock import parse_rfc3339
from atoll.base.errors import AtollError, Conflict, NotFound
from atoll.capacity import names
from atoll.capacity.eviction import evict
from atoll.capacity.health.drain import plan_drain
from atoll.capacity.health.settings import HealthSettings
from atoll.capacity.nodes import annotation, gpu_count, is_leaving, is_over, taints, work_on
from atoll.capacity.parts import Parts, pods_by_node
from atoll.capacity.settings import Live
from atoll.capacity.teams.admission import team_of
from atoll.capacity.teams.plan import Allotment, Object, amounts, change, foreign, is_out, owner_of, plan_teams
from atoll.capacity.teams.settings import CONFIG_MAP, KEY, TeamSettings
from atoll.kinds.builtin import NAMESPACES, NODES
from atoll.objects.meta import labels, namespace
from atoll.runtime.controller import Controller
from atoll.runtime.events import NORMAL, WARNING

NAME = "teams"
_ALL = ""  # the one key: an allotment is of all nodes
_GATHER_SECONDS = 0.5  # changes that come together are planned together
_BLOCKED_SECONDS = 10.0
_WRITES = 32
_DRAINS = HealthSettings()
log = logging.getLogger(__name__)


class TeamController:
    """`short` (team → nodes that are lacking) is what metrics show."""

    def __init__(self, parts: Parts) -> None:
        self.name = NAME
        self.short: dict[str, int] = {}
        self._parts = parts
        self._nodes = parts.informers.of(NODES)
        self._spaces = parts.informers.of(NAMESPACES)
        self._pods = pods_by_node(parts.informers)
        self._settings = Live(parts.informers, parts.events, CONFIG_MAP, KEY, TeamSettings)
        self._changes = parts.metrics.counter("atoll_team_changes_total", "Nodes that changed their team.", ("to",))
        self._evicted = parts.metrics.counter("atoll_team_evictions_total", "Pods that left a node for its new team.")
        self.loop: Controller[str] = Controller(
            NAME, self._reconcile, wait_for=(self._nodes, self._pods, self._spaces, self._settings.informer)
        )
        self._nodes.add_handler(self._node_changed)
        self._pods.add_handler(self._pod_changed)
        self._settings.on_change(self._again)
        self._show()

    async def run(self) -> None:
        await self.loop.run()

    def _again(self) -> None:
        self.loop.queue.add_after(_ALL, _GATHER_SECONDS)

    def _node_changed(self, old: Object | None, new: Object | None) -> None:
        """Health and preflight change nodes often: of that only whether a node is out is a matter of teams."""
        if old is None or new is None or _matters(old) != _matters(new):
            self._again()

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        """Of interest: what leaves, or lands on, a team's node without being let."""
        pod = new or old or {}
        name = (pod.get("spec") or {}).get("nodeName")
        node = self._nodes.get(name) if name else None
        if node is not None and foreign(node, [pod]):
            self._again()

    def _show(self) -> None:
        nodes = self._parts.metrics.gauge("atoll_team_nodes", "Nodes of each team.", ("team", "what"))

        def refresh() -> None:
            nodes.clear()
            have = Counter(owner_of(node) for node in self._nodes if not is_out(node))
            out = Counter(owner_of(node) for node in self._nodes if is_out(node))
            for team, wanted in amounts(self._nodes, self._settings.value).items():
                nodes.of(team, "wanted").set(wanted)
                nodes.of(team, "have").set(have[team])
                nodes.of(team, "out").set(out[team])

        self._parts.metrics.on_scrape(refresh)

    # -- passes

    async def _reconcile(self, key: str) -> float | None:
        settings, now = self._settings.value, self._parts.clock.wall()
        config = self._settings.informer.get(CONFIG_MAP, names.SYSTEM_NAMESPACE)
        if config is None:
            return None
        found, changed = self._planned(settings, {}, now)
        if changed:  # only then it matters where work is
            found, changed = self._planned(settings, self._work(), now)
        slots = asyncio.Semaphore(_WRITES)
        results = await asyncio.gather(*(self._change(*item, slots) for item in changed))
        self._tell(config, found.short)
        if not all(results):
            return _GATHER_SECONDS
        return await self._clear(settings, now) if settings.evict_foreign else None

    def _planned(
        self, settings: TeamSettings, work: dict[str, Counter[str]], now: float
    ) -> tuple[Allotment, list[tuple[Object, str, Object]]]:
        """The allotment, and (node, team, patch) of each node that differs."""
        found = plan_teams(self._nodes, settings, work)
        changed = []
        for name, team in sorted(found.teams.items()):
            node = self._nodes.get(name)
            patch = change(node, team, now) if node is not None else None
            if node is not None and patch is not None:
                changed.append((node, team, patch))
        return found, changed

    def _work(self) -> dict[str, Counter[str]]:
        """Node → team → pods."""
        found: dict[str, Counter[str]] = {}
        for pod in self._pods:
            name = (pod.get("spec") or {}).get("nodeName")
            if name and not is_over(pod) and work_on([pod]):
                team = team_of(pod, self._spaces.get(namespace(pod) or ""))
                found.setdefault(name, Counter())[team] += 1
        return found

    async def _change(self, node: Object, team: str, patch: Object, slots: asyncio.Semaphore) -> bool:
        async with slots:
            try:
                await self._parts.client.patch(NODES, node["metadata"]["name"], patch)
            except (Conflict, NotFound):
                return False
            except AtollError as error:
                log.log(
                    logging.DEBUG if error.retryable else logging.WARNING,
                    "node %s: %s",
                    node["metadata"]["name"],
                    error,
                )
                return False
        self._changes.of(team).value += 1
        told = f"it is the team {team}'s" if team else "it is no team's any more"
        self._parts.events.event(node, NORMAL, "TeamChanged", told)
        return True

    def _tell(self, config: Object, short: dict[str, int]) -> None:
        if short != self.short:
            for team, count in short.items():
                text = f"team {team}: {count} more nodes are wanted than its selector can have"
                self._parts.events.event(config, WARNING, "NodesLacking", text)
        self.short = short

    async def _clear(self, settings: TeamSettings, now: float) -> float | None:
        """Work that a team's node does not tolerate leaves, by eviction, at its next checkpoint."""
        waits: list[float] = []
        for node in self._nodes:
            team = owner_of(node)
            pods = foreign(node, self._pods.by_index("node", node["metadata"]["name"])) if team else []
            if not pods:
                continue
            since = annotation(node, names.TEAM_SINCE)
            plan = plan_drain(node, pods, parse_rfc3339(since) if since else now, now, _DRAINS, urgent=False)
            for pod in plan.evict:
                outcome = await evict(self._parts.client, pod)
                if outcome == "blocked":
                    waits.append(_BLOCKED_SECONDS)
                elif outcome == "evicted":
                    self._evicted.of().value += 1
            if plan.again_seconds is not None:
                waits.append(plan.again_seconds)
        return min(waits, default=None)


def _matters(node: Object) -> object:
    """What an allotment depends on."""
    own = {key: value for key, value in labels(node).items() if key not in (names.PREFLIGHT, names.TEST_DUE)}
    tainted = [taint for taint in taints(node) if taint["key"] == names.TEAM]
    return own, tainted, is_leaving(node), is_out(node), gpu_count(node)
