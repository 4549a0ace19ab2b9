"""The kinds of jobs and gangs that other projects define: shorthand to name them, and their CRDs.

JobSet, LeaderWorkerSet, the coscheduling plugin's PodGroup, and Volcano's Job, PodGroup, Queue and Command. The CRDs
are package data (tools/generate_crds.py). Labels and annotations are those of the projects.
"""

from __future__ import annotations

import importlib.resources
from typing import Any, Final

import orjson

from atoll.base.names import LABEL_PREFIX
from atoll.kinds.resource import Resource

JOB_SETS = Resource("jobset.x-k8s.io", "v1alpha2", "jobsets", "JobSet")
LEADER_WORKER_SETS = Resource("leaderworkerset.x-k8s.io", "v1", "leaderworkersets", "LeaderWorkerSet")
POD_GROUPS = Resource("scheduling.x-k8s.io", "v1alpha1", "podgroups", "PodGroup")
VOLCANO_JOBS = Resource("batch.volcano.sh", "v1alpha1", "jobs", "Job")
VOLCANO_POD_GROUPS = Resource("scheduling.volcano.sh", "v1beta1", "podgroups", "PodGroup")
VOLCANO_COMMANDS = Resource("bus.volcano.sh", "v1alpha1", "commands", "Command")
VOLCANO_QUEUES = Resource("scheduling.volcano.sh", "v1beta1", "queues", "Queue", False)

POD_GROUP_LABEL: Final = "scheduling.x-k8s.io/pod-group"

JOB_SET: Final = "jobset.sigs.k8s.io"
JOB_SET_NAME: Final = f"{JOB_SET}/jobset-name"
REPLICATED_JOB: Final = f"{JOB_SET}/replicatedjob-name"
JOB_GLOBAL_INDEX: Final = f"{JOB_SET}/job-global-index"

LWS: Final = "leaderworkerset.sigs.k8s.io"
LWS_NAME: Final = f"{LWS}/name"
LWS_GROUP: Final = f"{LWS}/group-index"
LWS_WORKER: Final = f"{LWS}/worker-index"
LWS_SIZE: Final = f"{LWS}/size"

VOLCANO_GROUP: Final = "scheduling.k8s.io/group-name"
VOLCANO_TASK: Final = "volcano.sh/task-spec"
VOLCANO_INDEX: Final = "volcano.sh/task-index"
VOLCANO_SCHEDULER: Final = "volcano"
COSCHEDULER: Final = "scheduler-plugins-scheduler"  # the coscheduling plugin's, as its chart installs it

GANG: Final = f"{LABEL_PREFIX}gang"  # annotation: "true" makes a plain Job a gang, "false" a JobSet or the like none


def custom_resource_definitions() -> list[dict[str, Any]]:
    """What a cluster made with --batch serves."""
    folder = importlib.resources.files("atoll.kinds") / "data" / "batch"
    return [orjson.loads(file.read_bytes()) for file in sorted(folder.iterdir(), key=lambda file: file.name)]
