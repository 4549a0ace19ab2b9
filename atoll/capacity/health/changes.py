"""A step as a patch of its Node: a JSON merge patch with the version that it was planned on. Pure."""

from __future__ import annotations

from atoll.base.clock import rfc3339
from atoll.capacity import names
from atoll.capacity.health.model import Finding, Object, Past, Repair, past_of, text_of
from atoll.capacity.nodes import annotation, has_gpus, taints, with_taint, without_taint
from atoll.objects.meta import condition

_KEPT_REPAIRS = 5


def _patch(node: Object, annotations: dict[str, str | None], **more: Object) -> Object:
    version = node["metadata"]["resourceVersion"]
    metadata = {"resourceVersion": version, "annotations": annotations, **more.pop("metadata", {})}
    return {"metadata": metadata, **more}


def taken_out(node: Object, repair: Repair, now: float) -> Object:
    """Cordoned, tainted, and why."""
    spec = {
        "unschedulable": True,
        "taints": with_taint(node, names.UNHEALTHY_TAINT, repair.reason, rfc3339(now)),
    }
    return _patch(node, {names.REPAIR: text_of(repair)}, spec=spec)


def moved(node: Object, repair: Repair, now: float, *, tests: bool) -> Object:
    """Another phase; into `testing`: what was reported before the remedy counts no more, and tests are due."""
    annotations: dict[str, str | None] = {names.REPAIR: text_of(repair)}
    if repair.phase != "testing":
        return _patch(node, annotations)
    annotations |= dict.fromkeys((names.KERNEL_LOG, names.TEST_FAILED, names.PREFLIGHT_REASON, names.REPAIRED))
    if not tests:
        return _patch(node, annotations)
    annotations[names.PREFLIGHT_SINCE] = rfc3339(now)
    spec = {"taints": with_taint(node, names.PREFLIGHT, "pending", rfc3339(now))}
    return _patch(node, annotations, spec=spec, metadata={"labels": {names.PREFLIGHT: "pending"}})


def returned(node: Object, repair: Repair, now: float) -> Object:
    """Untainted, and uncordoned where we had cordoned it."""
    past = [*past_of(node), Past(repair.remedy, repair.reason, rfc3339(now))][-_KEPT_REPAIRS:]
    spec: Object = {"taints": without_taint(node, names.UNHEALTHY_TAINT)}
    if repair.cordoned:
        spec["unschedulable"] = None
    return _patch(node, {names.REPAIR: None, names.REPAIRS: text_of(past)}, spec=spec)


def conditions(node: Object, findings: list[Finding], has_reading: bool, now: float) -> list[Object]:
    """Those of our own conditions that differ from what the node has.

    GPUHealthy is there for every node with GPUs: True, False or, without a reading, Unknown. The others are written
    once there was something to say.
    """
    bad = [item for item in findings if item.actionable]
    gpu = [item for item in bad if item.area in ("gpu", "test")]
    host = [item for item in bad if item.area in ("disk", "network", "kernel", "runtime")]
    notices = [item for item in bad if item.area == "maintenance"]
    wanted: list[tuple[str, str, str, str]] = []
    if has_gpus(node) or gpu:
        if gpu:
            wanted.append((names.GPU_HEALTHY, "False", gpu[0].code, _told(gpu)))
        elif has_reading:
            wanted.append((names.GPU_HEALTHY, "True", "NoFault", "no fault was found"))
        else:
            wanted.append((names.GPU_HEALTHY, "Unknown", "NoReading", "nothing could be read of its GPUs"))
    if host or condition(node, names.HOST_HEALTHY):
        if host:
            wanted.append((names.HOST_HEALTHY, "False", host[0].code, _told(host)))
        else:
            wanted.append((names.HOST_HEALTHY, "True", "NoFault", "no fault was found"))
    if notices or condition(node, names.MAINTENANCE):
        if notices:
            wanted.append((names.MAINTENANCE, "True", notices[0].code, _told(notices)))
        else:
            wanted.append((names.MAINTENANCE, "False", "NoNotice", "no maintenance is announced"))
    return [made for entry in wanted if (made := _changed(node, entry, now)) is not None]


def _told(findings: list[Finding]) -> str:
    return "; ".join(item.message for item in findings)[:1024]


def _changed(node: Object, wanted: tuple[str, str, str, str], now: float) -> Object | None:
    kind, status, reason, message = wanted
    old = condition(node, kind) or {}
    if (old.get("status"), old.get("reason"), old.get("message")) == (status, reason, message):
        return None
    stamp = rfc3339(now)
    moved_at = old.get("lastTransitionTime", stamp) if old.get("status") == status else stamp
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "lastHeartbeatTime": stamp,
        "lastTransitionTime": moved_at,
    }


def shown_taints(node: Object) -> list[str]:
    """Of ours, for people."""
    ours = (names.UNHEALTHY_TAINT, names.PREFLIGHT)
    return [f"{taint['key']}={taint.get('value', '')}" for taint in taints(node) if taint["key"] in ours]


def repaired_number(node: Object) -> int:
    """The repair that somebody says is done; 0 for none."""
    text = annotation(node, names.REPAIRED)
    return int(text) if text.isdigit() else 0
