"""All that is to be known of one node's GPUs, from its Node object and the cluster's settings. Pure.

A node whose annotations or labels make no sense is not left without GPUs: what can be understood counts, what can't is
a problem with words.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from atoll.base.errors import UserError
from atoll.base.names import SIMULATED_LABEL
from atoll.cluster.gpus.advertise import Advertised, advertise
from atoll.cluster.gpus.faults import out_of_service
from atoll.cluster.gpus.mig import Layout, read_layout
from atoll.cluster.gpus.model import ANNOTATION, NVLINK_DOMAIN, Gpu, clique, gpus_of
from atoll.cluster.gpus.settings import PluginConfig, Settings
from atoll.cluster.gpus.slices import DRIVER, Mode, gpu_of_device, mode_of
from atoll.objects.gpu_faults import GpuFault, read_faults
from atoll.objects.resource_claims import results

Object = dict[str, Any]
CLIQUE_LABEL = "nvidia.com/gpu.clique"


@dataclass(frozen=True, slots=True)
class Survey:
    """`out`: GPU index → why the device plugin does not give it out."""

    gpus: tuple[Gpu, ...] = ()
    layout: Layout = field(default_factory=dict)
    config: PluginConfig = field(default_factory=PluginConfig)
    faults: tuple[GpuFault, ...] = ()
    out: Mapping[int, str] = field(default_factory=dict)
    mode: Mode = "gpus"
    advertised: Advertised = field(default_factory=Advertised)
    problems: tuple[str, ...] = ()


def has_gpus(node: Mapping[str, Any]) -> bool:
    """Whether a Node declares GPUs."""
    return ANNOTATION in (node["metadata"].get("annotations") or ())


def survey(node: Mapping[str, Any], settings: Settings) -> Survey:
    """What a Node says, put together."""
    problems: list[str] = []
    try:
        gpus = gpus_of(node)
    except UserError as error:
        return Survey(problems=(_words(error),))
    layout: Layout = {}
    config, faults, mode = PluginConfig(), (), "gpus"  # type: PluginConfig, tuple[GpuFault, ...], Mode
    try:
        layout = read_layout(node, gpus)
    except UserError as error:
        problems.append(_words(error))
    try:
        config = settings.plugin(node["metadata"].get("labels") or {})
        problems += config.warnings
    except UserError as error:
        problems.append(_words(error))
    try:
        faults = read_faults(node)
    except ValueError as error:
        problems.append(str(error))
    try:
        mode = mode_of(node)
    except UserError as error:
        problems.append(_words(error))
    if config.mps and layout:
        problems.append("sharing using MPS is not supported for MIG devices: those of partitioned GPUs are not offered")
    out = out_of_service(gpus, faults)
    simulated = SIMULATED_LABEL in (node["metadata"].get("labels") or {})
    advertised = advertise(gpus, layout, config, out, "simulated" if simulated else "process-node")
    fabric = clique(gpus, (node["metadata"].get("annotations") or {}).get(NVLINK_DOMAIN, ""))
    if fabric:
        advertised = replace(advertised, labels={**advertised.labels, CLIQUE_LABEL: fabric})
    return Survey(gpus, layout, config, faults, out, mode, advertised, tuple(problems))


def claimed_gpus(gpus: Iterable[Gpu], claims: Iterable[Mapping[str, Any]], pool: str) -> frozenset[int]:
    """Indices of the GPUs of which ResourceClaims have a device, or a partition."""
    minors = {
        gpu_of_device(result["device"])
        for claim in claims
        for result in results(claim)
        if result.get("driver") == DRIVER and result.get("pool") == pool and not result.get("adminAccess")
    }
    return frozenset(gpu.index for gpu in gpus if gpu.minor in minors)


def pools_of(claim: Mapping[str, Any]) -> tuple[str, ...]:
    """The pools, which are nodes, of which a claim has devices."""
    return tuple({result["pool"] for result in results(claim) if result.get("driver") == DRIVER})


def _words(error: UserError) -> str:
    return f"{error.message} ({error.hint})" if error.hint else error.message
