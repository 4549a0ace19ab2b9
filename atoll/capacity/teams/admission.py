"""A team's pods tolerate its taint, low priority tolerates any team's: put in when a pod is created.

Where a team is bound to namespaces, pods of others are refused, by label and by toleration. A plugin of the API
server's shape, after the one that gives a pod its priority. `policy.py` says the same for API servers of others.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from atoll.base.errors import Forbidden
from atoll.capacity import names
from atoll.capacity.settings import SettingsError, read
from atoll.capacity.teams.settings import CONFIG_MAP, KEY, TeamSettings

Object = dict[str, Any]


class Request(Protocol):
    """What is used of the API server's AdmissionRequest."""

    operation: str
    subresource: str
    namespace: str
    obj: Object | None
    old: Object | None


class TeamTolerations:
    """Mutating and validating. `config_map(name)`: the newest ConfigMap of atoll-system; `space(name)`: the newest
    Namespace."""

    resources = frozenset({"pods"})

    def __init__(self, config_map: Callable[[str], Object | None], space: Callable[[str], Object | None]) -> None:
        self._config_map = config_map
        self._space = space
        self._read: tuple[str, TeamSettings] = ("", TeamSettings())

    def depends_on(self, user: Any) -> tuple[str, ...]:
        return ("configmaps", "namespaces")

    def mutate(self, request: Request) -> None:
        pod = request.obj
        if request.operation != "CREATE" or request.subresource or pod is None:
            return
        settings = self._settings()
        if not settings.teams:
            return
        added = toleration(pod, self._space(request.namespace), settings)
        tolerations = pod["spec"].get("tolerations") or []
        if added is not None and added not in tolerations:
            pod["spec"]["tolerations"] = [*tolerations, added]

    def validate(self, request: Request) -> None:
        """Raises Forbidden. A pod of before its namespace was barred may be changed in all else, so that it can end."""
        pod = request.obj
        if request.operation not in ("CREATE", "UPDATE") or request.subresource or pod is None:
            return
        if request.operation == "UPDATE" and request.old is not None and _claimed(pod) == _claimed(request.old):
            return
        settings = self._settings()
        if all(team.namespaces is None for team in settings.teams):
            return
        team = misused(pod, self._space(request.namespace), request.namespace, settings)
        if team:
            name = pod["metadata"].get("name") or pod["metadata"].get("generateName") or "Unknown"
            why = f"namespace {request.namespace} may not use nodes of the team {team}"
            raise Forbidden(f'pods "{name}" is forbidden: {why}', details={"name": name, "kind": "pods"})

    def _settings(self) -> TeamSettings:
        """The last that could be read, parsed once per version."""
        found = self._config_map(CONFIG_MAP)
        version = str(((found or {}).get("metadata") or {}).get("resourceVersion") or "")
        if version != self._read[0]:
            try:
                self._read = (version, read(found, KEY, TeamSettings))
            except SettingsError:
                self._read = (version, self._read[1])
        return self._read[1]


def _claimed(pod: Object) -> object:
    own = (pod.get("metadata") or {}).get("labels") or {}
    return own.get(names.TEAM), (pod.get("spec") or {}).get("tolerations") or []


def team_of(pod: Object, space: Object | None) -> str:
    """By the pod's label, else its namespace's; "" for none."""
    own = (pod.get("metadata") or {}).get("labels") or {}
    common = ((space or {}).get("metadata") or {}).get("labels") or {}
    return str(own.get(names.TEAM) or common.get(names.TEAM) or "")


def misused(pod: Object, space: Object | None, namespace: str, settings: TeamSettings) -> str:
    """The team that the pod names, or whose taint it tolerates by name, though its namespace is not among that team's;
    "" for none. A toleration of every taint is a daemon's: it is let through."""
    barred = [team.name for team in settings.teams if not team.admits(namespace)]
    if team_of(pod, space) in barred:
        return team_of(pod, space)
    priority = pod["spec"].get("priority")
    borrows = priority is not None and priority <= settings.borrow_at_most
    for item in pod["spec"].get("tolerations") or ():
        if item.get("key") != names.TEAM:
            continue
        if item.get("operator") == "Exists":
            if barred and not borrows:
                return barred[0]
        elif item.get("value") in barred:
            return str(item["value"])
    return ""


def toleration(pod: Object, space: Object | None, settings: TeamSettings) -> Object | None:
    """What the pod is given; None for nothing."""
    priority = pod["spec"].get("priority")
    if priority is not None and priority <= settings.borrow_at_most:
        return {"key": names.TEAM, "operator": "Exists", "effect": "NoSchedule"}
    team = team_of(pod, space)
    if any(known.name == team for known in settings.teams):
        return {"key": names.TEAM, "operator": "Equal", "value": team, "effect": "NoSchedule"}
    return None
