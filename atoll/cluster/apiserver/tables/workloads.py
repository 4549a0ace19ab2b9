"""Tables of the kinds that make pods, and of autoscalers and budgets."""

from __future__ import annotations

from typing import Any

from atoll.base.clock import parse_rfc3339
from atoll.cluster.apiserver.tables.cells import (
    Cells,
    Object,
    Printer,
    age,
    columns,
    condition_true,
    containers,
    duration,
    labels,
    name,
    since,
    some,
)
from atoll.kinds.convert import convert
from atoll.objects.selectors import SelectorError, format_object, from_object


def _deployment(obj: Object, now: float) -> Cells:
    spec, status = obj["spec"], obj.get("status") or {}
    try:
        selector = str(from_object(spec.get("selector")))
    except SelectorError:
        selector = "<invalid>"
    return [
        name(obj), f"{status.get('readyReplicas', 0)}/{spec.get('replicas', 0)}", status.get("updatedReplicas", 0),
        status.get("availableReplicas", 0), age(obj, now), *containers(spec.get("template")), selector,
    ]  # fmt: skip


def _replica_set(obj: Object, now: float) -> Cells:
    spec, status = obj["spec"], obj.get("status") or {}
    return [
        name(obj), spec.get("replicas", 0), status.get("replicas", 0), status.get("readyReplicas", 0), age(obj, now),
        *containers(spec.get("template")), format_object(spec.get("selector")),
    ]  # fmt: skip


def _replication_controller(obj: Object, now: float) -> Cells:
    return [
        *_replica_set({**obj, "spec": {**obj["spec"], "selector": None}}, now)[:-1],
        labels(obj["spec"].get("selector")),
    ]


def _stateful_set(obj: Object, now: float) -> Cells:
    spec, status = obj["spec"], obj.get("status") or {}
    ready = f"{status.get('readyReplicas', 0)}/{spec.get('replicas', 0)}"
    return [name(obj), ready, age(obj, now), *containers(spec.get("template"))]


def _daemon_set(obj: Object, now: float) -> Cells:
    spec, status = obj["spec"], obj.get("status") or {}
    counts = ("desiredNumberScheduled", "currentNumberScheduled", "numberReady", "updatedNumberScheduled",
              "numberAvailable")  # fmt: skip
    node_selector = (spec["template"].get("spec") or {}).get("nodeSelector")
    return [
        name(obj), *(status.get(count, 0) for count in counts), labels(node_selector), age(obj, now),
        *containers(spec["template"]), format_object(spec.get("selector")),
    ]  # fmt: skip


def _job_status(obj: Object) -> str:
    for kind, text in (("Complete", "Complete"), ("Failed", "Failed")):
        if condition_true(obj, kind):
            return text
    if "deletionTimestamp" in obj["metadata"]:
        return "Terminating"
    for kind in ("Suspended", "FailureTarget", "SuccessCriteriaMet"):
        if condition_true(obj, kind):
            return kind
    return "Running"


def _job(obj: Object, now: float) -> Cells:
    spec, status = obj["spec"], obj.get("status") or {}
    succeeded = status.get("succeeded", 0)
    parallelism = spec.get("parallelism") or 0
    if spec.get("completions") is not None:
        done = f"{succeeded}/{spec['completions']}"
    else:
        done = f"{succeeded}/1 of {parallelism}" if parallelism > 1 else f"{succeeded}/1"
    took = ""
    if status.get("startTime"):
        end = parse_rfc3339(status["completionTime"]) if status.get("completionTime") else now
        took = duration(end - parse_rfc3339(status["startTime"]))
    return [
        name(obj), _job_status(obj), done, took, age(obj, now), *containers(spec.get("template")),
        format_object(spec.get("selector")),
    ]  # fmt: skip


def _cron_job(obj: Object, now: float) -> Cells:
    spec, status = obj["spec"], obj.get("status") or {}
    suspend = spec.get("suspend")
    last = status.get("lastScheduleTime")
    template = (spec.get("jobTemplate") or {}).get("spec") or {}
    return [
        name(obj), spec.get("schedule", ""), spec.get("timeZone") or "<none>",
        "<unset>" if suspend is None else "True" if suspend else "False", len(status.get("active") or ()),
        since(last, now) if last else "<none>", age(obj, now), *containers(template.get("template")),
        format_object(template.get("selector")),
    ]  # fmt: skip


def _text(value: Any) -> str:
    return "N/A" if value is None else str(value)


