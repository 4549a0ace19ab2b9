"""The one API group family, label prefix, finalizer and field-manager name of Atoll."""

from typing import Final

GROUP: Final = "atoll.dev"
FLEET_GROUP: Final = f"fleet.{GROUP}"
LABEL_PREFIX: Final = f"{GROUP}/"
FINALIZER: Final = f"{GROUP}/fleet"
FIELD_MANAGER: Final = "atoll"

SIMULATED_LABEL: Final = f"{LABEL_PREFIX}simulated"
PROCESS_LABEL: Final = f"{LABEL_PREFIX}process"
NOT_READY: Final = f"{LABEL_PREFIX}not-ready"  # on a simulated node: its kubelet says that it is not ready, and why
SAVED_SECONDS: Final = f"{LABEL_PREFIX}saved-seconds"  # on a Job of simulated pods: work that is in its last checkpoint
HOST_PORTS: Final = f"{LABEL_PREFIX}host-ports"  # on a pod without a network of its own: the ports it got instead

INERT_ANNOTATION: Final = f"{LABEL_PREFIX}not-acted-upon"  # on a CRD: why writes of its objects have no effect yet
CONVERSION_ANNOTATION: Final = (
    f"{LABEL_PREFIX}conversion"  # on a CRD: "internal" where the server converts its versions
)
