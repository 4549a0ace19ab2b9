"""The create-only kinds that answer questions about access: *AccessReview, *RulesReview, SelfSubjectReview,
TokenReview, and the token subresource of service accounts. Nothing is stored.

Each handler takes (user, object as sent, namespace) and returns the object with its status.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from atoll.base.clock import Clock, rfc3339
from atoll.base.errors import BadRequest, Conflict, InternalError, Invalid, NotFound
from atoll.cluster.apiserver.access.authentication import Authenticator
from atoll.cluster.apiserver.access.nodes import node_of
from atoll.cluster.apiserver.access.rbac import RbacAuthorizer
from atoll.cluster.apiserver.access.service_accounts import ServiceAccountTokens
from atoll.cluster.apiserver.access.tokens import Known, TokenRefused
from atoll.cluster.apiserver.ports import Attributes, Authorizer, MustWait, User, decide, user_info
from atoll.cluster.store.port import Key, Record, Store

Object = dict[str, Any]
Review = Callable[[User, Object, str], Awaitable[Object]]
_AUTHORIZATION = "authorization.k8s.io"
_AUTHENTICATION = "authentication.k8s.io"
_MIN_TOKEN_SECONDS = 600
_MAX_TOKEN_SECONDS = 1 << 32
_DEFAULT_TOKEN_SECONDS = 3600


class Reviews:
    """The handlers of one cluster; `handlers` maps (group, plural) to each."""

    def __init__(
        self,
        authorizer: Authorizer,
        rbac: RbacAuthorizer,
        authenticator: Authenticator,
        tokens: ServiceAccountTokens | None,
        store: Store,
        clock: Clock,
    ) -> None:
        self._authorizer = authorizer
        self._rbac = rbac
        self._authenticator = authenticator
        self._tokens = tokens
        self._store = store
        self._clock = clock
        self.asks_webhooks = False

    @property
    def handlers(self) -> dict[tuple[str, str], Review]:
        return {
            (_AUTHORIZATION, "selfsubjectaccessreviews"): self.self_access,
            (_AUTHORIZATION, "subjectaccessreviews"): self.access,
            (_AUTHORIZATION, "localsubjectaccessreviews"): self.local_access,
            (_AUTHORIZATION, "selfsubjectrulesreviews"): self.self_rules,
            (_AUTHENTICATION, "selfsubjectreviews"): self.self_review,
            (_AUTHENTICATION, "tokenreviews"): self.token_review,
        }

    async def self_access(self, user: User, obj: Object, namespace: str) -> Object:
        spec = obj.get("spec") or {}
        _refuse(obj, _attribute_problems(spec))
        return {**obj, "status": await self._decide(_attributes(user, spec))}

    async def access(self, user: User, obj: Object, namespace: str) -> Object:
        spec = obj.get("spec") or {}
        problems = _attribute_problems(spec)
        if not spec.get("user") and not spec.get("groups"):
            problems.append(("spec.user", 'Invalid value: "": at least one of user or group must be specified'))
        _refuse(obj, problems)
        extra = {key: tuple(values) for key, values in (spec.get("extra") or {}).items()}
        subject = User(spec.get("user") or "", tuple(spec.get("groups") or ()), spec.get("uid") or "", extra)
        return {**obj, "status": await self._decide(_attributes(subject, spec))}

    async def local_access(self, user: User, obj: Object, namespace: str) -> Object:
        asked = ((obj.get("spec") or {}).get("resourceAttributes") or {}).get("namespace")
        if asked != namespace:
            raise BadRequest(f"spec.resourceAttributes.namespace must match namespace: {namespace}")
        return await self.access(user, obj, namespace)

    async def self_rules(self, user: User, obj: Object, namespace: str) -> Object:
        asked = (obj.get("spec") or {}).get("namespace")
        if not asked:
            raise BadRequest("no namespace on request")
        resources: list[Object] = []
        paths: list[Object] = []
        for rule in [found.source for found, _ in self._rbac.rules_for(user, asked)]:
            if rule.get("nonResourceURLs"):
                paths.append({"verbs": rule["verbs"], "nonResourceURLs": rule["nonResourceURLs"]})
            else:
                kept = ("verbs", "apiGroups", "resources", "resourceNames")
                resources.append({key: rule[key] for key in kept if rule.get(key)})
        status = {"resourceRules": resources, "nonResourceRules": paths, "incomplete": False}
        unknown = self._unknown_rules(user)
        if unknown:
            status |= {"incomplete": True, "evaluationError": ", ".join(unknown)}
        metadata = {key: value for key, value in (obj.get("metadata") or {}).items() if key != "managedFields"}
        return {**obj, "metadata": metadata, "spec": {}, "status": status}

    def _unknown_rules(self, user: User) -> list[str]:
        """Why the rules above are not all."""
        why = ["node authorizer does not support user rule resolution"] if node_of(user) is not None else []
        if self.asks_webhooks:
            why.append("webhook authorizer does not support user rule resolution")
        return why

    async def self_review(self, user: User, obj: Object, namespace: str) -> Object:
        metadata = {**(obj.get("metadata") or {}), "creationTimestamp": rfc3339(self._clock.wall())}
        return {**obj, "metadata": metadata, "status": {"userInfo": user_info(user)}}

    async def token_review(self, user: User, obj: Object, namespace: str) -> Object:
        spec = obj.get("spec") or {}
        token = spec.get("token") or ""
        if not token:
            raise BadRequest("token is required for TokenReview in authentication")
        audiences = spec.get("audiences") or ([self._tokens.issuer] if self._tokens is not None else [])
        try:
            known = await self._whose(token, audiences)
        except TokenRefused as refused:
            return {**obj, "status": {"user": {}, "error": str(refused)}}
        status: Object = {"authenticated": True, "user": user_info(known.user)}
        if known.audiences:
            status["audiences"] = list(known.audiences)
            if not set(known.audiences).intersection(audiences):
                raise InternalError("Internal error occurred: error validating audiences")
        return {**obj, "status": status}

    async def _whose(self, token: str, audiences: list[str]) -> Known:
        """Raises TokenRefused."""
        try:
            return self._authenticator.tokens.authenticate(token, audiences)
        except MustWait as waiting:
            known: Known = await waiting.finish()
            return known

    def token_request(self, user: User, name: str, namespace: str, obj: Object, dry_run: bool) -> Object:
        """POST serviceaccounts/NAME/token (authentication.k8s.io/v1 TokenRequest)."""
        record = self._store.get(Key("serviceaccounts", namespace, name))
        if record is None or self._tokens is None:
            raise NotFound(f'serviceaccounts "{name}" not found', details={"name": name, "kind": "serviceaccounts"})
        spec = dict(obj.get("spec") or {})
        seconds = spec.get("expirationSeconds") or _DEFAULT_TOKEN_SECONDS
        audiences = spec.get("audiences") or [self._tokens.issuer]
        if seconds < _MIN_TOKEN_SECONDS:
            why = f"Invalid value: {seconds}: may not specify a duration less than 10 minutes"
            raise _invalid(obj, ("spec.expirationSeconds", why))
        if seconds > _MAX_TOKEN_SECONDS:
            why = f"Invalid value: {seconds}: may not specify a duration larger than 2^32 seconds"
            raise _invalid(obj, ("spec.expirationSeconds", why))
        bound = self._bound(namespace, name, spec.get("boundObjectRef"))
        metadata = {**(obj.get("metadata") or {}), "name": name, "namespace": namespace}
        metadata["creationTimestamp"] = rfc3339(self._clock.wall())
        token, expiry = ("", self._clock.wall() + seconds)
        if not dry_run:
            token, expiry = self._tokens.issue(record.object, audiences, seconds, bound)
        spec |= {"audiences": audiences, "expirationSeconds": seconds, "boundObjectRef": spec.get("boundObjectRef")}
        status = {"token": token, "expirationTimestamp": rfc3339(expiry)}
        return {
            "kind": "TokenRequest",
            "apiVersion": "authentication.k8s.io/v1",
            "metadata": metadata,
            "spec": spec,
            "status": status,
        }

    def _bound(self, namespace: str, account: str, reference: Object | None) -> Object | None:
        if not reference:
            return None
        kind = str(reference.get("kind"))
        if kind not in ("Pod", "Secret", "Node"):
            group, _, version = (reference.get("apiVersion") or "/").rpartition("/")
            raise BadRequest(f"cannot bind token to object of type {group}/{version}, Kind={kind}")
        name = str(reference.get("name"))
        record = self._store.get(Key(f"{kind.lower()}s", "" if kind == "Node" else namespace, name))
        if record is None:
            raise NotFound(f'{kind.lower()}s "{name}" not found', details={"name": name, "kind": f"{kind.lower()}s"})
        if kind == "Pod" and (record.object["spec"].get("serviceAccountName") or "") != account:
            raise BadRequest(
                f"cannot bind token for serviceaccount {account!r} to pod running with different serviceaccount name."
            )
        if reference.get("uid") and reference["uid"] != record.uid:
            raise Conflict(
                f'Operation cannot be fulfilled on {kind.lower()} "{name}": the UID in the bound object reference '
                f"({reference['uid']}) does not match the UID in record. The object might have been deleted and then "
                "recreated",
                details={"name": name, "kind": kind.lower()},
            )
        return {"kind": kind, "name": name, "uid": record.uid, "node": self._node_of(record) if kind == "Pod" else None}

    def _node_of(self, pod: Record) -> Object | None:
        """A pod's token is bound to its node too (KEP-4193)."""
        node = self._store.get(Key("nodes", "", pod.node_name)) if pod.node_name else None
        return None if node is None else {"name": pod.node_name, "uid": node.uid}

    async def _decide(self, asked: Attributes) -> Object:
        decision = await decide(self._authorizer, asked)
        status: Object = {"allowed": decision.allowed}
        if decision.denied:
            status["denied"] = True
        if decision.reason:
            status["reason"] = decision.reason
        return status


