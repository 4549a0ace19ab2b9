"""propagateDeps: which other objects a propagated template needs, and who requires an object.

What is required follows from the templates in the cache. A requirement that a binding already records stays until
the template that required it has been looked at in this process: a restart drops nothing.
"""

from __future__ import annotations

from typing import Any

from atoll.fleet.propagation import manifests
from atoll.fleet.propagation.view import TemplateKey, View
from atoll.fleet.propagation.wanted import WantedKinds

Object = dict[str, Any]


class Dependencies:
    """Kept by the bindings' controller."""

    def __init__(self, view: View, wanted: WantedKinds) -> None:
        self._view = view
        self._wanted = wanted
        self._needs: dict[TemplateKey, frozenset[TemplateKey]] = {}
        self._required_by: dict[TemplateKey, set[TemplateKey]] = {}
        self._looked_at: set[tuple[str | None, str]] = set()  # bindings whose needs are known

    def needed_by(self, key: TemplateKey) -> list[TemplateKey]:
        """What the template needs."""
        return sorted(self._needs.get(key, ()), key=str)

    async def update(self, key: TemplateKey, template: Object, spec: Object) -> list[TemplateKey]:
        """Take note of what the template needs now; returns the objects that this concerns."""
        needs: frozenset[TemplateKey] = frozenset()
        if spec.get("propagateDeps"):
            references = manifests.interpreter(template).references(template)
            needs = frozenset(TemplateKey(one.api_version, one.kind, one.namespace, one.name) for one in references)
        for one in sorted(needs, key=str):
            if await self._view.watch_kind(one.api_version, one.kind) is None:
                self._wanted.add(one.api_version, one.kind)
        return self._set(key, needs)

    def forget(self, key: TemplateKey) -> None:
        """The template goes."""
        for one in self._set(key, frozenset()):
            self._changed(one)

    def binding_gone(self, key: TemplateKey) -> None:
        """Nothing records any more what the template needed."""
        self._looked_at.discard(key.binding)

    def _changed(self, key: TemplateKey) -> None:
        for handler in self._view.on_template:
            handler(key, None, self._view.template(key))

    def _set(self, key: TemplateKey, needs: frozenset[TemplateKey]) -> list[TemplateKey]:
        before = self._needs.get(key, frozenset())
        self._looked_at.add(key.binding)
        if needs:
            self._needs[key] = needs
        else:
            self._needs.pop(key, None)
        for one in before - needs:
            self._required_by.get(one, set()).discard(key)
        for one in needs - before:
            self._required_by.setdefault(one, set()).add(key)
        return sorted(before ^ needs, key=str)

    def required_by(self, key: TemplateKey, binding: Object | None) -> list[Object]:
        """spec.requiredBy: snapshots of the bindings that require the template."""
        found: dict[tuple[str, str], Object] = {}
        for snapshot in ((binding or {}).get("spec") or {}).get("requiredBy") or ():
            one = snapshot.get("namespace") or None, snapshot["name"]
            informer = self._view.bindings if one[0] else self._view.cluster_bindings
            if one not in self._looked_at and informer.get(one[1], one[0]) is not None:
                found[one[0] or "", one[1]] = snapshot
        for parent in self._required_by.get(key, ()):
            required = self._view.binding(parent)
            if required is None:
                continue
            space, name = parent.binding
            snapshot = {"name": name, "clusters": required["spec"].get("clusters") or []}
            if space:
                snapshot["namespace"] = space
            found[space or "", name] = snapshot
        return [found[one] for one in sorted(found)]
