"""Grafana dashboards as values: each is a title and rows of panels, a panel is a title, a unit and expressions.

The JSON is Grafana's dashboard model (schema version 39), with the data source and the cluster as variables, so that
one file serves every installation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_WIDTH, _HEIGHT, _COLUMNS = 12, 8, 24
_DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
_CLUSTER = 'cluster=~"$cluster"'


@dataclass(frozen=True, slots=True)
class Panel:
    """`targets`: (expression, legend); `§` in an expression stands for the selection of clusters."""

    title: str
    unit: str  # Grafana's name of it
    targets: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Dashboard:
    """`uid` is also its file's name."""

    uid: str
    title: str
    panels: tuple[Panel, ...]


def _quantiles(metric: str, by: str = "") -> tuple[tuple[str, str], ...]:
    labels = f"{by}, le" if by else "le"
    legend = f"{{{{{by}}}}} " if by else ""
    return tuple(
        (f"histogram_quantile({q}, sum by ({labels}) (rate({metric}_bucket{{§}}[5m])))", f"{legend}p{q * 100:.0f}")
        for q in (0.5, 0.99)
    )


def _traffic(field: str, unit: int) -> str:
    """Bytes per second; a shared GPU has a series for each of its holders."""
    own = f"max by (cluster, Hostname, gpu, modelName) (rate(DCGM_FI_DEV_{field}{{§}}[5m]))"
    return f"sum by (modelName) ({own}) * {unit}"


