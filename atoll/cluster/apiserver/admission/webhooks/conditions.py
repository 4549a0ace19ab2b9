"""matchConditions of webhooks: CEL over the object as the webhook would be shown it. Imported when first met."""

from __future__ import annotations

import functools

from msgspec.structs import replace

from atoll.cluster.apiserver import problems
from atoll.cluster.apiserver.admission.matching import namespace_of
from atoll.cluster.apiserver.admission.webhooks.model import Hook
from atoll.cluster.apiserver.expressions.admission import (
    Condition,
    bindings,
    compile_conditions,
    environment,
    matches,
)
from atoll.cluster.apiserver.expressions.asking import settled
from atoll.cluster.apiserver.ports import AdmissionRequest, Authorizer, Object
from atoll.kinds.resource import Resource


async def hold(
    hook: Hook,
    request: AdmissionRequest,
    authorizer: Authorizer | None,
    *,
    resource: Resource,
    kind: tuple[str, str, str],
    obj: Object | None,
    old: Object | None,
) -> bool:
    """Raises Forbidden where they can't be evaluated and the webhook fails closed."""
    shown = replace(request, obj=obj, old=old, namespace=namespace_of(request))
    names = bindings(shown, authorizer=authorizer, resource=resource, kind=kind)
    conditions = tuple((item["name"], item["expression"]) for item in hook.conditions)
    policy = "Ignore" if hook.fails_open else "Fail"
    found = await settled(lambda: matches(_compiled(conditions), names, policy))
    if found.error:
        raise problems.forbidden(request.resource, request.name, found.error)
    return found.matched


@functools.lru_cache(512)
def _compiled(conditions: tuple[tuple[str, str], ...]) -> list[Condition]:
    return compile_conditions([{"name": name, "expression": text} for name, text in conditions], environment())
