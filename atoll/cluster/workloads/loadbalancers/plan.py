"""Which address a Service of type LoadBalancer has: pure.

A Service keeps the address that it has. A new one gets what its spec.loadBalancerIP asks for, or the first that no
other Service uses. With a single address (a machine's own, where pods have none) Services share it as long as their
ports differ. What names a loadBalancerClass is another implementation's.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Object = dict[str, Any]
Port = tuple[str, int]
CLASS = "atoll.dev/local"


@dataclass(frozen=True, slots=True)
class Refused:
    """Why there is no address now."""

    message: str


def is_ours(service: Object) -> bool:
    spec = service.get("spec") or {}
    return spec.get("type") == "LoadBalancer" and spec.get("loadBalancerClass") in (None, "", CLASS)


def addresses_of(service: Object) -> list[str]:
    """Those in the Service's status."""
    ingress = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []
    return [item["ip"] for item in ingress if item.get("ip")]


def ports_of(service: Object) -> frozenset[Port]:
    return frozenset((port.get("protocol", "TCP"), port["port"]) for port in service["spec"].get("ports") or [])


def choose(
    service: Object, pool: Collection[str], taken: Mapping[str, Iterable[frozenset[Port]]], *, shared: bool
) -> str | Refused:
    """`taken`: address → ports of each other Service that has it. `shared`: an address serves several Services."""
    own = ports_of(service)

    def free(address: str) -> bool:
        others = list(taken.get(address, ()))
        return not others or (shared and not any(own & ports for ports in others))

    present = [item for item in addresses_of(service) if item in pool]
    if present and free(present[0]):
        return present[0]
    wanted = service["spec"].get("loadBalancerIP")
    if wanted:
        if wanted not in pool:
            return Refused(f"requested address {wanted} is not one of this cluster's load balancer addresses")
        return wanted if free(wanted) else Refused(f"requested address {wanted} is in use by another Service")
    for address in pool:
        if free(address):
            return address
    return Refused("no load balancer address with these ports is free")
