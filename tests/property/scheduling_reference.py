"""A plain reading of kube-scheduler's default filters and scores: every node evaluated anew from the objects."""

from __future__ import annotations

import math

from atoll.scheduling import resources
from atoll.scheduling.matching import NodeTerm, label_selector, node_selector, tolerates

HOST, ZONE = "kubernetes.io/hostname", "topology.kubernetes.io/zone"


def namespace(pod):
    return pod["metadata"]["namespace"]


def labels(obj):
    return obj["metadata"].get("labels") or {}


def required_match(pod, node):
    spec = pod["spec"]
    if any(labels(node).get(k) != v for k, v in (spec.get("nodeSelector") or {}).items()):
        return False
    affinity = ((spec.get("affinity") or {}).get("nodeAffinity") or {}).get(
        "requiredDuringSchedulingIgnoredDuringExecution"
    )
    matcher = node_selector(affinity)
    return matcher is None or matcher(node["metadata"]["name"], labels(node))


def untolerated(pod, node):
    return any(
        taint["effect"] in ("NoSchedule", "NoExecute")
        and not any(tolerates(item, taint) for item in pod["spec"].get("tolerations") or ())
        for taint in node["spec"].get("taints") or ()
    )


def terms(pod, kind, when="required"):
    affinity = (pod["spec"].get("affinity") or {}).get(kind) or {}
    return affinity.get(f"{when}DuringSchedulingIgnoredDuringExecution") or []


def term_matches(owner, term, pod):
    spaces = term.get("namespaces") or [namespace(owner)]
    return namespace(pod) in spaces and label_selector(term.get("labelSelector"))(labels(pod))


def count_at(nodes, placed, key, value, wanted, eligible=lambda node: True):
    return sum(
        sum(wanted(pod) for pod in placed[node["metadata"]["name"]])
        for node in nodes
        if labels(node).get(key) == value and eligible(node)
    )