def _attributes(user: User, spec: Object) -> Attributes:
    path = spec.get("nonResourceAttributes")
    if path is not None:
        return Attributes(user, path.get("verb") or "", path=path.get("path") or "")
    asked = spec.get("resourceAttributes") or {}
    return Attributes(
        user,
        asked.get("verb") or "",
        asked.get("group") or "",
        asked.get("version") or "",
        asked.get("resource") or "",
        asked.get("subresource") or "",
        asked.get("namespace") or "",
        asked.get("name") or "",
        "",
        _selector(asked.get("fieldSelector")),
        _selector(asked.get("labelSelector")),
    )


def _selector(given: Object | None) -> str:
    """A selector of a review as a request would carry it."""
    if not given:
        return ""
    if given.get("rawSelector"):
        return str(given["rawSelector"])
    parts = []
    for item in given.get("requirements") or ():
        key, values = item.get("key") or "", item.get("values") or []
        operator = item.get("operator")
        if operator in ("In", "NotIn") and len(values) == 1:
            parts.append(f"{key}{'=' if operator == 'In' else '!='}{values[0]}")
        elif operator in ("In", "NotIn"):
            parts.append(f"{key} {operator.lower()} ({','.join(values)})")
        elif operator in ("Exists", "DoesNotExist"):
            parts.append(key if operator == "Exists" else f"!{key}")
    return ",".join(parts)


