"""The labels, taints and annotations by which the parts of capacity, their users and the nodes meet."""

from typing import Final

from atoll.base.names import LABEL_PREFIX
from atoll.objects import kernel_log

SYSTEM_NAMESPACE: Final = "atoll-system"  # settings, tests and what else capacity itself runs

POOL_LABEL: Final = f"{LABEL_PREFIX}pool"  # on a node: the pool to which it belongs
INSTANCE_TYPE_LABEL: Final = "node.kubernetes.io/instance-type"

UNHEALTHY_TAINT: Final = f"{LABEL_PREFIX}unhealthy"  # on a node: it was taken out of service; the value says why
REPAIR: Final = f"{LABEL_PREFIX}repair"  # annotation of a node: what is being done about it, as JSON
REPAIRS: Final = f"{LABEL_PREFIX}repairs"  # annotation of a node: what was done lately, as JSON
REPAIRED: Final = f"{LABEL_PREFIX}repaired"  # annotation of a node: the number of the repair that somebody has done
KERNEL_LOG: Final = kernel_log.ANNOTATION  # annotation of a node: lines of its kernel's log that matter

PREFLIGHT: Final = f"{LABEL_PREFIX}preflight"  # taint of a node (pending), and label (pending, passed, failed)
PREFLIGHT_SINCE: Final = f"{LABEL_PREFIX}preflight-since"  # annotation of a node: tests from then on count
PREFLIGHT_REASON: Final = f"{LABEL_PREFIX}preflight-reason"  # annotation of a node: why its tests failed
TESTED: Final = f"{LABEL_PREFIX}gpu-tested"  # annotation of a node: when its GPUs last passed a test
TEST_FAILED: Final = f"{LABEL_PREFIX}gpu-test-failed"  # annotation of a node: which periodic test failed, and when
TEST_DUE: Final = f"{LABEL_PREFIX}gpu-test-due"  # label of a node: it is time for a periodic test
TEST_LABEL: Final = f"{LABEL_PREFIX}gpu-test"  # label of the tests' pods: preflight or periodic

CHECKPOINT_EVERY: Final = f"{LABEL_PREFIX}checkpoint-every"  # annotation of a pod: seconds between its checkpoints
LAST_CHECKPOINT: Final = f"{LABEL_PREFIX}last-checkpoint"  # annotation of a pod: when the last one was complete

STOP_AS_ONE: Final = f"{LABEL_PREFIX}stop-as-one"  # annotation of a Job's pods: when one is lost all begin anew
GROUP: Final = f"{LABEL_PREFIX}group"  # annotation of such a Job: its generation, what is saved and lost, as JSON

TEAM: Final = f"{LABEL_PREFIX}team"  # taint and label of a node: whose it is; label of pods and namespaces
TEAM_SINCE: Final = f"{LABEL_PREFIX}team-since"  # annotation of a node: since when

MACHINE: Final = f"{LABEL_PREFIX}machine"  # label of a node that a provider made: the machine's name
LEAVING: Final = f"{LABEL_PREFIX}leaving"  # taint and annotation of a node that is about to be given back
BALLOON: Final = f"{LABEL_PREFIX}balloon"  # label of pods that keep spare nodes warm

GPU_HEALTHY: Final = "GPUHealthy"  # conditions of nodes
HOST_HEALTHY: Final = "HostHealthy"
MAINTENANCE: Final = "MaintenanceScheduled"
