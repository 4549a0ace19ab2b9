"""Cluster IPs and node ports: each Service gets its own, from the cluster's ranges.

The set in use is built from the store once and then kept by this class; an entry whose Service is gone is reused.
Two creates never get the same address, because allocation and the note of it happen without an await.
"""

from __future__ import annotations

import ipaddress
from typing import Any

from atoll.base.addresses import load_balancer_offsets
from atoll.base.chance import Chance
from atoll.base.clock import Clock
from atoll.base.errors import Invalid, ServerError
from atoll.cluster.apiserver.ports import AdmissionRequest
from atoll.cluster.store.port import Key, Store

Object = dict[str, Any]
NODE_PORTS = (30000, 32767)
_HOLD_SECONDS = 60.0
_TRIES = 4096


class _Held:
    """Values in use → (the Service's key, until when the entry counts without a look at the store)."""

    def __init__(self) -> None:
        self.by_value: dict[str | int, tuple[Key, float]] = {}


class ServiceAllocation:
    """Mutating plugin for Services. `cidr`: the service range; its first address is the API server's, .10 DNS's."""

    resources = frozenset(("services",))

    def __init__(
        self, store: Store, clock: Clock, chance: Chance, cidr: str, node_ports: tuple[int, int] = NODE_PORTS
    ) -> None:
        self._store = store
        self._clock = clock
        self._chance = chance
        self._network = ipaddress.ip_network(cidr)
        balancers = load_balancer_offsets(cidr)
        self._highest = balancers.start - 1 if balancers else self._network.num_addresses - 2
        self._ports = node_ports
        self._ips = _Held()
        self._node_ports = _Held()
        self._loaded = False

    def mutate(self, request: AdmissionRequest) -> None:
        if request.operation == "DELETE" or request.subresource or request.obj is None:
            return
        self._load()
        key = Key("services", request.namespace, request.name or str(self._chance.uuid()))
        spec = request.obj.setdefault("spec", {})
        old = (request.old or {}).get("spec") or {}
        if spec.get("type") == "ExternalName":
            for field in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"):
                if request.old is not None and spec.get(field) == old.get(field):
                    spec.pop(field, None)
            return
        self._addresses(request, key, spec, old)
        self._ports_for(request, key, spec, old)

    def _addresses(self, request: AdmissionRequest, key: Key, spec: Object, old: Object) -> None:
        if not spec.get("clusterIP") and old.get("clusterIP") and old.get("type") != "ExternalName":
            spec["clusterIP"] = old["clusterIP"]
            spec.setdefault("clusterIPs", old.get("clusterIPs"))
        address = spec.get("clusterIP") or next(iter(spec.get("clusterIPs") or ()), "")
        if not address:
            address = self._free_address(key, request.dry_run)
        elif address != "None" and not old.get("clusterIP"):
            self._claim_address(request, key, address)  # one that stands may not change: validation says so
        spec["clusterIP"] = address
        spec["clusterIPs"] = [address]
        if "ipFamilies" not in spec:
            headless_without_selector = address == "None" and not spec.get("selector")
            spec["ipFamilies"] = ["IPv4", "IPv6"] if headless_without_selector else ["IPv4"]
            if headless_without_selector:
                spec.setdefault("ipFamilyPolicy", "RequireDualStack")
        spec.setdefault("ipFamilyPolicy", "SingleStack")

    def _ports_for(self, request: AdmissionRequest, key: Key, spec: Object, old: Object) -> None:
        kind = spec.get("type")
        wants = kind == "NodePort" or (
            kind == "LoadBalancer" and spec.get("allocateLoadBalancerNodePorts") is not False
        )
        before = {
            (port.get("protocol", "TCP"), port.get("port")): port.get("nodePort") for port in old.get("ports") or ()
        }
        kept = {port.get("nodePort") for port in old.get("ports") or ()}
        if not wants:
            if kind == "ClusterIP" and old.get("type") in ("NodePort", "LoadBalancer"):
                for port in spec.get("ports") or ():
                    if port.get("nodePort") in kept:
                        port.pop("nodePort", None)
            return
        given: dict[int, set[str]] = {}
        for index, port in enumerate(spec.get("ports") or ()):
            protocol = port.get("protocol", "TCP")
            number = port.get("nodePort") or before.get((protocol, port.get("port")))
            if not number:
                number = self._free_port(key, request.dry_run)
            elif number not in kept and number not in given:
                self._claim_port(request, key, number, index)
            port["nodePort"] = number
            given.setdefault(number, set()).add(protocol)

    def _free_address(self, key: Key, dry_run: bool) -> str:
        # upstream leaves the lowest 16–256 addresses of a range to static choice
        size = self._network.num_addresses
        low = min(max(16, size // 16), 256) if size > 64 else 2
        for _ in range(_TRIES):
            address = str(self._network[self._chance.integer(low, self._highest)])
            if self._take(self._ips, address, key, dry_run):
                return address
        for offset in range(2, self._highest + 1):
            address = str(self._network[offset])
            if self._take(self._ips, address, key, dry_run):
                return address
        raise ServerError("failed to allocate a serviceIP: range is full")

    def _claim_address(self, request: AdmissionRequest, key: Key, text: str) -> None:
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            return  # validation words this
        if address not in self._network:
            why = f"failed to allocate IP {text}: the provided network does not match the current range"
            raise _invalid(request, "spec.clusterIPs", [text], why)
        if not self._take(self._ips, text, key, request.dry_run):
            raise _invalid(
                request, "spec.clusterIPs", [text], f"failed to allocate IP {text}: provided IP is already allocated"
            )

    def _free_port(self, key: Key, dry_run: bool) -> int:
        low, high = self._ports
        for _ in range(_TRIES):
            number = self._chance.integer(low, high)
            if self._take(self._node_ports, number, key, dry_run):
                return number
        raise ServerError("failed to allocate a nodePort: range is full")

    def _claim_port(self, request: AdmissionRequest, key: Key, number: int, index: int) -> None:
        low, high = self._ports
        if not low <= number <= high:
            why = f"provided port is not in the valid range. The range of valid ports is {low}-{high}"
            raise _invalid(request, f"spec.ports[{index}].nodePort", number, why)
        if not self._take(self._node_ports, number, key, request.dry_run):
            raise _invalid(request, f"spec.ports[{index}].nodePort", number, "provided port is already allocated")

    def _take(self, held: _Held, value: str | int, key: Key, dry_run: bool) -> bool:
        entry = held.by_value.get(value)
        now = self._clock.monotonic()
        if entry is not None and entry[0] != key and (entry[1] > now or self._uses(entry[0], value)):
            return False
        if not dry_run:
            held.by_value[value] = (key, now + _HOLD_SECONDS)
        return True

    def _uses(self, key: Key, value: str | int) -> bool:
        record = self._store.newest(key)
        if record is None:
            return False
        spec = record.object.get("spec") or {}
        return spec.get("clusterIP") == value or any(p.get("nodePort") == value for p in spec.get("ports") or ())

    def released(self, service: Object) -> None:
        """A Service was deleted: its values are free at once."""
        spec = service.get("spec") or {}
        self._ips.by_value.pop(spec.get("clusterIP") or "", None)
        for port in spec.get("ports") or ():
            self._node_ports.by_value.pop(port.get("nodePort") or 0, None)

    def _load(self) -> None:
        if self._loaded:
            return
        self._loaded = True
        for offset in (1, 10):
            reserved = Key(
                "services", "default" if offset == 1 else "kube-system", "kubernetes" if offset == 1 else "kube-dns"
            )
            self._ips.by_value[str(self._network[offset])] = (reserved, float("inf"))
        for record in self._store.scan("services"):
            spec = record.object.get("spec") or {}
            self._ips.by_value[spec.get("clusterIP") or ""] = (record.key, 0.0)
            for port in spec.get("ports") or ():
                if port.get("nodePort"):
                    self._node_ports.by_value[port["nodePort"]] = (record.key, 0.0)


def _invalid(request: AdmissionRequest, field: str, value: Any, why: str) -> Invalid:
    shown = str(value) if isinstance(value, int) else '["' + '","'.join(value) + '"]'
    message = f"Invalid value: {shown}: {why}"
    details = {
        "name": request.name,
        "kind": "Service",
        "causes": [{"reason": "FieldValueInvalid", "message": message, "field": field}],
    }
    return Invalid(f'Service "{request.name}" is invalid: {field}: {message}', details=details)
