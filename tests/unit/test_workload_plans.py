"""Plans of replica sets, stateful sets, daemon sets, endpoints, budgets, volumes, quotas and namespaces."""

import ipaddress
from typing import Any

from atoll.base.clock import rfc3339
from atoll.base.errors import ServerError
from atoll.client.port import Object
from atoll.cluster.workloads.daemonset.placement import compile_fit, new_pod, node_of
from atoll.cluster.workloads.disruption.plan import Expected, calculate_status, expected
from atoll.cluster.workloads.endpoints.slices import plan_slices
from atoll.cluster.workloads.endpoints.subsets import plan_endpoints
from atoll.cluster.workloads.housekeeping.cluster import Ranges, aggregated_rules
from atoll.cluster.workloads.housekeeping.expiry import job_expiry
from atoll.cluster.workloads.housekeeping.pod_gc import plan_ended
from atoll.cluster.workloads.namespaces.plan import Remaining, conditions_after
from atoll.cluster.workloads.quota.controller import total_usage
from atoll.cluster.workloads.replicaset import plan as replicaset
from atoll.cluster.workloads.statefulset import identity
from atoll.cluster.workloads.statefulset.plan import Revisions, plan_stateful_set
from atoll.cluster.workloads.volumes import matching

NOW = 1_700_000_000.0


def pod(name: str, *, ready: bool = True, ip: str = "", phase: str = "Running", **metadata: Any) -> Object:
    condition = {"type": "Ready", "status": "True" if ready else "False", "lastTransitionTime": rfc3339(NOW - 60)}
    status: Object = {"phase": phase, "conditions": [condition]}
    if ip:
        status |= {"podIP": ip, "podIPs": [{"ip": ip}]}
    made = {"name": name, "namespace": "default", "uid": name, "labels": {"app": "web"}, **metadata}
    return {"metadata": made, "spec": {"nodeName": "n1", "containers": []}, "status": status}


def replica_set(replicas: int, **status: Any) -> Object:
    template = {"metadata": {"labels": {"app": "web"}}}
    metadata = {"name": "web", "generation": 3}
    return {"metadata": metadata, "spec": {"replicas": replicas, "template": template}, "status": status}


def test_replica_set_sizes() -> None:
    three = [pod(str(number)) for number in range(3)]
    assert replicaset.plan_scale(replica_set(5), three, lambda: (), NOW).create == 2
    assert replicaset.plan_scale(replica_set(5000), three, lambda: (), NOW).create == 500
    assert replicaset.plan_growth(replica_set(50_000), 8_000).create == 1_000  # a pass looks at all: an eighth
    assert len(replicaset.plan_scale(replica_set(1), three, lambda: (), NOW).delete) == 2
    going = replica_set(5)
    going["metadata"]["deletionTimestamp"] = "t"
    assert replicaset.plan_scale(going, three, lambda: (), NOW) == replicaset.Scale()


def test_replica_set_status() -> None:
    pods = [pod("a"), pod("b", ready=False), pod("c", labels={"app": "other"})]
    counts = replicaset.count(replica_set(3), pods, NOW)
    assert replicaset.calculate_status(replica_set(3), counts, 1, None, NOW) == {
        "replicas": 3,
        "fullyLabeledReplicas": 2,
        "readyReplicas": 2,
        "availableReplicas": 2,
        "terminatingReplicas": 1,
        "observedGeneration": 3,
    }
    assert counts.again is None
    slow = replica_set(3)
    slow["spec"]["minReadySeconds"] = 90
    counts = replicaset.count(slow, pods, NOW)
    status = replicaset.calculate_status(slow, counts, None, ServerError("no room"), NOW)
    assert (status["readyReplicas"], status.get("availableReplicas"), counts.again) == (2, None, 30)
    failed = replica_set(4)
    counts = replicaset.count(failed, pods, NOW)
    (condition,) = replicaset.calculate_status(failed, counts, 0, ServerError("no room"), NOW)["conditions"]
    assert (condition["reason"], condition["message"]) == ("FailedCreate", "no room")