def _attribute_problems(spec: Object) -> list[tuple[str, str]]:
    given = [key for key in ("resourceAttributes", "nonResourceAttributes") if spec.get(key) is not None]
    if len(given) == 2:
        why = "Invalid value: cannot be specified in combination with resourceAttributes"
        return [("spec.nonResourceAttributes", why)]
    if not given:
        why = "Invalid value: null: exactly one of nonResourceAttributes or resourceAttributes must be specified"
        return [("spec.resourceAttributes", why)]
    return []


def _refuse(obj: Object, problems: list[tuple[str, str]]) -> None:
    """Raises Invalid with all of them."""
    if problems:
        raise _invalid(obj, *problems)


def _invalid(obj: Object, *problems: tuple[str, str]) -> Invalid:
    """Access reviews are refused without their kind, as upstream does."""
    kind, group = str(obj.get("kind") or ""), str(obj.get("apiVersion") or "").partition("/")[0]
    causes = [{"reason": "FieldValueInvalid", "message": message, "field": field} for field, message in problems]
    if group == "authorization.k8s.io":
        kind = ""
    details: Object = {"group": group, "causes": causes}
    if kind:
        details["kind"] = kind
    told = ", ".join(f"{field}: {message}" for field, message in problems)
    return Invalid(f'{kind}.{group} "" is invalid: {f"[{told}]" if len(problems) > 1 else told}', details=details)
