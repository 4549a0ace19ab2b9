"""How a cluster's service range is shared out: pure."""

from __future__ import annotations

import ipaddress

_LEAST_SIZE = 64


def load_balancer_offsets(cidr: str) -> range:
    """Places in the service range that are kept for load balancers: its last 256th, at least eight addresses, without
    the very last one. Empty in a range that has none to spare, and in IPv6 ones."""
    network = ipaddress.ip_network(cidr)
    size = network.num_addresses
    if network.version != 4 or size < _LEAST_SIZE:
        return range(0)
    return range(size - max(size // 256, 8), size - 1)


def load_balancer_addresses(cidr: str) -> list[str]:
    """The addresses at those places, in order."""
    network = ipaddress.ip_network(cidr)
    return [str(network[offset]) for offset in load_balancer_offsets(cidr)]