def stateful_set(**spec: Any) -> Object:
    metadata = {"name": "db", "namespace": "default", "uid": "s"}
    made = {"replicas": 2, "serviceName": "db", "selector": {"matchLabels": {"app": "db"}}, **spec}
    return {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": metadata, "spec": made}


def test_a_huge_stateful_set_is_made_by_and_by() -> None:
    owner = stateful_set(replicas=2_000_000_000, podManagementPolicy="Parallel")
    revision = {"metadata": {"name": "r"}, "data": {"spec": {"template": {"spec": {"containers": []}}}}}
    plan = plan_stateful_set(owner, [], Revisions(revision, revision), 0, lambda name: None, NOW)
    assert len(plan.steps) == 500
    assert len(plan_stateful_set({**owner, "spec": {**owner["spec"], "podManagementPolicy": "OrderedReady"}}, [],
               Revisions(revision, revision), 0, lambda name: None, NOW).steps) == 1  # fmt: skip


def test_stateful_identity() -> None:
    claim = {"metadata": {"name": "data"}, "spec": {"x": 1}}
    owner = stateful_set(volumeClaimTemplates=[claim])
    template = {"metadata": {"labels": {"app": "db"}}, "spec": {"volumes": [{"name": "tmp", "emptyDir": {}}]}}
    made = identity.new_pod(owner, template, "db-1", 1)
    assert made["metadata"]["name"] == "db-1"
    assert "generateName" not in made["metadata"]
    assert made["metadata"]["labels"]["apps.kubernetes.io/pod-index"] == "1"
    assert (made["spec"]["hostname"], made["spec"]["subdomain"]) == ("db-1", "db")
    assert made["spec"]["volumes"][0] == {"name": "data", "persistentVolumeClaim": {"claimName": "data-db-1"}}
    assert made["spec"]["volumes"][1]["name"] == "tmp"
    assert identity.parent_and_ordinal("db-12") == ("db", 12)
    assert identity.parent_and_ordinal("db") == ("", -1)
    assert identity.is_member(owner, made)


def test_claims_follow_the_retention_policy() -> None:
    policy = {"whenScaled": "Delete", "whenDeleted": "Delete"}
    owner = stateful_set(persistentVolumeClaimRetentionPolicy=policy)
    claim: Object = {"metadata": {"name": "data-db-0"}}
    kept = identity.claim_with_owners(owner, pod("db-0"), claim)
    assert kept is not None
    assert [item["uid"] for item in kept["metadata"]["ownerReferences"]] == ["s"]
    condemned = identity.claim_with_owners(owner, pod("db-5"), kept)
    assert condemned is not None
    assert [item["kind"] for item in condemned["metadata"]["ownerReferences"]] == ["Pod"]
    assert identity.claim_with_owners(owner, pod("db-5"), condemned) is None
    assert identity.claim_with_owners(stateful_set(), pod("db-0"), claim) is None
    retained = identity.claim_with_owners(stateful_set(), pod("db-0"), kept)
    assert retained is not None
    assert retained["metadata"]["ownerReferences"] == []


def daemon_set(**spec: Any) -> Object:
    metadata = {"name": "agent", "namespace": "default", "uid": "d"}
    made = {"template": {"metadata": {}, "spec": spec}}
    return {"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": metadata, "spec": made}


def node(name: str, *taints: Object, **labels: str) -> Object:
    return {"metadata": {"name": name, "labels": labels}, "spec": {"taints": list(taints)}}


def test_where_daemons_run() -> None:
    fit = compile_fit(daemon_set(nodeSelector={"disk": "ssd"}))
    assert fit(node("a", disk="ssd")) == (True, True)
    assert fit(node("a", disk="hdd")) == (False, False)
    fit = compile_fit(daemon_set())
    assert fit(node("a", {"key": "gpu", "effect": "NoSchedule"})) == (False, True)
    assert fit(node("a", {"key": "gpu", "effect": "NoExecute"})) == (False, False)
    assert fit(node("a", {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"})) == (True, True)
    assert fit(node("a", {"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"})) == (True, True)
    made = new_pod(daemon_set(), "h", "node-7")
    assert node_of(made) == "node-7"
    assert len(made["spec"]["tolerations"]) == 6


def service(**spec: Any) -> Object:
    metadata = {"name": "web", "namespace": "default", "uid": "w", "labels": {"team": "x"}}
    made = {"clusterIP": "10.0.0.1", "ipFamilies": ["IPv4"], "ports": [{"port": 80, "targetPort": 8080}], **spec}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": made}


def slice_of(plan: Any, uid: str = "s") -> Object:
    (made,) = plan.create
    return {**made, "metadata": {**made["metadata"], "name": uid, "uid": uid}}


def test_slices_change_as_little_as_may_be() -> None:
    pods = [pod("a", ip="10.1.0.1"), pod("b", ip="10.1.0.2", ready=False)]
    first = plan_slices(service(), pods, [], lambda _: "zone-1", "then")
    stored = slice_of(first)
    assert [item["conditions"]["ready"] for item in stored["endpoints"]] == [True, False]
    assert stored["endpoints"][0]["zone"] == "zone-1"
    assert stored["metadata"]["labels"]["kubernetes.io/service-name"] == "web"
    assert stored["metadata"]["labels"]["team"] == "x"
    same = plan_slices(service(), pods, [stored], lambda _: "zone-1", "now")
    assert (same.create, same.update, same.delete) == ([], [], [])
    more = plan_slices(service(), [*pods, pod("c", ip="10.1.0.3")], [stored], lambda _: "zone-1", "now")
    assert (more.create, more.delete) == ([], [])
    assert [item["targetRef"]["name"] for item in more.update[0]["endpoints"]] == ["a", "b", "c"]
    empty = plan_slices(service(), [], [stored], lambda _: "", "now")
    assert empty.create == []
    assert empty.update[0]["endpoints"] == []


def test_big_services_have_slices_of_a_hundred() -> None:
    many = [pod(f"p{number}", ip=f"10.1.{number // 250}.{number % 250}") for number in range(250)]
    plan = plan_slices(service(), many, [], lambda _: "", "now")
    assert [len(item["endpoints"]) for item in plan.create] == [100, 100, 50]


def test_endpoints_tell_ready_from_not() -> None:
    pods = [pod("a", ip="10.1.0.1"), pod("b", ip="10.1.0.2", ready=False), pod("c", ip="10.1.0.3", phase="Failed")]
    made = plan_endpoints(service(), pods, None, "now")
    assert made is not None
    (subset,) = made["subsets"]
    assert [item["ip"] for item in subset["addresses"]] == ["10.1.0.1"]
    assert [item["ip"] for item in subset["notReadyAddresses"]] == ["10.1.0.2"]
    assert subset["ports"] == [{"port": 8080, "protocol": "TCP"}]
    assert plan_endpoints(service(), pods, made, "later") is None
    both = plan_endpoints(service(publishNotReadyAddresses=True), pods, None, "now")
    assert both is not None
    assert len(both["subsets"][0]["addresses"]) == 2
    crowd = [pod(f"p{number}", ip=f"10.1.{number // 250}.{number % 250}") for number in range(1005)]
    cut = plan_endpoints(service(), crowd, None, "now")
    assert cut is not None
    assert len(cut["subsets"][0]["addresses"]) == 1000
    assert cut["metadata"]["annotations"]["endpoints.kubernetes.io/over-capacity"] == "truncated"


def budget(**spec: Any) -> Object:
    return {"metadata": {"name": "b", "generation": 1}, "spec": spec, "status": {}}


def test_budgets() -> None:
    assert expected(budget(maxUnavailable="30%"), 0, 10) == Expected(10, 7)
    assert expected(budget(minAvailable="50%"), 0, 5) == Expected(5, 3)
    assert expected(budget(minAvailable=2), 4, 0) == Expected(4, 2)
    pods = [pod("a"), pod("b"), pod("c", ready=False), pod("d", deletionTimestamp="t")]
    status, _ = calculate_status(budget(), pods, Expected(4, 1), NOW)
    assert (status["currentHealthy"], status["disruptionsAllowed"]) == (2, 1)
    promised = budget()
    promised["status"] = {"disruptedPods": {"a": rfc3339(NOW - 20), "b": rfc3339(NOW - 500)}}
    status, again = calculate_status(promised, pods, Expected(4, 1), NOW)
    assert (status["currentHealthy"], status["disruptionsAllowed"], again) == (1, 0, 100)
    assert list(status["disruptedPods"]) == ["a"]
    namesake = pod("a", creationTimestamp=rfc3339(NOW - 10))
    assert calculate_status(promised, [namesake], Expected(4, 1), NOW)[0]["currentHealthy"] == 1


def volume(name: str, size: str, **spec: Any) -> Object:
    made = {"capacity": {"storage": size}, "accessModes": ["ReadWriteOnce"], "storageClassName": "disk", **spec}
    return {"metadata": {"name": name}, "spec": made, "status": {"phase": "Available"}}


def test_volumes() -> None:
    claim: Object = {
        "metadata": {"name": "c", "namespace": "default", "uid": "u", "resourceVersion": "1"},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "disk",
            "resources": {"requests": {"storage": "3Gi"}},
        },
    }
    small, fits, big = volume("small", "2Gi"), volume("fits", "4Gi"), volume("big", "9Gi")
    assert matching.best_match(claim, [big, small, fits]) is fits
    mine = volume("mine", "1Gi", claimRef={"namespace": "default", "name": "c"})
    taken = volume("taken", "5Gi", claimRef={"namespace": "default", "name": "c", "uid": "other"})
    assert matching.best_match(claim, [fits, taken, mine]) is mine
    assert matching.best_match(claim, [taken, volume("other", "4Gi", storageClassName="x")]) is None
    made = matching.provisioned_volume(claim, {"metadata": {"name": "disk"}, "provisioner": "example.com/any"})
    assert made["metadata"]["name"] == "pvc-u"
    assert made["spec"]["persistentVolumeReclaimPolicy"] == "Delete"
    assert matching.is_bound_to(made, claim)


def test_quota_usage() -> None:
    quota: Object = {"spec": {"hard": {"pods": "5", "requests.memory": "1Gi", "count/deployments.apps": "3"}}}
    busy = pod("a")
    busy["spec"]["containers"] = [{"name": "c", "resources": {"requests": {"memory": "300Mi"}}}]
    objects = {"pods": [busy, pod("b", phase="Succeeded")], "deployments.apps": [{"metadata": {"name": "d"}}]}
    used = total_usage(quota, objects, NOW)
    assert used == {"pods": "1", "requests.memory": "300Mi", "count/deployments.apps": "1"}


def test_namespace_conditions_keep_their_times() -> None:
    left = Remaining({"pods.": 2, "jobs.batch": 1}, {"x.io/hold": 1})
    before = conditions_after([], left, NOW)
    told = {item["type"]: item for item in before}
    assert told["NamespaceContentRemaining"]["message"] == (
        "Some resources are remaining: jobs.batch has 1 resource instances, pods. has 2 resource instances"
    )
    assert told["NamespaceDeletionContentFailure"]["status"] == "False"
    after = conditions_after(before, Remaining({"pods.": 1}), NOW + 60)
    kept = {item["type"]: item for item in after}
    assert kept["NamespaceContentRemaining"]["lastTransitionTime"] == rfc3339(NOW)
    assert kept["NamespaceFinalizersRemaining"]["lastTransitionTime"] == rfc3339(NOW + 60)


def test_housekeeping() -> None:
    roles: list[Object] = [
        {"metadata": {"name": "view", "labels": {"to": "edit"}}, "rules": [{"verbs": ["get"]}]},
        {"metadata": {"name": "more", "labels": {"to": "edit"}}, "rules": [{"verbs": ["get"]}, {"verbs": ["put"]}]},
        {"metadata": {"name": "none", "labels": {}}, "rules": [{"verbs": ["*"]}]},
    ]
    edit = {
        "metadata": {"name": "edit"},
        "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"to": "edit"}}]},
    }
    assert aggregated_rules(edit, roles) == [{"verbs": ["get"]}, {"verbs": ["put"]}]
    done = {"type": "Complete", "status": "True", "lastTransitionTime": rfc3339(NOW)}
    job = {"metadata": {}, "spec": {"ttlSecondsAfterFinished": 10}, "status": {"conditions": [done]}}
    assert job_expiry(job) == NOW + 10
    assert job_expiry({"metadata": {}, "spec": {}, "status": {"conditions": [done]}}) is None
    ended = [pod(str(number), phase="Failed", creationTimestamp=rfc3339(NOW + number)) for number in range(4)]
    assert [item["metadata"]["name"] for item in plan_ended([*ended, pod("alive")], 2)] == ["0", "1"]
    assert plan_ended(ended, 0) == []


def test_ranges_of_nodes() -> None:
    ranges = Ranges(ipaddress.ip_network("10.1.0.0/22"), 24)
    ranges.take("10.1.1.0/24")
    ranges.take("192.168.0.0/24")  # of another cluster: not ours to count
    assert [ranges.choose() for _ in range(4)] == ["10.1.0.0/24", "10.1.2.0/24", "10.1.3.0/24", None]
    ranges.give_back("10.1.2.0/24")
    ranges.give_back("10.1.2.0/24")
    assert [ranges.choose(), ranges.choose()] == ["10.1.2.0/24", None]
