"""The cluster's DNS names, as Kubernetes' DNS specification 1.1 lays them down: pure, from Services and slices.

A and SRV of services and headless endpoints, PTR of cluster addresses, pods by dashed address, CNAME of ExternalName.
There are no IPv6 addresses: AAAA of a name that exists is empty. Names outside the cluster's domain are refused.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Object = dict[str, Any]
Key = tuple[str | None, str]
TTL_SECONDS = 5


@dataclass(frozen=True, slots=True)
class Srv:
    """Port and target of one SRV record."""

    port: int
    target: str


@dataclass(slots=True)
class Names:
    """All that is known of one name: it exists if it has an entry."""

    a: list[str] = field(default_factory=list)
    srv: list[Srv] = field(default_factory=list)
    cname: str = ""


@dataclass(slots=True)
class Zone:
    """name (lower case, no final dot) → records; address → name for PTR."""

    domain: str
    names: dict[str, Names] = field(default_factory=dict)
    pointers: dict[str, str] = field(default_factory=dict)

    def within(self, name: str) -> bool:
        return name == self.domain or name.endswith("." + self.domain)

    def look_up(self, name: str) -> Names | None:
        """The name's records, also of those that are computed (pods by address, inner nodes)."""
        found = self.names.get(name)
        if found is not None:
            return found
        labels = name.removesuffix("." + self.domain).split(".") if name != self.domain else []
        if len(labels) == 3 and labels[2] == "pod":
            return _dashed(labels[0])
        if any(known.endswith("." + name) for known in self.names) or name == self.domain:
            return Names()
        return None


def _dashed(label: str) -> Names | None:
    try:
        return Names([str(ipaddress.ip_address(label.replace("-", ".")))])
    except ValueError:
        return None


def build_zone(domain: str, services: Iterable[Object], slices: Mapping[Key, Sequence[Object]]) -> Zone:
    """The whole zone; `slices` by (namespace, service name)."""
    zone = Zone(domain)
    for service in services:
        metadata, spec = service["metadata"], service.get("spec") or {}
        name = f"{metadata['name']}.{metadata['namespace']}.svc.{domain}"
        if spec.get("type") == "ExternalName":
            zone.names[name] = Names(cname=spec.get("externalName", "").rstrip("."))
            continue
        address = spec.get("clusterIP")
        if address and address != "None":
            _cluster_ip(zone, name, address, spec)
        elif address == "None":
            found = slices.get((metadata["namespace"], metadata["name"]), ())
            _headless(zone, name, found, bool(spec.get("publishNotReadyAddresses")))
    zone.names[f"dns-version.{domain}"] = Names()
    return zone


def _cluster_ip(zone: Zone, name: str, address: str, spec: Object) -> None:
    entry = zone.names.setdefault(name, Names())
    entry.a.append(address)
    zone.pointers[address] = name
    for port in spec.get("ports") or []:
        record = Srv(port["port"], name)
        entry.srv.append(record)
        if port.get("name"):
            zone.names[f"_{port['name']}._{port.get('protocol', 'TCP').lower()}.{name}"] = Names(srv=[record])


def _headless(zone: Zone, name: str, slices: Sequence[Object], unready_too: bool) -> None:
    entry = zone.names.setdefault(name, Names())
    for found in slices:
        for endpoint in found.get("endpoints") or []:
            ready = (endpoint.get("conditions") or {}).get("ready", True) is not False
            if not (ready or unready_too):
                continue
            address = endpoint["addresses"][0]
            target = f"{endpoint.get('hostname') or address.replace('.', '-')}.{name}"
            if address not in entry.a:
                entry.a.append(address)
            own = zone.names.setdefault(target, Names())
            if address not in own.a:
                own.a.append(address)
            if endpoint.get("hostname"):
                zone.pointers[address] = target
            for port in found.get("ports") or []:
                if port.get("port") is None:
                    continue
                record = Srv(port["port"], target)
                if record not in entry.srv:
                    entry.srv.append(record)
                if port.get("name"):
                    inner = f"_{port['name']}._{(port.get('protocol') or 'TCP').lower()}.{name}"
                    zone.names.setdefault(inner, Names()).srv.append(record)
