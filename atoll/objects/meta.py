"""Reading and building metadata of plain JSON objects."""

from typing import Any

from atoll.base.clock import rfc3339

Object = dict[str, Any]


def copy(value: Any) -> Any:
    """A deep copy of a JSON value (dicts, lists and scalars): faster than copy.deepcopy."""
    if isinstance(value, dict):
        return {key: copy(item) for key, item in value.items()}
    if isinstance(value, list):
        return [copy(item) for item in value]
    return value


def name(obj: Object) -> str:
    return str(obj["metadata"].get("name", ""))


def namespace(obj: Object) -> str | None:
    """None for cluster-scoped objects."""
    found: str | None = obj["metadata"].get("namespace")
    return found


def uid(obj: Object) -> str:
    return str(obj["metadata"].get("uid", ""))


def key(obj: Object) -> tuple[str | None, str]:
    """(namespace, name): the key that informers and work queues use."""
    metadata = obj["metadata"]
    return metadata.get("namespace"), metadata["name"]


def labels(obj: Object) -> dict[str, str]:
    return obj["metadata"].get("labels") or {}


def annotations(obj: Object) -> dict[str, str]:
    return obj["metadata"].get("annotations") or {}


def owners(obj: Object) -> list[Object]:
    return obj["metadata"].get("ownerReferences") or []


def controller_of(obj: Object) -> Object | None:
    """The owner reference with controller: true."""
    for owner in obj["metadata"].get("ownerReferences") or ():
        if owner.get("controller"):
            found: Object = owner
            return found
    return None


def owner_reference(owner: Object, *, controller: bool = True, block: bool = True) -> Object:
    """A controller owner reference to `owner`."""
    reference = {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
    }
    if controller:
        reference["controller"] = True
    if block:
        reference["blockOwnerDeletion"] = True
    return reference


def node_names(pod: Object) -> tuple[str, ...]:
    """The node that a pod is on, if any, as an informer's index wants it."""
    name = (pod.get("spec") or {}).get("nodeName")
    return (name,) if name else ()


def is_deleting(obj: Object) -> bool:
    return "deletionTimestamp" in obj["metadata"]


def disruption_target(reason: str, message: str, wall_seconds: float) -> Object:
    """The condition that says why a pod is about to go (KEP-3329)."""
    return {
        "type": "DisruptionTarget",
        "status": "True",
        "reason": reason,
        "message": message,
        "lastTransitionTime": rfc3339(wall_seconds),
    }


def condition(obj: Object, kind: str) -> Object | None:
    """The status condition of that type."""
    conditions = (obj.get("status") or {}).get("conditions") or []
    return next((item for item in conditions if item.get("type") == kind), None)
