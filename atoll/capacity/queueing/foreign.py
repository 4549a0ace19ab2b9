"""Whether a real Kueue runs here: then these kinds are its, and ours stay off.

It is there where its webhook configuration is, or its Deployment wants a replica. (Its kinds alone say nothing: we
serve them too.)
"""

from __future__ import annotations

from typing import Final

from atoll.capacity.queueing.model import Object
from atoll.kinds.resource import Resource

NAMESPACE: Final = "kueue-system"
DEPLOYMENT: Final = "kueue-controller-manager"
WEBHOOKS: Final = "kueue-mutating-webhook-configuration"
CONFIGURATIONS: Final = Resource(
    "admissionregistration.k8s.io", "v1", "mutatingwebhookconfigurations", "MutatingWebhookConfiguration", False
)


def is_foreign(deployment: Object | None, configuration: Object | None) -> bool:
    """Of kueue-system/kueue-controller-manager and the webhook configuration, as far as they exist."""
    if configuration is not None:
        return True
    return deployment is not None and int((deployment.get("spec") or {}).get("replicas", 1)) > 0
