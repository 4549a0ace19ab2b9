"""A solution as `status.allocation` of the claims: devices, configurations, and the nodes that can use them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from atoll.scheduling.dra.allocate import Picked, Solution
from atoll.scheduling.dra.model import DeviceClass, Object, Request

NewId = Callable[[], str]


def allocations(solution: Solution, node: str, classes: Mapping[str, DeviceClass], new_id: NewId) -> list[Object]:
    """One resource/v1 AllocationResult a claim. `new_id` names each share of a shared device (a UID)."""
    found = []
    for claim in solution:
        chosen = [requests[claim.chosen[place]] for place, requests in enumerate(claim.requests)]
        devices: Object = {"results": [_result(picked, new_id) for picked in claim.picked]}
        configs = _configs(claim.wanted.spec, chosen, classes)
        if configs:
            devices["config"] = configs
        allocation: Object = {"devices": devices}
        selector = node_selector(claim.picked, node)
        if selector is not None:
            allocation["nodeSelector"] = selector
        found.append(allocation)
    return found


def preference(solution: Solution) -> int:
    """How well alternatives were met: eight for each first one, seven for each second one … (upstream's score)."""
    total = 0
    for claim in solution:
        for place, alternatives in enumerate(claim.requests):
            if alternatives[0].parent:
                total += 8 - claim.chosen[place]
    return total


def _result(picked: Picked, new_id: NewId) -> Object:
    device, request = picked.device, picked.request
    driver, pool, name = device.id
    found: Object = {"request": request.full_name, "driver": driver, "pool": pool, "device": name}
    if request.admin:
        found["adminAccess"] = True
    if request.tolerations:
        found["tolerations"] = request.tolerations
    for field in ("bindingConditions", "bindingFailureConditions"):
        if device.source.get(field):
            found[field] = device.source[field]
    if picked.parts is not None:
        found["shareID"] = new_id()
        if picked.parts:
            found["consumedCapacity"] = {key: part.text for key, part in picked.parts.items()}
    return found


def _configs(spec: Object, chosen: Sequence[Request], classes: Mapping[str, DeviceClass]) -> list[Object]:
    """Those of the classes first, each once for all requests of its class; then the claim's."""
    by_class: dict[str, list[str]] = {}
    for request in chosen:
        by_class.setdefault(request.class_name, []).append(request.full_name)
    found: list[Object] = [
        {"source": "FromClass", "requests": names, **config}
        for name, names in by_class.items()
        for config in classes[name].config
    ]
    for config in (spec.get("devices") or {}).get("config") or ():
        named = config.get("requests") or []
        if not named:
            found.append({"source": "FromClaim", **config})
        else:
            found += [{"source": "FromClaim", **config} for request in chosen if request.is_named(named)]
    return found


def node_selector(picked: Sequence[Picked], node: str) -> Object | None:
    """Where the devices of one claim can be used together; None: everywhere."""
    fields: list[Object] = []
    expressions: list[Object] = []
    for item in picked:
        places = item.device.places
        if places.node or item.device.source.get("bindsToNode"):
            term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
            return {"nodeSelectorTerms": [term]}
        for term in (places.source or {}).get("nodeSelectorTerms") or ():
            _add(fields, term.get("matchFields"))
            _add(expressions, term.get("matchExpressions"))
    if not fields and not expressions:
        return None
    made: Object = {}
    if expressions:
        made["matchExpressions"] = expressions
    if fields:
        made["matchFields"] = fields
    return {"nodeSelectorTerms": [made]}


def _add(known: list[Object], more: Sequence[Object] | None) -> None:
    for item in more or ():
        if not any(_same(item, other) for other in known):
            known.append(item)


def _same(one: Object, two: Object) -> bool:
    return (one["key"], one["operator"], set(one.get("values") or ())) == (
        two["key"],
        two["operator"],
        set(two.get("values") or ()),
    )
