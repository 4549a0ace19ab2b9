"""NamespaceLifecycle: nothing is created in a namespace that is absent or going; three namespaces are immortal."""

from __future__ import annotations

from atoll.base.errors import Forbidden, NotFound
from atoll.cluster.apiserver.admission.errors import forbidden
from atoll.cluster.apiserver.ports import AdmissionRequest, User
from atoll.cluster.store.port import Key, Store

_IMMORTAL = ("default", "kube-system", "kube-public")
_REVIEWS = ("localsubjectaccessreviews",)


class NamespaceLifecycle:
    resources = None

    def __init__(self, store: Store) -> None:
        self._store = store

    def depends_on(self, user: User) -> tuple[str, ...]:
        return ("namespaces",)

    def mutate(self, request: AdmissionRequest) -> None:
        if request.resource.plural == "namespaces" and not request.resource.group:
            if request.operation == "DELETE" and request.name in _IMMORTAL and not request.subresource:
                raise Forbidden(
                    f'namespaces "{request.name}" is forbidden: this namespace may not be deleted',
                    details={"name": request.name, "kind": "namespaces"},
                )
            return
        namespace = request.namespace
        if not namespace or request.operation == "DELETE" or request.resource.plural in _REVIEWS:
            return
        record = self._store.get(Key("namespaces", "", namespace))
        if record is None:
            raise NotFound(f'namespaces "{namespace}" not found', details={"name": namespace, "kind": "namespaces"})
        if request.operation != "CREATE":
            return
        if (record.object.get("status") or {}).get("phase") == "Terminating":
            cause = {
                "reason": "NamespaceTerminating",
                "message": f"namespace {namespace} is being terminated",
                "field": "metadata.namespace",
            }
            why = f"unable to create new content in namespace {namespace} because it is being terminated"
            raise forbidden(request, why, [cause])