API = Dashboard(
    "atoll-api",
    "Atoll / API servers",
    (
        Panel("Requests", "reqps", (("sum by (verb) (rate(apiserver_request_total{§}[5m]))", "{{verb}}"),)),
        Panel(
            "Refused and failed", "reqps",
            (('sum by (code) (rate(apiserver_request_total{§,code=~"429|5.."}[5m]))', "{{code}}"),),
        ),
        Panel("Time to answer", "s", _quantiles("apiserver_request_sli_duration_seconds", "verb")),
        Panel("Time to be durable", "s", _quantiles("etcd_request_duration_seconds")),
        Panel(
            "Seats in use", "short",
            (("sum by (priority_level) (apiserver_flowcontrol_current_executing_seats{§})", "{{priority_level}}"),),
        ),
        Panel(
            "Waiting for a seat", "short",
            (("sum by (priority_level) (apiserver_flowcontrol_current_inqueue_requests{§})", "{{priority_level}}"),),
        ),
        Panel("Watches and connections", "short", (("sum by (verb) (apiserver_longrunning_requests{§})", "{{verb}}"),)),
        Panel(
            "Events sent", "eps",
            (("sum by (resource) (rate(apiserver_watch_events_total{§}[5m]))", "{{resource}}"),),
        ),
        Panel("Stored objects", "short", (("topk(10, apiserver_resource_objects{§})", "{{resource}}.{{group}}"),)),
        Panel("Memory", "bytes", (("process_resident_memory_bytes{§}", "{{cluster}}"),)),
        Panel("CPU", "percentunit", (("rate(process_cpu_seconds_total{§}[5m])", "{{cluster}}"),)),
        Panel("Work queues", "short", (("topk(10, workqueue_depth{§})", "{{name}}"),)),
    ),
)  # fmt: skip
SCHEDULING = Dashboard(
    "atoll-scheduling",
    "Atoll / Scheduling",
    (
        Panel("Pending pods", "short", (("sum by (queue) (scheduler_pending_pods{§})", "{{queue}}"),)),
        Panel(
            "Attempts", "ops",
            (("sum by (result) (rate(scheduler_schedule_attempts_total{§}[5m]))", "{{result}}"),),
        ),
        Panel("Time of an attempt", "s", _quantiles("scheduler_scheduling_attempt_duration_seconds", "result")),
        Panel("From the queue to a node", "s", _quantiles("scheduler_pod_scheduling_sli_duration_seconds")),
        Panel("Gangs that wait", "short", (("atoll_gangs_waiting{§}", "{{cluster}}"),)),
        Panel("The longest wait of a gang", "s", (("atoll_gang_wait_seconds{§}", "{{cluster}}"),)),
        Panel("Preemptions", "ops", (("rate(scheduler_preemption_attempts_total{§}[5m])", "{{cluster}}"),)),
        Panel("Pods displaced", "ops", (("rate(scheduler_preemption_victims_sum{§}[5m])", "{{cluster}}"),)),
    ),
)  # fmt: skip
QUEUES = Dashboard(
    "atoll-queues",
    "Atoll / Queues",
    (
        Panel(
            "Workloads that wait", "short",
            (("sum by (cluster_queue, status) (kueue_pending_workloads{§})", "{{cluster_queue}} {{status}}"),),
        ),
        Panel(
            "Workloads that run", "short",
            (("sum by (cluster_queue) (kueue_admitted_active_workloads{§})", "{{cluster_queue}}"),),
        ),
        Panel("Wait until admission", "s", _quantiles("kueue_admission_wait_time_seconds", "cluster_queue")),
        Panel(
            "Admitted", "ops",
            (("sum by (cluster_queue) (rate(kueue_admitted_workloads_total{§}[5m]))", "{{cluster_queue}}"),),
        ),
        Panel(
            "Evicted", "ops",
            (("sum by (cluster_queue, reason) (rate(kueue_evicted_workloads_total{§}[5m]))",
              "{{cluster_queue}} {{reason}}"),),
        ),
        Panel(
            "Used of the nominal quota", "percentunit",
            (("sum by (cluster_queue, resource) (kueue_cluster_queue_resource_usage{§})"
              " / sum by (cluster_queue, resource) (kueue_cluster_queue_nominal_quota{§})",
              "{{cluster_queue}} {{resource}}"),),
        ),
    ),
)  # fmt: skip
GPUS = Dashboard(
    "atoll-gpus",
    "Atoll / GPU nodes",
    (
        Panel("Nodes", "short", (("sum by (state) (atoll_health_nodes{§})", "{{state}}"),)),
        Panel(
            "Taken out of service", "ops",
            (("sum by (reason) (rate(atoll_health_taken_out_total{§}[1h]))", "{{reason}}"),),
        ),
        Panel("GPU utilisation", "percent", (("avg by (modelName) (DCGM_FI_DEV_GPU_UTIL{§})", "{{modelName}}"),)),
        Panel(
            "GPU memory in use", "percentunit",
            (("sum by (modelName) (DCGM_FI_DEV_FB_USED{§})"
              " / (sum by (modelName) (DCGM_FI_DEV_FB_USED{§}) + sum by (modelName) (DCGM_FI_DEV_FB_FREE{§}))",
              "{{modelName}}"),),
        ),
        Panel("Hottest GPUs", "celsius", (("topk(10, DCGM_FI_DEV_GPU_TEMP{§})", "{{Hostname}} {{gpu}}"),)),
        Panel("Power", "watt", (("sum by (modelName) (DCGM_FI_DEV_POWER_USAGE{§})", "{{modelName}}"),)),
        Panel(
            "Energy of the last hour", "kwatth",
            (("sum by (modelName) (max by (cluster, Hostname, gpu, modelName)"
              " (increase(DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION{§}[1h]))) / 3.6e9", "{{modelName}}"),),
        ),
        Panel("Clock", "rotmhz", (("avg by (modelName) (DCGM_FI_DEV_SM_CLOCK{§})", "{{modelName}}"),)),
        Panel(
            "Busy parts", "percentunit",
            (("avg by (modelName) (DCGM_FI_PROF_PIPE_TENSOR_ACTIVE{§})", "{{modelName}} tensor cores"),
             ("avg by (modelName) (DCGM_FI_PROF_DRAM_ACTIVE{§})", "{{modelName}} memory")),
        ),
        Panel(
            "PCIe", "Bps",
            ((_traffic("PCIE_RX_THROUGHPUT", 1000), "{{modelName}} received"),
             (_traffic("PCIE_TX_THROUGHPUT", 1000), "{{modelName}} sent")),
        ),
        Panel("NVLink", "Bps", ((_traffic("NVLINK_BANDWIDTH_TOTAL", 1_000_000), "{{modelName}}"),)),
        Panel("PCIe retries", "ops", (("rate(DCGM_FI_DEV_PCIE_REPLAY_COUNTER{§}[5m]) > 0", "{{Hostname}} {{gpu}}"),)),
        Panel("XID errors", "short", (("DCGM_FI_DEV_XID_ERRORS{§} > 0", "{{Hostname}} {{gpu}}"),)),
        Panel("Work lost to evictions", "s", (("increase(atoll_lost_work_seconds_total{§}[1h])", "{{cluster}}"),)),
        Panel("Test coverage", "percentunit", (("atoll_gpu_test_coverage_ratio{§}", "{{cluster}}"),)),
    ),
)  # fmt: skip
DASHBOARDS = (API, SCHEDULING, QUEUES, GPUS)


def expressions(dashboard: Dashboard) -> list[str]:
    """All that it asks Prometheus, of every cluster."""
    return [expression.replace("{§}", "").replace("{§,", "{") for p in dashboard.panels for expression, _ in p.targets]


def grafana(dashboard: Dashboard) -> dict[str, Any]:
    """The file that Grafana imports or provisions."""
    return {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "tags": ["atoll"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [_datasource_variable(), _cluster_variable()]},
        "panels": [_panel(number, panel) for number, panel in enumerate(dashboard.panels)],
    }


def _panel(number: int, panel: Panel) -> dict[str, Any]:
    per_row = _COLUMNS // _WIDTH
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": panel.title,
        "datasource": _DATASOURCE,
        "gridPos": {"w": _WIDTH, "h": _HEIGHT, "x": number % per_row * _WIDTH, "y": number // per_row * _HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + index), "expr": expression.replace("§", _CLUSTER), "legendFormat": legend}
            for index, (expression, legend) in enumerate(panel.targets)
        ],
    }


def _datasource_variable() -> dict[str, Any]:
    return {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"}


def _cluster_variable() -> dict[str, Any]:
    return {
        "name": "cluster",
        "label": "Cluster",
        "type": "query",
        "datasource": _DATASOURCE,
        "query": 'label_values(up{job="atoll"}, cluster)',
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "current": {"text": "All", "value": "$__all"},
    }
