"""Differences that are none: what a server fills in again by itself; and what of a difference may be shown. Pure."""

from __future__ import annotations

import base64
from typing import Any

from atoll.objects.diff import Change

Object = dict[str, Any]
_HIDDEN = ("*** (before)", "*** (after)")

# Field → values that an API server fills in where a manifest of a workload, Service, Secret or Ingress names none.
_DEFAULTS: dict[str, tuple[Any, ...]] = {
    "imagePullPolicy": ("Always", "IfNotPresent"),
    "terminationMessagePath": ("/dev/termination-log",),
    "terminationMessagePolicy": ("File",),
    "resources": ({},),
    "securityContext": ({},),
    "dnsPolicy": ("ClusterFirst",),
    "restartPolicy": ("Always",),
    "schedulerName": ("default-scheduler",),
    "terminationGracePeriodSeconds": (30,),
    "enableServiceLinks": (True,),
    "defaultMode": (420,),
    "protocol": ("TCP",),
    "scheme": ("HTTP",),
    "successThreshold": (1,),
    "failureThreshold": (3,),
    "periodSeconds": (10,),
    "timeoutSeconds": (1,),
    "revisionHistoryLimit": (10,),
    "progressDeadlineSeconds": (600,),
    "strategy": ({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}},),
    "updateStrategy": (
        {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
        {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}},
    ),
    "podManagementPolicy": ("OrderedReady",),
    "persistentVolumeClaimRetentionPolicy": ({"whenDeleted": "Retain", "whenScaled": "Retain"},),
    "sessionAffinity": ("None",),
    "internalTrafficPolicy": ("Cluster",),
    "type": ("ClusterIP", "Opaque", "RollingUpdate"),
    "ipFamilyPolicy": ("SingleStack",),
    "volumeMode": ("Filesystem",),
    "backoffLimit": (6,),
    "completionMode": ("NonIndexed",),
    "suspend": (False,),
    "podReplacementPolicy": ("TerminatingOrFailed",),
    "parallelism": (1,),
    "completions": (1,),
}
_ALLOCATED = frozenset(("clusterIP", "clusterIPs", "ipFamilies", "nodePort", "healthCheckNodePort", "volumeName"))


def is_settled(change: Change) -> bool:
    """A field that the new configuration leaves to the server, which would write the same again."""
    name = change.path.rpartition(".")[2]
    if change.new is not None:
        return name == "targetPort" and change.new == 0  # Go writes the zero; the server takes it for `port`
    return name in _ALLOCATED or change.old in _DEFAULTS.get(name, ())


def with_data(obj: Object) -> Object:
    """A Secret as a server keeps it: stringData becomes data."""
    texts = obj.get("stringData")
    if obj.get("kind") != "Secret" or obj.get("apiVersion") != "v1" or not isinstance(texts, dict):
        return obj
    out = {name: value for name, value in obj.items() if name != "stringData"}
    encoded = {name: base64.b64encode(str(text).encode()).decode() for name, text in texts.items()}
    return {**out, "data": {**(obj.get("data") or {}), **encoded}}


def shown(kind: str, change: Change) -> Change:
    """The change as a person may see it: of a Secret only that it differs."""
    if kind != "Secret" or not change.path.startswith(("data", "stringData")):
        return change
    old = None if change.old is None else _HIDDEN[0]
    return Change(change.path, change.kind, old, None if change.new is None else _HIDDEN[1])
