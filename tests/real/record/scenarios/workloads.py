"""Deployments, replica sets, stateful sets, daemon sets, jobs, cron jobs, autoscalers, budgets."""

from steps import Scenario, deployment, pod_spec, template

deploy = Scenario("deployments")
deploy.create("deployments", deployment("plain"), save="d")
deploy.create("deployments", deployment("recreate", strategy={"type": "Recreate"}, replicas=0, paused=True))
deploy.create(
    "deployments",
    deployment(
        "surge",
        strategy={"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
        minReadySeconds=5,
        revisionHistoryLimit=2,
        progressDeadlineSeconds=30,
    ),
)
for name, fields in {
    "no-selector": {"selector": None},
    "empty-selector": {"selector": {}},
    "selector-mismatch": {"selector": {"matchLabels": {"app": "other"}}},
    "selector-operator": {"selector": {"matchExpressions": [{"key": "app", "operator": "Like", "values": ["x"]}]}},
    "replicas-negative": {"replicas": -1},
    "replicas-text": {"replicas": "3"},
    "strategy-type": {"strategy": {"type": "Blue"}},
    "strategy-both-zero": {"strategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 0}}},
    "strategy-percent": {"strategy": {"rollingUpdate": {"maxSurge": "x%", "maxUnavailable": "150%"}}},
    "strategy-recreate-rolling": {"strategy": {"type": "Recreate", "rollingUpdate": {"maxSurge": 1}}},
    "deadline-small": {"progressDeadlineSeconds": 5, "minReadySeconds": 10},
    "history-negative": {"revisionHistoryLimit": -1},
    "restart-policy": {"template": template("x-restart", restartPolicy="Never")},
    "template-deadline": {"template": template("x-deadline", activeDeadlineSeconds=3)},
    "template-empty": {"template": {}},
    "template-image": {"template": {"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [{"name": "a"}]}}},
    "template-label": {"template": {"metadata": {"labels": {"app": "x y"}}, "spec": pod_spec()}},
}.items():
    body = deployment("x")
    body["spec"] |= fields
    if "template" in fields and name in ("restart-policy", "template-deadline"):
        body["spec"]["selector"] = {"matchLabels": fields["template"]["metadata"]["labels"]}
    deploy.create("deployments", body, id=name)
deploy.update("deployments", "plain", {"$from": "d", "$set": {"spec.replicas": 3}}, "scale-put", save="d")
deploy.update("deployments", "plain", {"$from": "d", "$set": {"metadata.labels": {"x": "y"}}}, "label-put", save="d")
deploy.update(
    "deployments", "plain", {"$from": "d", "$set": {"metadata.annotations": {"x": "y"}}}, "annotation-put", save="d"
)
deploy.update(
    "deployments",
    "plain",
    {"$from": "d", "$set": {"spec.selector.matchLabels.app": "new", "spec.template.metadata.labels.app": "new"}},
    "selector-immutable",
)
deploy.update("deployments", "plain", {"$from": "d", "$set": {"status": {"replicas": 9}}}, "status-by-spec", save="d")
deploy.update(
    "deployments",
    "plain",
    {
        "$from": "d",
        "$set": {
            "spec.replicas": 7,
            "status": {"replicas": 3, "readyReplicas": 2, "availableReplicas": 1, "observedGeneration": 2},
        },
    },
    "status",
    sub="status",
    save="d",
)
deploy.update(
    "deployments", "plain", {"$from": "d", "$set": {"status.readyReplicas": 30}}, "status-impossible", sub="status"
)
deploy.get("deployments", "plain", id="scale-get", sub="scale", save="scale")
deploy.update(
    "deployments", "plain", {"$from": "scale", "$set": {"spec.replicas": 5}}, "scale-update", sub="scale", save="scale"
)
deploy.update("deployments", "plain", {"$from": "scale", "$set": {"spec.replicas": -5}}, "scale-negative", sub="scale")
deploy.patch("deployments", "plain", {"spec": {"replicas": 6}}, "scale-patch", sub="scale")
deploy.patch(
    "deployments", "plain", {"metadata": {"resourceVersion": "1"}, "spec": {"replicas": 6}}, "scale-stale", sub="scale"
)
deploy.get("deployments", "absent", id="scale-absent", sub="scale")
deploy.patch(
    "deployments",
    "plain",
    {"spec": {"template": {"spec": {"containers": [{"name": "second", "image": "b"}]}}}},
    "strategic-add",
    type="application/strategic-merge-patch+json",
    save="d",
)
deploy.patch(
    "deployments",
    "plain",
    {
        "spec": {
            "template": {
                "spec": {
                    "$setElementOrder/containers": [{"name": "main"}, {"name": "second"}],
                    "containers": [{"name": "second", "$patch": "delete"}],
                }
            }
        }
    },
    "strategic-remove",
    type="application/strategic-merge-patch+json",
)
deploy.patch(
    "deployments",
    "plain",
    {"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}},
    "strategic-retain-keys",
    type="application/strategic-merge-patch+json",
)
deploy.get("deployments", "plain")
deploy.get("deployments", id="list")
deploy.raw(
    "table", "GET", deploy.path("deployments"), accept="application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
)
deploy.raw(
    "partial",
    "GET",
    deploy.path("deployments", "plain"),
    accept="application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io,application/json",
)
deploy.raw(
    "partial-list",
    "GET",
    deploy.path("deployments"),
    accept="application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io,application/json",
)
deploy.delete("deployments", "plain", query="propagationPolicy=Background")
deploy.delete("deployments", "surge", id="delete-orphan", query="propagationPolicy=Orphan")
deploy.get("deployments", "surge", id="orphaning")
deploy.delete("deployments", "recreate", id="delete-foreground", body={"propagationPolicy": "Foreground"})
deploy.get("deployments", "recreate", id="foreground-waiting")

sets = Scenario("sets")
rs = {"metadata": {"name": "rs"}, "spec": {"selector": {"matchLabels": {"app": "rs"}}, "template": template("rs")}}
sets.create("replicasets", rs, save="rs")
sets.update("replicasets", "rs", {"$from": "rs", "$set": {"spec.replicas": 0}}, "rs-scale", save="rs")
sets.update("replicasets", "rs", {"$from": "rs", "$set": {"spec.selector.matchLabels.app": "z"}}, "rs-selector")
sets.update(
    "replicasets",
    "rs",
    {"$from": "rs", "$set": {"status": {"replicas": 1, "fullyLabeledReplicas": 2}}},
    "rs-status-bad",
    sub="status",
)
sets.get("replicasets", id="rs-by-field", query="fieldSelector=status.replicas%3D0")
sts = {
    "metadata": {"name": "web"},
    "spec": {"serviceName": "web", "selector": {"matchLabels": {"app": "web"}}, "template": template("web")},
}
claims = [
    {
        "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }
]
sets.create("statefulsets", sts, save="sts")
sets.create(
    "statefulsets",
    {
        "metadata": {"name": "claims"},
        "spec": {
            **sts["spec"],
            "volumeClaimTemplates": claims,
            "podManagementPolicy": "Parallel",
            "updateStrategy": {"type": "OnDelete"},
        },
    },
    save="claims",
)
sets.update("statefulsets", "web", {"$from": "sts", "$set": {"spec.replicas": 2}}, "sts-scale", save="sts")
sets.update("statefulsets", "web", {"$from": "sts", "$set": {"spec.serviceName": "other"}}, "sts-immutable")
sets.update("statefulsets", "web", {"$from": "sts", "$set": {"spec.podManagementPolicy": "Parallel"}}, "sts-policy")
for name, fields in {
    "sts-bad-policy": {"podManagementPolicy": "x"},
    "sts-bad-strategy": {"updateStrategy": {"type": "x"}},
    "sts-bad-name": {"serviceName": "A B"},
    "sts-no-selector": {"selector": None},
    "sts-bad-claim": {"volumeClaimTemplates": [{"metadata": {"name": "x"}, "spec": {}}]},
    "sts-retention": {"persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Maybe"}},
    "sts-partition": {"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": -1}}},
}.items():
    sets.create("statefulsets", {"metadata": {"name": "x"}, "spec": {**sts["spec"], **fields}}, id=name)
sets.create("statefulsets", {**sts, "metadata": {"name": "a.b"}}, id="sts-dotted-name")
ds = {"metadata": {"name": "ds"}, "spec": {"selector": {"matchLabels": {"app": "ds"}}, "template": template("ds")}}
sets.create("daemonsets", ds, save="ds")
sets.update(
    "daemonsets", "ds", {"$from": "ds", "$set": {"spec.template.spec.containers.0.image": "b:1"}}, "ds-image", save="ds"
)
sets.update(
    "daemonsets",
    "ds",
    {"$from": "ds", "$set": {"spec.selector.matchLabels.app": "z", "spec.template.metadata.labels.app": "z"}},
    "ds-selector",
)
for name, fields in {
    "ds-bad-strategy": {"updateStrategy": {"type": "x"}},
    "ds-both": {"updateStrategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 1}}},
    "ds-none": {"updateStrategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 0}}},
    "ds-empty-selector": {"selector": {}},
    "ds-no-selector": {"selector": None},
    "ds-restart": {"template": template("ds", restartPolicy="Never")},
}.items():
    sets.create("daemonsets", {"metadata": {"name": "x"}, "spec": {**ds["spec"], **fields}}, id=name)
sets.create("controllerrevisions", {"metadata": {"name": "rev"}, "revision": 1, "data": {"a": 1}}, save="rev")
sets.update("controllerrevisions", "rev", {"$from": "rev", "$set": {"revision": 2}}, "rev-number", save="rev")
sets.update("controllerrevisions", "rev", {"$from": "rev", "$set": {"data": {"a": 2}}}, "rev-data")
sets.create("controllerrevisions", {"metadata": {"name": "x"}, "revision": -1}, id="rev-bad")
rc = {"metadata": {"name": "rc"}, "spec": {"template": template("rc")}}
sets.create("replicationcontrollers", rc, save="rc")
sets.get("replicationcontrollers", "rc", id="rc-scale", sub="scale")
sets.create("replicationcontrollers", {"metadata": {"name": "x"}, "spec": {}}, id="rc-bad")
sets.create("podtemplates", {"metadata": {"name": "pt"}, "template": template("pt")}, save="pt")
sets.update("podtemplates", "pt", {"$from": "pt", "$set": {"template.spec.restartPolicy": "Never"}}, "pt-update")
for resource in ("replicasets", "statefulsets", "daemonsets", "replicationcontrollers"):
    sets.raw(f"table-{resource}", "GET", sets.path(resource), accept="application/json;as=Table;v=v1;g=meta.k8s.io")

jobs = Scenario("jobs")
never = pod_spec(restartPolicy="Never")
job = {"metadata": {"name": "job"}, "spec": {"template": {"spec": never}}}
jobs.create("jobs", job, save="job")
jobs.create(
    "jobs",
    {
        "metadata": {"name": "indexed"},
        "spec": {
            "completionMode": "Indexed",
            "completions": 3,
            "parallelism": 2,
            "backoffLimitPerIndex": 1,
            "maxFailedIndexes": 2,
            "ttlSecondsAfterFinished": 10,
            "suspend": True,
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": never},
        },
    },
    save="indexed",
)
jobs.create(
    "jobs",
    {
        "metadata": {"name": "policy"},
        "spec": {
            "podFailurePolicy": {
                "rules": [
                    {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [1, 2]}},
                    {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]},
                ]
            },
            "template": {"spec": never},
        },
    },
)
jobs.create(
    "jobs",
    {
        "metadata": {"name": "manual"},
        "spec": {
            "manualSelector": True,
            "selector": {"matchLabels": {"m": "1"}},
            "template": {"metadata": {"labels": {"m": "1"}}, "spec": never},
        },
    },
)
jobs.create("jobs", {"metadata": {"generateName": "gen-"}, "spec": {"template": {"spec": never}}}, id="generated")
for name, fields in {
    "no-restart": {"template": {"spec": pod_spec()}},
    "bad-restart": {"template": {"spec": pod_spec(restartPolicy="Always")}},
    "negative": {
        "parallelism": -1,
        "completions": -2,
        "backoffLimit": -3,
        "activeDeadlineSeconds": -4,
        "ttlSecondsAfterFinished": -5,
    },
    "mode": {"completionMode": "Odd"},
    "indexed-no-completions": {"completionMode": "Indexed", "parallelism": 1, "completions": None},
    "per-index": {"backoffLimitPerIndex": 1},
    "selector-given": {"selector": {"matchLabels": {"x": "y"}}},
    "policy-bad": {
        "podFailurePolicy": {
            "rules": [{"action": "x"}, {"action": "Count", "onExitCodes": {"operator": "In", "values": [0]}}]
        }
    },
    "policy-restart": {"podFailurePolicy": {"rules": []}, "template": {"spec": pod_spec(restartPolicy="OnFailure")}},
    "replacement": {"podReplacementPolicy": "x"},
    "success": {"successPolicy": {"rules": [{"succeededCount": 1}]}},
    "no-template": {"template": {}},
}.items():
    jobs.create("jobs", {"metadata": {"name": "x"}, "spec": {"template": {"spec": never}, **fields}}, id=name)
jobs.update("jobs", "job", {"$from": "job", "$set": {"spec.parallelism": 2}}, "parallelism", save="job")
jobs.update("jobs", "job", {"$from": "job", "$set": {"spec.completions": 2}}, "completions-immutable")
jobs.update(
    "jobs", "job", {"$from": "job", "$set": {"spec.suspend": True, "spec.backoffLimit": 1}}, "suspend", save="job"
)
jobs.update("jobs", "job", {"$from": "job", "$set": {"spec.completionMode": "Indexed"}}, "mode-immutable")
jobs.update(
    "jobs", "job", {"$from": "job", "$set": {"spec.template.spec.nodeSelector": {"a": "b"}}}, "suspended-node-selector"
)
jobs.update(
    "jobs",
    "job",
    {"$from": "job", "$set": {"status": {"active": 1, "startTime": "2026-01-01T00:00:00Z"}}},
    "status",
    sub="status",
    save="job",
)
jobs.get("jobs", id="by-successful", query="fieldSelector=status.successful%3D0")
jobs.raw(
    "table", "GET", jobs.path("jobs"), query="labelSelector=a", accept="application/json;as=Table;v=v1;g=meta.k8s.io"
)
jobs.delete("jobs", "job", id="delete-default")
jobs.get("jobs", "job", id="deleting-default")
cron = {
    "metadata": {"name": "cron"},
    "spec": {"schedule": "*/5 * * * *", "jobTemplate": {"spec": {"template": {"spec": never}}}},
}
jobs.create("cronjobs", cron, save="cron")
jobs.create(
    "cronjobs",
    {
        "metadata": {"name": "zoned"},
        "spec": {
            **cron["spec"],
            "timeZone": "Europe/Berlin",
            "concurrencyPolicy": "Forbid",
            "startingDeadlineSeconds": 10,
        },
    },
)
for name, fields in {
    "cron-schedule": {"schedule": "every day"},
    "cron-range": {"schedule": "70 * * * *"},
    "cron-empty": {"schedule": ""},
    "cron-zone": {"timeZone": "Mars/Olympus"},
    "cron-tz": {"schedule": "TZ=UTC * * * * *"},
    "cron-policy": {"concurrencyPolicy": "x"},
    "cron-limit": {"successfulJobsHistoryLimit": -1},
    "cron-restart": {"jobTemplate": {"spec": {"template": {"spec": pod_spec()}}}},
    "cron-descriptor": {"schedule": "@dayly"},
    "cron-step": {"schedule": "*/0 * * * *"},
}.items():
    jobs.create("cronjobs", {"metadata": {"name": "x"}, "spec": {**cron["spec"], **fields}}, id=name)
jobs.create("cronjobs", {**cron, "metadata": {"name": "a" * 53}}, id="cron-long-name")
jobs.update("cronjobs", "cron", {"$from": "cron", "$set": {"spec.suspend": True}}, "cron-suspend")
hpa = {
    "metadata": {"name": "hpa"},
    "spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "x"}, "maxReplicas": 3},
}
jobs.create("horizontalpodautoscalers", hpa, save="hpa")
jobs.get("autoscaling/v1/horizontalpodautoscalers", "hpa", id="hpa-v1", save="hpa1")
jobs.create(
    "autoscaling/v1/horizontalpodautoscalers",
    {
        "apiVersion": "autoscaling/v1",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "one"},
        "spec": {**hpa["spec"], "targetCPUUtilizationPercentage": 50},
    },
    id="hpa-v1-create",
)
jobs.get("horizontalpodautoscalers", "one", id="hpa-v1-as-v2")
jobs.create(
    "horizontalpodautoscalers",
    {
        "metadata": {"name": "behave"},
        "spec": {
            **hpa["spec"],
            "minReplicas": 2,
            "behavior": {"scaleDown": {"stabilizationWindowSeconds": 5}},
            "metrics": [
                {
                    "type": "Resource",
                    "resource": {"name": "memory", "target": {"type": "AverageValue", "averageValue": "100Mi"}},
                }
            ],
        },
    },
)
for name, fields in {
    "hpa-zero": {"maxReplicas": 0},
    "hpa-min": {"minReplicas": 5},
    "hpa-min-zero": {"minReplicas": 0},
    "hpa-target": {"scaleTargetRef": {"kind": "", "name": ""}},
    "hpa-metric": {"metrics": [{"type": "Odd"}]},
    "hpa-metric-empty": {
        "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization"}}}]
    },
}.items():
    jobs.create("horizontalpodautoscalers", {"metadata": {"name": "x"}, "spec": {**hpa["spec"], **fields}}, id=name)
pdb = {"metadata": {"name": "pdb"}, "spec": {"maxUnavailable": "50%", "selector": {"matchLabels": {"a": "b"}}}}
jobs.create("poddisruptionbudgets", pdb, save="pdb")
jobs.create(
    "poddisruptionbudgets", {"metadata": {"name": "x"}, "spec": {"maxUnavailable": 1, "minAvailable": 1}}, id="pdb-both"
)
jobs.create("poddisruptionbudgets", {"metadata": {"name": "x"}, "spec": {"minAvailable": "200%"}}, id="pdb-percent")
jobs.update(
    "poddisruptionbudgets", "pdb", {"$from": "pdb", "$unset": ["metadata.resourceVersion"]}, "pdb-unconditional"
)
jobs.update("poddisruptionbudgets", "pdb", {"$from": "pdb", "$set": {"spec.maxUnavailable": 1}}, "pdb-update")
for resource in ("cronjobs", "horizontalpodautoscalers", "poddisruptionbudgets"):
    jobs.raw(f"table-{resource}", "GET", jobs.path(resource), accept="application/json;as=Table;v=v1;g=meta.k8s.io")

SCENARIOS = [deploy, sets, jobs]
