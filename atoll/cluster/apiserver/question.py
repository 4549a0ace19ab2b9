"""What a request's own words ask, before anyone looks at who sent it or what is stored.

The same words come again and again (polls, leases, creates of one kind), so what follows from them is kept: the path
taken apart, the attributes that authorizers look at, the resource and the form of the answer.
"""

from __future__ import annotations

from collections.abc import Collection

from msgspec import Struct
from msgspec.structs import replace

from atoll.base.recent import Recent
from atoll.cluster.apiserver import encode, paths, problems
from atoll.cluster.apiserver.api import Api
from atoll.cluster.apiserver.attributes import attributes_of
from atoll.cluster.apiserver.encode import Form
from atoll.cluster.apiserver.paths import Path
from atoll.cluster.apiserver.ports import Attributes, User
from atoll.cluster.apiserver.request import parse_query
from atoll.cluster.apiserver.request_metrics import Series
from atoll.cluster.apiserver.served import Served
from atoll.cluster.store.port import Key
from atoll.wire.messages import HttpRequest

_KEPT = 1024
_MOST_KEPT_BYTES = 2048  # of path and query
_READERS = ("curl/", "Wget/", "Mozilla/5.0")  # programs that show people what they get


class Target(Struct, frozen=True):
    """The resource that is asked for, and how the answer is to look."""

    served: Served
    form: Form
    generation: int  # of the registry


class Reading(Struct, frozen=True):
    """What is the same each time that the GET of one object is answered: see `reading`."""

    target: Target
    plain: bool  # it can be answered at once
    key: Key
    version: str  # the answer must not be older
    headers: tuple[tuple[str, str], ...]
    warnings: tuple[tuple[str, str], ...]  # of these


class Question:
    """The words of one request, or of many that are alike. `path` None: they name no resource."""

    __slots__ = ("_asked", "accept", "for_people", "manager", "path", "query", "reading", "series", "target")

    def __init__(self, request: HttpRequest) -> None:
        agent = request.headers.get("user-agent", "")
        self.path = paths.parse(request.path)
        self.query = request.query
        self.accept = request.headers.get("accept", "")
        self.manager = agent.partition("/")[0][:128]
        self.for_people = "pretty=" in request.query or agent.startswith(_READERS)
        self.target: Target | None = None
        self.reading: Reading | None = None
        self.series: dict[int, Series] = {}
        self._asked: Attributes | None = None

    def asked_by(self, request: HttpRequest, user: User) -> Attributes:
        """The same object for the same user as the last time."""
        known = self._asked
        if known is None or known.user is not user:
            known = self._asked = attributes_of(request, self.path, user)
        return known


class Questions:
    """Those asked lately. `connect`: subresources, as (group, plural, subresource), that another part answers whole."""

    def __init__(self, api: Api, connect: Collection[tuple[str, str, str]]) -> None:
        self._api = api
        self._connect = connect
        self._known: Recent[tuple[str, str, str, str, str], Question] = Recent(_KEPT)

    def of(self, request: HttpRequest) -> Question:
        headers = request.headers
        accept, agent = headers.get("accept", ""), headers.get("user-agent", "")
        key = (request.path, request.method, request.query, accept, agent)
        question = self._known.get(key)
        if question is None:
            question = Question(request)
            if len(request.path) + len(request.query) + len(accept) + len(agent) <= _MOST_KEPT_BYTES:
                self._known.put(key, question)
        return question

    def target(self, question: Question, path: Path) -> Target:
        """Of a question whose path this is. Raises NotFound, NotAcceptable: to be told to those who may ask only."""
        generation = self._api.registry.generation
        target = question.target
        if target is None or target.generation != generation:
            question.target = None  # also where this raises
            target = question.target = Target(self._served(path), self._form(question, path), generation)
        return target

    def _served(self, path: Path) -> Served:
        registry = self._api.registry
        if not registry.has_group(path.group):
            raise problems.no_such_page()
        served = registry.find(path.group, path.version, path.plural)
        if served is None:
            raise problems.no_such_page() if registry.is_custom(path.group) else problems.no_such_path()
        connected = (path.group, path.plural, path.subresource) in self._connect
        if path.subresource and not connected and served.entry.subresource(path.subresource) is None:
            if served.custom is not None:
                raise problems.not_found(served.resource, path.name)
            raise problems.no_such_path()
        if served.resource.namespaced:
            if path.name and not path.namespace:
                raise problems.no_such_path()
        elif path.namespace and path.plural != "namespaces":
            raise problems.no_such_path()
        return served

    def _form(self, question: Question, path: Path) -> Form:
        form = encode.negotiate(question.accept)
        if form.kind == "Table" and (path.group, path.plural) in self._api.hooks.virtual:
            form = encode.negotiate(question.accept, tables=False)
        if form.kind == "Table":
            include = parse_query(question.query).get("includeObject")
            if include and include[0]:
                form = replace(form, include=include[0])
        return form
