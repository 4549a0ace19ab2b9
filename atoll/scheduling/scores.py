"""Scores of one node for one pod, each 0 to 100, and their weights: kube-scheduler's default plugins."""

from __future__ import annotations

import math

from atoll.scheduling.pod import Template
from atoll.scheduling.resources import CPU, MEMORY
from atoll.scheduling.state import NodeState

MAX = 100
FIT_WEIGHT, BALANCED_WEIGHT, IMAGE_WEIGHT = 1, 1, 1
NODE_AFFINITY_WEIGHT, SPREAD_WEIGHT, POD_AFFINITY_WEIGHT = 2, 2, 2
TAINT_WEIGHT = 3

_MB = 1024 * 1024
_IMAGE_LEAST, _IMAGE_MOST = 23 * _MB, 1000 * _MB


def least_allocated(template: Template, node: NodeState) -> int:
    """NodeResourcesFit's LeastAllocated over CPU and memory; pods that ask for none count as a little."""
    total = parts = 0
    have = node.allocatable.get(CPU, 0)
    if have:
        want = node.nonzero_cpu + template.nonzero_cpu
        total += (have - want) * MAX // have if want <= have else 0
        parts += 1
    have = node.allocatable.get(MEMORY, 0)
    if have:
        want = node.nonzero_memory + template.nonzero_memory
        total += (have - want) * MAX // have if want <= have else 0
        parts += 1
    return total // parts if parts else 0


def _balance(cpu: int, have_cpu: int, memory: int, have_memory: int) -> int:
    if not have_cpu or not have_memory:
        return MAX
    deviation = abs((min(cpu / have_cpu, 1.0) - min(memory / have_memory, 1.0)) / 2)
    return int((1 - deviation) * MAX)


def balanced(template: Template, node: NodeState) -> int:
    """NodeResourcesBalancedAllocation: does the pod make CPU and memory use more alike?"""
    cpu, memory = template.requests.get(CPU, 0), template.requests.get(MEMORY, 0)
    if not cpu and not memory:
        return 0
    have_cpu, have_memory = node.allocatable.get(CPU, 0), node.allocatable.get(MEMORY, 0)
    used_cpu = node.requested.get(CPU, 0) if have_cpu else 0
    used_memory = node.requested.get(MEMORY, 0) if have_memory else 0
    after = _balance(used_cpu + cpu, have_cpu, used_memory + memory, have_memory)
    before = _balance(used_cpu, have_cpu, used_memory, have_memory)
    return MAX // 2 + int((MAX / 2 + after - before) / 2)


def images(template: Template, node: NodeState, image_nodes: dict[str, int], nodes: int) -> int:
    """ImageLocality: how much of the pod's images the node has, less where few nodes have them."""
    if not node.images or not template.images:
        return 0
    total = 0
    for image in template.images:
        size = node.images.get(image)
        if size:
            total += int(size * (image_nodes.get(image, 0) / nodes))
    most = _IMAGE_MOST * len(template.images)
    total = min(max(total, _IMAGE_LEAST), most)
    return MAX * (total - _IMAGE_LEAST) // (most - _IMAGE_LEAST)


def spread(counts: list[tuple[int, int, float]]) -> int:
    """PodTopologySpread's raw score from (count, max skew, weight of the key) of each soft constraint."""
    total = 0.0
    for count, max_skew, weight in counts:
        total += count * weight + (max_skew - 1)
    return math.floor(total + 0.5)


def spread_weight(domains: int) -> float:
    return math.log(domains + 2)


def normal_spread(raw: int, least: int, most: int) -> int:
    return MAX if most == 0 else MAX * (most + least - raw) // most


def normal_up(raw: int, most: int) -> int:
    """More is better."""
    return MAX * raw // most if most else 0


def normal_down(raw: int, most: int) -> int:
    """Less is better."""
    return MAX - MAX * raw // most if most else MAX


def normal_affinity(raw: int, least: int, most: int) -> int:
    return int(MAX * ((raw - least) / (most - least))) if most > least else 0
