"""Fields that v1 shows twice, alone and as the first of a list: a pod's address, a node's block of pod addresses.

Whoever writes one of the two has written both; where they differ the single one counts, as upstream's conversion of
core/v1 has it (older kubelets know that one only).
"""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]


def pod_status(obj: Object) -> None:
    single, several = obj.get("podIP"), obj.get("podIPs")
    if single:
        if not several or several[0].get("ip") != single:
            obj["podIPs"] = [{"ip": single}]
    elif several and several[0].get("ip"):
        obj["podIP"] = several[0]["ip"]


def node_spec(obj: Object) -> None:
    single, several = obj.get("podCIDR"), obj.get("podCIDRs")
    if single:
        if not several or several[0] != single:
            obj["podCIDRs"] = [single]
    elif several:
        obj["podCIDR"] = several[0]
