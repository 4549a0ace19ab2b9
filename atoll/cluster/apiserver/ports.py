"""What the API core asks of access control, admission and behaviour tables; what it hands to them.

The API core (`api.Api`) knows only these; `atoll.app` wires the concrete parts.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from msgspec import Struct

from atoll.kinds.resource import Resource

Object = dict[str, Any]


class User(Struct, frozen=True):
    """Who asks (authentication.k8s.io UserInfo)."""

    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: Mapping[str, tuple[str, ...]] = {}


def user_info(user: User) -> Object:
    """authentication.k8s.io/v1 UserInfo."""
    info: Object = {"username": user.name, "uid": user.uid, "groups": list(user.groups)}
    info["extra"] = {key: list(values) for key, values in user.extra.items()}
    return {field: value for field, value in info.items() if value}


SYSTEM_ADMIN = User("system:admin", ("system:masters", "system:authenticated"))
ANONYMOUS = User("system:anonymous", ("system:unauthenticated",))


class Attributes(Struct, frozen=True):
    """What is asked: a resource request, or (path set, resource "") a non-resource one."""

    user: User
    verb: str  # get list watch create update patch delete deletecollection, or the HTTP verb in lower case
    group: str = ""
    version: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""
    field_selector: str = ""
    label_selector: str = ""


class Decision(Struct, frozen=True):
    allowed: bool
    reason: str = ""
    denied: bool = False  # an explicit no, rather than no opinion


NO_OPINION = Decision(False, "")


class MustWait(Exception):
    """Raised where an answer is not at hand and another program must be asked: `await finish()` gives it.

    Who asks and whether he may are questions of every request, answered without a task; only clusters that ask
    webhooks or fetch keys ever see this.
    """

    def __init__(self, finish: Callable[[], Awaitable[Any]]) -> None:
        super().__init__("the answer must be waited for")
        self.finish = finish


class Authorizer(Protocol):
    def authorize(self, attributes: Attributes) -> Decision:
        """No await (it is on every request). Raises MustWait where a webhook must be asked; see `decide`."""


async def decide(authorizer: Authorizer, attributes: Attributes) -> Decision:
    """The decision, waited for where it must be."""
    try:
        return authorizer.authorize(attributes)
    except MustWait as waiting:
        decision: Decision = await waiting.finish()
        return decision


class AdmissionRequest(Struct):
    """`obj` may be changed in place by mutating plugins (it is private to the request)."""

    operation: str  # CREATE UPDATE DELETE CONNECT
    resource: Resource
    subresource: str
    namespace: str  # "" for cluster-scoped
    name: str
    obj: Object | None
    old: Object | None  # shared: do not change
    user: User
    dry_run: bool
    options: Object
    warnings: list[str]
    kind: str = ""  # the object's kind where it differs from the resource's (Binding, Eviction, Scale …)
    annotations: dict[str, str] | None = None  # the audit event's; None: this request is not audited
    sent: Object | None = None  # of a write of /scale: the Scale, while `obj` is the whole object
    reinvoke: bool = False  # a plugin that asks others' opinion changed the object: the mutating ones run once more
    is_again: bool = False  # this is that second run
    verb: str = ""  # of an UPDATE: update or patch, as it was authorized
    memory: dict[str, Any] | None = None  # what a plugin must know of its first run, by its name

    def annotate(self, key: str, value: str) -> None:
        """Say something in the request's audit event (`PLUGIN/KEY`, as upstream names it); the first value stays.

        Where `annotations` is None nobody listens: what is costly to say need not be computed.
        """
        if self.annotations is not None:
            self.annotations.setdefault(key, value)


class Repeatability(Struct, frozen=True):
    """What admission's treatment of equal creates depends on, and what it draws by chance for each."""

    resources: tuple[str, ...]
    drawn: Callable[[Object], str] | None = None  # finds the drawn string in an admitted object, "" if none
    draw: Callable[[], str] | None = None  # another one


class HookTarget(Struct, frozen=True):
    """Where a webhook is: `url` names it, `service` (namespace, name, port) says where that name leads."""

    url: str
    ca_pem: bytes = b""  # trusted for this webhook; empty: the system's
    service: tuple[str, str, int] | None = None


class HookCaller(Protocol):
    """The one way out of the API server to webhooks: `atoll.app` wires HTTPS; virtual time has none."""

    async def post(self, target: HookTarget, body: bytes, timeout_seconds: float) -> tuple[int, str, bytes]:
        """(status, content type, body) of the answer to a JSON body. Raises Unreachable in Go's words."""


class Admission(Protocol):
    """The chain: mutate all, then (after schema and behaviour validation) validate all."""

    async def mutate(self, request: AdmissionRequest) -> None:
        """Raises Forbidden/Invalid/BadRequest."""

    async def validate(self, request: AdmissionRequest) -> None:
        """Raises Forbidden/…; quota is charged here by a compare-and-swap of its own."""

    def mutate_at_once(self, request: AdmissionRequest) -> bool:
        """`mutate`; False where that has to wait for something, and has to be called with a new request."""

    def validate_at_once(self, request: AdmissionRequest) -> bool:
        """`validate`, likewise."""

    def repeats(self, group_resource: str, user: User, created: Object | None = None) -> Repeatability | None:
        """Whether equal writes of this resource are treated alike; None: each must be asked about.

        `created`: the object of a create as sent, unchecked but that its metadata are a dict; None for other writes.
        """


class Cause(Struct, frozen=True):
    """One field error, with upstream's wording (apimachinery util/validation/field)."""

    reason: str  # FieldValueRequired FieldValueInvalid FieldValueDuplicate FieldValueForbidden
    #              FieldValueNotSupported FieldValueTooLong FieldValueTooMany FieldValueNotFound FieldValueTypeInvalid
    message: str  # without the field: `Required value: …`, `Invalid value: "x": must be …`
    field: str


def _nothing(*_: Any) -> None:
    return None


def _no_causes(*_: Any) -> list[Cause]:
    return []


def _no_warnings(*_: Any) -> list[str]:
    return []


class Behaviour(Struct, frozen=True):
    """How one built-in kind behaves beyond its schema: upstream's defaults and its registry strategy.

    All callables work on plain JSON objects in the resource's storage version. `prepare_*` and `default` change
    the given (private) object in place; `old` is shared. They are pure: what needs other objects or allocation
    (cluster IPs, node ports) is admission's.
    """

    default: Callable[[Object], None] = _nothing
    default_status: Callable[[Object], None] = _nothing  # of the status, where a write of it leaves all else as it was
    prepare_create: Callable[[Object], None] = _nothing
    prepare_update: Callable[[Object, Object], None] = _nothing  # (new, old)
    prepare_status: Callable[[Object, Object], None] = _nothing  # (new, old): what a /status write may not change
    validate_create: Callable[[Object], list[Cause]] = _no_causes
    validate_update: Callable[[Object, Object], list[Cause]] = _no_causes  # (new, old)
    validate_status: Callable[[Object, Object], list[Cause]] = _no_causes
    warnings: Callable[[Object, Object | None], list[str]] = _no_warnings
    has_status: bool = False
    has_scale: bool = False
    create_on_update: bool = False  # PUT of an absent name creates (leases, endpoints, nodes? as upstream)
    unconditional_update: bool = True
    schema_only: bool = False  # no table for this kind: documented as such
    selectable_fields: Callable[[Object], dict[str, str]] | None = None  # beyond metadata.name/namespace
    grace_period_seconds: Callable[[Object, int | None], int] | None = None  # graceful deletion (pods)
    extra: Mapping[str, Any] = {}