class Reference:
    """`placed`: node name -> pods on it."""

    def __init__(self, nodes, placed):
        self.nodes, self.placed = nodes, placed

    # filters

    def why_not(self, pod, node):
        if node["spec"].get("unschedulable"):
            return ("node(s) were unschedulable",)
        if untolerated(pod, node):
            return ("node(s) had untolerated taint(s)",)
        if not required_match(pod, node):
            return ("node(s) didn't match Pod's node affinity/selector",)
        return self._fit(pod, node) or self._spread(pod, node) or self._inter_pod(pod, node)

    def _fit(self, pod, node):
        here = self.placed[node["metadata"]["name"]]
        reasons = []
        have = resources.amounts(node["status"]["allocatable"])
        if len(here) + 1 > have.get("pods", 0):
            reasons.append("Too many pods")
        for name, want in resources.pod_requests(pod["spec"]).items():
            used = sum(resources.pod_requests(other["spec"]).get(name, 0) for other in here)
            if want > 0 and want > have.get(name, 0) - used:
                reasons.append(f"Insufficient {name}")
        return tuple(reasons) or None

    def constraints(self, pod, action):
        return [c for c in pod["spec"].get("topologySpreadConstraints") or () if c["whenUnsatisfiable"] == action]

    def _eligible(self, pod, constraint, group):
        def eligible(node):
            if any(c["topologyKey"] not in labels(node) for c in group):
                return False
            if constraint.get("nodeAffinityPolicy", "Honor") == "Honor" and not required_match(pod, node):
                return False
            return not (constraint.get("nodeTaintsPolicy") == "Honor" and untolerated(pod, node))

        return eligible

    def _counted(self, pod, constraint):
        matcher = label_selector(constraint.get("labelSelector"))
        if constraint.get("labelSelector") == {}:
            return lambda other: False
        return lambda other: (
            namespace(other) == namespace(pod)
            and "deletionTimestamp" not in other["metadata"]
            and matcher(labels(other))
        )

    def _spread(self, pod, node):
        group = self.constraints(pod, "DoNotSchedule")
        for constraint in group:
            key = constraint["topologyKey"]
            if key not in labels(node):
                return ("node(s) didn't match pod topology spread constraints (missing required label)",)
            eligible, wanted = self._eligible(pod, constraint, group), self._counted(pod, constraint)
            values = {labels(n)[key] for n in self.nodes if eligible(n)}
            counts = {v: count_at(self.nodes, self.placed, key, v, wanted, eligible) for v in values}
            least = min(counts.values(), default=1 << 31)
            if len(values) < constraint.get("minDomains", 1):
                least = 0
            mine = label_selector(constraint.get("labelSelector"))(labels(pod))
            if counts.get(labels(node)[key], 0) + mine - least > constraint["maxSkew"]:
                return ("node(s) didn't match pod topology spread constraints",)
        return None

    def _inter_pod(self, pod, node):
        near = terms(pod, "podAffinity")
        if near:

            def all_of(other):
                return all(term_matches(pod, term, other) for term in near)

            exists, anywhere = True, False
            for term in near:
                key = term["topologyKey"]
                if key not in labels(node):
                    return ("node(s) didn't match pod affinity rules",)
                exists &= count_at(self.nodes, self.placed, key, labels(node)[key], all_of) > 0
                anywhere |= any(
                    key in labels(n) and any(map(all_of, self.placed[n["metadata"]["name"]])) for n in self.nodes
                )
            if not exists and (anywhere or not all_of(pod)):
                return ("node(s) didn't match pod affinity rules",)
        for term in terms(pod, "podAntiAffinity"):
            key = term["topologyKey"]
            if key in labels(node) and count_at(
                self.nodes, self.placed, key, labels(node)[key], lambda o, t=term: term_matches(pod, t, o)
            ):
                return ("node(s) didn't match pod anti-affinity rules",)
        for other_node in self.nodes:
            for other in self.placed[other_node["metadata"]["name"]]:
                for term in terms(other, "podAntiAffinity"):
                    value = labels(other_node).get(term["topologyKey"])
                    if value is not None and value == labels(node).get(term["topologyKey"]):  # noqa: SIM102
                        if term_matches(other, term, pod):
                            return ("node(s) didn't satisfy existing pods anti-affinity rules",)
        return None

    # scores

    def totals(self, pod):
        feasible = [node for node in self.nodes if self.why_not(pod, node) is None]
        if not feasible:
            return {}
        parts = [
            (1, [self._least_allocated(pod, n) for n in feasible]),
            (1, [self._balanced(pod, n) for n in feasible]),
            (2, self._up([self._preferred_nodes(pod, n) for n in feasible])),
            (3, self._down([self._soft_taints(pod, n) for n in feasible])),
            (2, self._spread_scores(pod, feasible)),
            (2, self._affinity_scores(pod, feasible)),
        ]
        return {
            node["metadata"]["name"]: sum(weight * scores[place] for weight, scores in parts)
            for place, node in enumerate(feasible)
        }

    def _sum(self, node, name, missing=None):
        pods = self.placed[node["metadata"]["name"]]
        return sum(resources.pod_requests(other["spec"], missing).get(name, 0) for other in pods)

    def _least_allocated(self, pod, node):
        have = resources.amounts(node["status"]["allocatable"])
        found = []
        for name in ("cpu", "memory"):
            if have.get(name):
                want = self._sum(node, name, resources.DEFAULT_NONZERO)
                want += resources.pod_requests(pod["spec"], resources.DEFAULT_NONZERO).get(name, 0)
                found.append((have[name] - want) * 100 // have[name] if want <= have[name] else 0)
        return sum(found) // len(found) if found else 0

    def _balanced(self, pod, node):
        mine = resources.pod_requests(pod["spec"])
        if not mine.get("cpu") and not mine.get("memory"):
            return 0
        have = resources.amounts(node["status"]["allocatable"])

        def score(extra):
            parts = [
                min((self._sum(node, name) + extra.get(name, 0)) / have[name], 1)
                for name in ("cpu", "memory")
                if have.get(name)
            ]
            return int((1 - (abs(parts[0] - parts[1]) / 2 if len(parts) == 2 else 0)) * 100)

        return 50 + int((50 + score(mine) - score({})) / 2)

    def _preferred_nodes(self, pod, node):
        found = terms(pod, "nodeAffinity", "preferred")
        return sum(
            item["weight"] for item in found if NodeTerm(item["preference"])(node["metadata"]["name"], labels(node))
        )

    def _soft_taints(self, pod, node):
        tolerations = [
            t for t in pod["spec"].get("tolerations") or () if t.get("effect") in (None, "", "PreferNoSchedule")
        ]
        return sum(
            taint["effect"] == "PreferNoSchedule" and not any(tolerates(t, taint) for t in tolerations)
            for taint in node["spec"].get("taints") or ()
        )

    def _up(self, raw):
        return [100 * value // max(raw) if max(raw) else 0 for value in raw]

    def _down(self, raw):
        return [100 - 100 * value // max(raw) if max(raw) else 100 for value in raw]

    def _spread_scores(self, pod, feasible):
        soft = self.constraints(pod, "ScheduleAnyway")
        explicit = bool(pod["spec"].get("topologySpreadConstraints"))
        if not explicit and pod.get("default"):
            soft = [
                {"maxSkew": 3, "topologyKey": HOST, "labelSelector": pod["default"]},
                {"maxSkew": 5, "topologyKey": ZONE, "labelSelector": pod["default"]},
            ]
        if not soft:
            return [0] * len(feasible)
        taking = [n for n in feasible if not explicit or all(c["topologyKey"] in labels(n) for c in soft)]
        raw = {}
        for node in taking:
            total = 0.0
            for c in soft:
                key = c["topologyKey"]
                size = len(taking) if key == HOST else len({labels(n).get(key, "") for n in taking})
                if key not in labels(node):
                    continue
                wanted = self._counted(pod, c)
                if key == HOST:
                    count = sum(wanted(other) for other in self.placed[node["metadata"]["name"]])
                else:
                    eligible = self._eligible(pod, c, soft if explicit else [])
                    count = count_at(self.nodes, self.placed, key, labels(node)[key], wanted, eligible)
                total += count * math.log(size + 2) + c["maxSkew"] - 1
            raw[node["metadata"]["name"]] = math.floor(total + 0.5)
        low, high = (min(raw.values()), max(raw.values())) if raw else (0, 0)

        def normal(name):
            if name not in raw:
                return 0
            return 100 if high == 0 else 100 * (high + low - raw[name]) // high

        return [normal(node["metadata"]["name"]) for node in feasible]

    def _affinity_scores(self, pod, feasible):
        raw = []
        for node in feasible:
            total = 0
            for other_node in self.nodes:
                for other in self.placed[other_node["metadata"]["name"]]:
                    for owner, target in ((pod, other), (other, pod)):
                        weighted = [
                            (sign * item["weight"], item["podAffinityTerm"])
                            for kind, sign in (("podAffinity", 1), ("podAntiAffinity", -1))
                            for item in terms(owner, kind, "preferred")
                        ]
                        if owner is other:
                            weighted += [(1, term) for term in terms(other, "podAffinity")]
                        for weight, term in weighted:
                            value = labels(other_node).get(term["topologyKey"])
                            if value is not None and value == labels(node).get(term["topologyKey"]):  # noqa: SIM102
                                if term_matches(owner, term, target):
                                    total += weight
            raw.append(total)
        low, high = min(raw), max(raw)
        return [int(100 * ((value - low) / (high - low))) if high > low else 0 for value in raw]
