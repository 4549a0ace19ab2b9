"""Acting as somebody else: the Impersonate-* headers, each of which needs leave of its own (RBAC verb impersonate)."""

from __future__ import annotations

from urllib.parse import unquote

from atoll.base.errors import BadRequest, Forbidden
from atoll.cluster.apiserver.access.rbac import SERVICE_ACCOUNT_PREFIX
from atoll.cluster.apiserver.ports import ANONYMOUS, Attributes, Authorizer, Decision, MustWait, User, decide
from atoll.wire.messages import HttpRequest

_EXTRA = "impersonate-extra-"
_AUTHENTICATION = "authentication.k8s.io"


def impersonate(request: HttpRequest, user: User, authorizer: Authorizer) -> User:
    """The user that the Impersonate-* headers ask for, if `user` may. Raises Forbidden, BadRequest, MustWait."""
    wanted = _wanted(request)
    if wanted is None:
        return user
    for asked in _questions(user, wanted):
        try:
            _refuse(asked, authorizer.authorize(asked))
        except MustWait:
            raise MustWait(lambda: impersonate_slowly(request, user, authorizer)) from None
    return _become(wanted)


async def impersonate_slowly(request: HttpRequest, user: User, authorizer: Authorizer) -> User:
    """The same where a webhook decides."""
    wanted = _wanted(request)
    if wanted is None:
        return user
    for asked in _questions(user, wanted):
        _refuse(asked, await decide(authorizer, asked))
    return _become(wanted)


def asks(request: HttpRequest) -> bool:
    for header in request.headers:  # on every request: a generator costs more  # noqa: SIM110
        if header.startswith("impersonate-"):
            return True
    return False


def _wanted(request: HttpRequest) -> User | None:
    headers = request.headers
    name = headers.get("impersonate-user", "")
    groups = [group for group in request.values("impersonate-group") if group]
    uid = headers.get("impersonate-uid", "")
    extra = {unquote(key[len(_EXTRA) :]): tuple(request.values(key)) for key in headers if key.startswith(_EXTRA)}
    if not name:
        if groups or uid or extra:
            listed = ", ".join(f'"{group}"' for group in groups)
            shown = f'Name:"", UID:"{uid}", Groups:[]string{{{listed}}}, Extra:map[string][]string(nil)'
            asked = f"&user.DefaultInfo{{{shown}}}"
            raise BadRequest(f"requested {asked} without impersonating a user name")
        return None
    return User(name, tuple(groups), uid, extra)


def _questions(user: User, wanted: User) -> list[Attributes]:
    """All that must be allowed."""
    name = wanted.name
    if name.startswith(SERVICE_ACCOUNT_PREFIX) and name.count(":") == 3:
        namespace, account = name.removeprefix(SERVICE_ACCOUNT_PREFIX).split(":")
        asked = [Attributes(user, "impersonate", "", "v1", "serviceaccounts", "", namespace, account)]
    else:
        asked = [Attributes(user, "impersonate", "", "v1", "users", "", "", name)]
    asked += [Attributes(user, "impersonate", "", "v1", "groups", "", "", group) for group in wanted.groups]
    if wanted.uid:
        asked.append(Attributes(user, "impersonate", _AUTHENTICATION, "v1", "uids", "", "", wanted.uid))
    for key, values in wanted.extra.items():
        for value in values:
            asked.append(Attributes(user, "impersonate", _AUTHENTICATION, "v1", "userextras", key, "", value))
    return asked


def _refuse(asked: Attributes, decision: Decision) -> None:
    if decision.allowed:
        return
    name, group, namespace = asked.name, asked.group, asked.namespace
    full = f"{asked.resource}/{asked.subresource}" if asked.subresource else asked.resource
    target = f"{full}.{group}" if group else full
    where = f' in the namespace "{namespace}"' if namespace else " at the cluster scope"
    why = f": {decision.reason}" if decision.reason else ""
    raise Forbidden(
        f'{target} "{name}" is forbidden: User "{asked.user.name}" cannot impersonate resource "{full}" '
        f'in API group "{group}"{where}{why}',
        details={"name": name, "group": group, "kind": full} if group else {"name": name, "kind": full},
    )


def _become(wanted: User) -> User:
    name, groups = wanted.name, list(wanted.groups)
    if not groups and name.startswith(SERVICE_ACCOUNT_PREFIX) and name.count(":") == 3:
        namespace = name.split(":")[2]
        groups = ["system:serviceaccounts", f"system:serviceaccounts:{namespace}"]
    if name != ANONYMOUS.name and not {"system:authenticated", "system:unauthenticated"} & set(groups):
        groups = [*groups, "system:authenticated"]
    if name == ANONYMOUS.name and "system:unauthenticated" not in groups:
        groups = [*groups, "system:unauthenticated"]
    return User(name, tuple(groups), wanted.uid, wanted.extra)
