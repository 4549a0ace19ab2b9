"""No device is given twice: what the pods of a node were given never exceeds what the node has.

Looked at where a pod comes onto a node: CPU, memory, pods' places and extended resources such as `nvidia.com/gpu`,
against the node's capacity as it was when the pod came (a GPU that is lost later takes nothing back). GPUs, partitions
and time slices that containers were given by their ids are held by one pod each; devices that ResourceClaims were given
by one claim each, but for those that ask for admin access.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from atoll.cluster.store.port import Store
from atoll.simulate.invariants.port import Invariant, Tell
from atoll.simulate.ledger import Ledger, Pod, devices_given, pod_of

Object = dict[str, Any]
Device = tuple[str, str, str]
_CLAIMS = "resourceclaims.resource.k8s.io"
_ONE = 1_000_000_000
_WHOLE = 1000  # thousandths of a GPU


class Devices(Invariant):
    name = "devices"
    resources = (_CLAIMS,)

    def __init__(self, ledger: Ledger, store: Store, tell: Tell) -> None:
        self._ledger = ledger
        self._store = store
        self._tell = tell
        self._used: dict[str, dict[str, int]] = {}
        self._held: dict[Device, str] = {}
        self._given: dict[str, str] = {}  # id of a GPU, partition or time slice → uid of the pod that has it
        self._parts: dict[str, dict[int, int]] = {}  # node → number of a GPU → milli that pods have of it

    def on_pod(self, old: Pod | None, new: Pod | None, now: float) -> None:
        was, is_now = old is not None and old.holds, new is not None and new.holds
        self._hand_over(old if was else None, new if is_now else None, now)
        if was == is_now:
            if was and old is not None and new is not None and (old.uid, old.node) != (new.uid, new.node):
                self._tell(f"pod {new.key[1]} moved from {old.node} to {new.node}", now)
            return
        if old is not None and was:
            _add(self._used.setdefault(old.node, {}), old.requests, -1)
            _share(self._parts.setdefault(old.node, {}), old, -1)
        if new is not None and is_now:
            used = self._used.setdefault(new.node, {})
            _add(used, new.requests, 1)
            self._compare(new.node, used, now)
            _share(self._parts.setdefault(new.node, {}), new, 1)
            self._compare_parts(new.node, self._parts[new.node], now)

    def _hand_over(self, old: Pod | None, new: Pod | None, now: float) -> None:
        before, after = old.devices if old is not None else (), new.devices if new is not None else ()
        if before == after and old is not None and new is not None and old.uid == new.uid:
            return
        for item in before:
            if old is not None and self._given.get(item) == old.uid:
                del self._given[item]
        for item in after:
            assert new is not None
            other = self._given.setdefault(item, new.uid)
            if other != new.uid:
                self._tell(f"node {new.node}: {item} is given to pods {other} and {new.uid}", now)

    def on_object(self, resource: str, old: Object | None, new: Object | None, now: float) -> None:
        for device in _devices(old):
            self._held.pop(device, None)
        for device in _devices(new):
            assert new is not None
            holder = f"{new['metadata']['namespace']}/{new['metadata']['name']}"
            other = self._held.setdefault(device, holder)
            if other != holder:
                self._tell(f"device {'/'.join(device)} is given to claims {other} and {holder}", now)

    def full(self, now: float) -> None:
        used: dict[str, dict[str, int]] = {}
        parts: dict[str, dict[int, int]] = {}
        given: dict[str, str] = {}
        for record in self._store.scan("pods"):
            pod = pod_of(record.object)
            if pod.holds:
                _add(used.setdefault(pod.node, {}), pod.requests, 1)
                _share(parts.setdefault(pod.node, {}), pod, 1)
                for item in pod.devices:
                    other = given.setdefault(item, pod.uid)
                    if other != pod.uid:
                        self._tell(f"node {pod.node}: {item} is given to pods {other} and {pod.uid}", now)
        if given != self._given:
            self._tell(f"pods hold {len(given)} GPUs by id, counted by changes {len(self._given)}", now)
        for node, shares in parts.items():
            self._compare_parts(node, shares, now)
        for node, amounts in used.items():
            self._compare(node, amounts, now)
            if amounts != {name: value for name, value in self._used.get(node, {}).items() if value}:
                self._tell(f"node {node}: pods hold {amounts}, counted by changes {self._used.get(node)}", now)

    def _compare_parts(self, node: str, parts: Mapping[int, int], now: float) -> None:
        for device, milli in parts.items():
            if milli > _WHOLE:
                self._tell(f"node {node}: {milli} of {_WHOLE} thousandths of GPU {device} are given away", now)

    def _compare(self, name: str, used: Mapping[str, int], now: float) -> None:
        node = self._ledger.nodes.get(name)
        if node is None:
            return
        for resource, amount in used.items():
            if amount > node.capacity.get(resource, 0):
                have = node.capacity.get(resource, 0)
                self._tell(f"node {name}: {amount / _ONE:g} of {have / _ONE:g} {resource} are given away", now)


def _add(total: dict[str, int], amounts: Mapping[str, int], sign: int) -> None:
    for name, amount in amounts.items():
        if amount:
            total[name] = total.get(name, 0) + sign * amount
    total["pods"] = total.get("pods", 0) + sign * _ONE


def _share(total: dict[int, int], pod: Pod, sign: int) -> None:
    for device, milli in pod.parts:
        total[device] = total.get(device, 0) + sign * milli


def _devices(claim: Object | None) -> Iterator[Device]:
    for result in devices_given(claim):
        yield result["driver"], result["pool"], result["device"]