def _budget(obj: Object, now: float) -> Cells:
    spec, status = obj["spec"], obj.get("status") or {}
    return [
        name(obj), _text(spec.get("minAvailable")), _text(spec.get("maxUnavailable")),
        status.get("disruptionsAllowed", 0), age(obj, now),
    ]  # fmt: skip


_SOURCES = {
    "External": "external", "Pods": "pods", "Object": "object", "Resource": "resource",
    "ContainerResource": "containerResource",
}  # fmt: skip


def _metric(metric: Object, current: Object | None) -> str:
    """One metric as "what: now/wanted"."""
    kind = metric.get("type", "")
    key = _SOURCES.get(kind)
    if key is None:
        return "<unknown type>"
    source = metric.get(key) or {}
    target = source.get("target") or {}
    figures = ((current or {}).get(key) or {}).get("current") or {}
    if kind in ("Resource", "ContainerResource"):
        prefix = f"{source.get('name', '')}: "
        if target.get("averageValue") is not None:
            return f"{prefix}{figures.get('averageValue', '<unknown>')}/{target['averageValue']}"
        now, wanted = figures.get("averageUtilization"), target.get("averageUtilization")
        shown = "<unknown>" if now is None else f"{now}%"
        return f"{prefix}{shown}/{'<auto>' if wanted is None else f'{wanted}%'}"
    if kind == "Pods":
        return f"{figures.get('averageValue', '<unknown>')}/{target.get('averageValue', '0')}"
    if target.get("averageValue") is not None:
        return f"{figures.get('averageValue', '<unknown>')}/{target['averageValue']} (avg)"
    return f"{figures.get('value', '<unknown>')}/{target.get('value', '0')}"


def _autoscaler(obj: Object, now: float) -> Cells:
    obj = convert(obj, "autoscaling/v2")
    spec, status = obj["spec"], obj.get("status") or {}
    metrics, current = spec.get("metrics") or (), status.get("currentMetrics") or ()
    shown = [_metric(item, current[index] if index < len(current) else None) for index, item in enumerate(metrics)]
    target = spec.get("scaleTargetRef") or {}
    least = spec.get("minReplicas")
    return [
        name(obj), f"{target.get('kind', '')}/{target.get('name', '')}",
        some(shown, 2, empty="<none>", joint=", "), "<unset>" if least is None else str(least),
        spec.get("maxReplicas", 0), status.get("currentReplicas", 0), age(obj, now),
    ]  # fmt: skip


def _controller_revision(obj: Object, now: float) -> Cells:
    owner = next((item for item in obj["metadata"].get("ownerReferences") or () if item.get("controller")), None)
    controller = "<none>"
    if owner is not None:
        group, _, _ = owner["apiVersion"].rpartition("/")
        controller = f"{owner['kind']}{'.' + group if group else ''}".lower() + "/" + owner["name"]
    return [name(obj), controller, obj.get("revision", 0), age(obj, now)]


def _pod_template(obj: Object, now: float) -> Cells:
    template = obj.get("template") or {}
    return [name(obj), *containers(template), labels((template.get("metadata") or {}).get("labels"))]


_WIDE = "Containers* Images* Selector*"
_COUNTS = "Desired:integer Current:integer Ready:integer"
PRINTERS = {
    "deployments.apps": Printer(columns(f"Name Ready Up-to-date Available Age {_WIDE}"), _deployment),
    "replicasets.apps": Printer(columns(f"Name {_COUNTS} Age {_WIDE}"), _replica_set),
    "replicationcontrollers": Printer(columns(f"Name {_COUNTS} Age {_WIDE}"), _replication_controller),
    "statefulsets.apps": Printer(columns("Name Ready Age Containers* Images*"), _stateful_set),
    "daemonsets.apps": Printer(
        columns(f"Name {_COUNTS} Up-to-date:integer Available:integer Node_Selector Age {_WIDE}"), _daemon_set
    ),
    "jobs.batch": Printer(columns(f"Name Status Completions Duration Age {_WIDE}"), _job),
    "cronjobs.batch": Printer(
        columns(f"Name Schedule Timezone Suspend:boolean Active:integer Last_Schedule Age {_WIDE}"), _cron_job
    ),
    "poddisruptionbudgets.policy": Printer(
        columns("Name Min_Available Max_Unavailable Allowed_Disruptions:integer Age"), _budget
    ),
    "horizontalpodautoscalers.autoscaling": Printer(
        columns("Name Reference Targets MinPods MaxPods Replicas Age"), _autoscaler
    ),
    "controllerrevisions.apps": Printer(columns("Name Controller Revision Age"), _controller_revision),
    "podtemplates": Printer(columns("Name Containers Images Pod_Labels"), _pod_template),
}
