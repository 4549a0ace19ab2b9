"""The plan as a value that is printed, kept as JSON and carried out."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from atoll.base.errors import UserError
from atoll.objects.diff import Change

Object = dict[str, Any]
Action = Literal["create", "change", "none", "delete", "keep", "unknown", "conflict"]


class Read(msgspec.Struct, frozen=True, order=True):
    """Something that the plan rests on; `digest` is "" for what was not there."""

    where: str  # "hub" or a cluster
    api_version: str
    kind: str
    namespace: str
    name: str
    digest: str


class Step(msgspec.Struct, frozen=True, omit_defaults=True):
    """What happens to one object in one place."""

    where: str  # "hub" or a cluster
    action: Action
    api_version: str
    kind: str
    name: str
    namespace: str = ""
    replicas: int | None = None
    overrides: tuple[str, ...] = ()  # policies that changed it for this cluster
    changes: tuple[Change, ...] = ()
    manifest: Object | None = None  # what is applied
    reason: str = ""

    @property
    def label(self) -> str:
        return f"{self.kind} {self.namespace + '/' if self.namespace else ''}{self.name}"


class Verdict(msgspec.Struct, frozen=True):
    cluster: str
    chosen: bool
    reason: str
    score: int = 0


class Decided(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where one template goes, and why."""

    api_version: str
    kind: str
    name: str
    namespace: str = ""
    policy: str = ""  # "" where nothing propagates it
    why: str = ""  # how the policy was chosen
    affinity: str = ""
    division: str = ""
    reason: str = ""
    message: str = ""
    replicas: int | None = None
    unplaced: int = 0
    targets: dict[str, int | None] = {}
    verdicts: tuple[Verdict, ...] = ()
    required_by: tuple[str, ...] = ()
    steps: tuple[Step, ...] = ()

    @property
    def label(self) -> str:
        return f"{self.kind} {self.namespace + '/' if self.namespace else ''}{self.name}"


class Plan(msgspec.Struct, frozen=True, omit_defaults=True):
    """`mode`: hub (the hub carries it out) or clusters (there is none: objects go straight to clusters)."""

    mode: Literal["hub", "clusters"]
    made: str
    clusters: tuple[str, ...] = ()
    hub: tuple[Step, ...] = ()  # on the hub itself
    decided: tuple[Decided, ...] = ()
    warnings: tuple[str, ...] = ()
    reads: tuple[Read, ...] = ()
    source: tuple[Object, ...] = ()  # the manifests, where no hub keeps them
    apiVersion: str = "fleet.atoll.dev/v1alpha1"
    kind: str = "Plan"

    def count(self, *actions: Action) -> int:
        """Steps with one of the actions, hub and clusters together."""
        steps = [*self.hub, *(step for one in self.decided for step in one.steps)]
        return sum(1 for step in steps if step.action in actions)

    @property
    def is_empty(self) -> bool:
        return self.count("create", "change", "delete") == 0


def encode(plan: Plan) -> bytes:
    """As kept in a file."""
    return msgspec.json.format(msgspec.json.encode(plan), indent=1) + b"\n"


def decode(data: bytes) -> Plan:
    """Raises UserError for what is no plan of this version."""
    try:
        return msgspec.json.decode(data, type=Plan)
    except msgspec.DecodeError as error:
        raise UserError(f"this is no plan: {error}", hint="make one with atoll plan -f DIR --out FILE") from error
