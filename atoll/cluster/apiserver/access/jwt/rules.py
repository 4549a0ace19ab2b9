"""From claims to a user: which claims or expressions name it, and the rules that claims and user must fulfil.

Pure. What is refused is told as `TokenRefused`, in upstream's words (apiserver's oidc plugin).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from atoll.cluster.apiserver.access.tokens import TokenRefused
from atoll.cluster.apiserver.ports import User

if TYPE_CHECKING:
    from atoll.cluster.apiserver.expressions.environment import Program

Object = dict[str, Any]
_CREDENTIAL = "authentication.kubernetes.io/credential-id"


@dataclass(frozen=True, slots=True)
class Source:
    """A claim with a prefix, or an expression; neither: nothing."""

    claim: str = ""
    prefix: str = ""
    program: Program | None = None


@dataclass(frozen=True, slots=True)
class Condition:
    program: Program
    message: str


@dataclass(frozen=True, slots=True)
class Rules:
    """See `user_of`."""

    username: Source
    groups: Source
    uid: Source
    extra: tuple[tuple[str, Program], ...]
    required: tuple[tuple[str, str], ...]  # (claim, value)
    claim_conditions: tuple[Condition, ...]
    user_conditions: tuple[Condition, ...]

    def user_of(self, claims: Object) -> User:
        """Raises TokenRefused."""
        values = {"claims": shown(claims)}
        name = self._username(claims, values)
        groups = self._groups(claims, values)
        uid = self._uid(claims, values)
        user = User(name, tuple(groups), uid, self._extra(claims, values))
        self._check_required(claims)
        _check("claim validation expression", self.claim_conditions, values)
        if self.user_conditions:
            info = {"username": user.name, "uid": user.uid, "groups": list(user.groups),
                    "extra": {key: list(value) for key, value in user.extra.items()}}  # fmt: skip
            _check("user info validation rule", self.user_conditions, {"user": shown(info)})
        return user

    def _username(self, claims: Object, values: Object) -> str:
        source = self.username
        if source.program is not None:
            name = _text("username", source.program, values)
            if not name:
                raise TokenRefused("oidc: empty username via CEL expression is not allowed")
            return name
        try:
            name = _string(claims, source.claim)
        except ValueError as error:
            raise TokenRefused(f'oidc: parse username claims "{source.claim}": {error}') from None
        if source.claim == "email" and "email_verified" in claims:
            verified = claims["email_verified"]
            if not isinstance(verified, bool):
                why = _wrong_type(verified, "bool")
                raise TokenRefused(f"oidc: parse 'email_verified' claim: {why}")
            if not verified:
                raise TokenRefused("oidc: email not verified")
        return source.prefix + name

    def _groups(self, claims: Object, values: Object) -> list[str]:
        source = self.groups
        if source.claim:
            if source.claim not in claims:
                return []
            given = claims[source.claim]
            listed = [given] if isinstance(given, str) else given
            if listed is None:
                return []
            if not isinstance(listed, list) or not all(isinstance(item, str) for item in listed):
                why = _wrong_type(given, "string")
                raise TokenRefused(f'oidc: parse groups claim "{source.claim}": {why}')
            return [source.prefix + item for item in listed]
        if source.program is None:
            return []
        try:
            return _strings(_run(source.program, values))
        except ValueError as error:
            raise TokenRefused(f"oidc: error evaluating group claim expression: {error}") from None

    def _uid(self, claims: Object, values: Object) -> str:
        source = self.uid
        if source.program is not None:
            return _text("uid", source.program, values)
        if not source.claim:
            return ""
        try:
            return _string(claims, source.claim)
        except ValueError as error:
            raise TokenRefused(f'oidc: parse uid claim "{source.claim}": {error}') from None

    def _extra(self, claims: Object, values: Object) -> dict[str, tuple[str, ...]]:
        extra: dict[str, tuple[str, ...]] = {}
        token_id = claims.get("jti")
        if isinstance(token_id, str) and token_id:
            extra[_CREDENTIAL] = (f"JTI={token_id}",)
        for key, program in self.extra:
            try:
                value = _run(program, values)
            except ValueError as error:
                raise TokenRefused(str(error)) from None
            try:
                found = _strings(value)
            except ValueError as error:
                told = f"{program.source}: {error}"
                raise TokenRefused(f"oidc: error evaluating extra claim expression: {told}") from None
            if found:
                extra[key] = tuple(found)
        return extra

    def _check_required(self, claims: Object) -> None:
        for claim, wanted in self.required:
            if claim not in claims:
                raise TokenRefused(f"oidc: required claim {claim} not present in ID token")
            try:
                value = _string(claims, claim)
            except ValueError as error:
                raise TokenRefused(f"oidc: parse claim {claim}: {error}") from None
            if value != wanted:
                why = f"value does not match. Got = {value}, want = {wanted}"
                raise TokenRefused(f"oidc: required claim {claim} {why}")


def _run(program: Program, values: Object) -> Any:
    """Raises ValueError."""
    from atoll.cluster.apiserver.expressions.errors import ExpressionError

    try:
        return program.run(values)
    except ExpressionError as error:
        raise ValueError(f"expression '{program.source}' resulted in error: {error}") from None


def _text(what: str, program: Program, values: Object) -> str:
    try:
        value = _run(program, values)
        if not isinstance(value, str):
            raise ValueError(f"{what} claim expression must return a string")
    except ValueError as error:
        raise TokenRefused(f"oidc: error evaluating {what} claim expression: {error}") from None
    return value


def _strings(value: Any) -> list[str]:
    """Raises ValueError. Empty strings count as absent."""
    if value is None:
        return []
    listed = [value] if isinstance(value, str) else value
    if not isinstance(listed, (list, tuple)) or not all(isinstance(item, str) for item in listed):
        raise ValueError("expression must return a string or a list of strings")
    return [str(item) for item in listed if item]


def _check(what: str, conditions: tuple[Condition, ...], values: Object) -> None:
    for condition in conditions:
        try:
            holds = _run(condition.program, values)
        except ValueError as error:
            raise TokenRefused(f"oidc: error evaluating {what}: {error}") from None
        if holds is not True:
            why = f"validation expression '{condition.program.source}' failed: {condition.message}"
            raise TokenRefused(f"oidc: error evaluating {what}: {why}")


def _string(claims: Object, name: str) -> str:
    """Raises ValueError in the words of Go's JSON."""
    if name not in claims:
        raise ValueError("claim not present")
    value = claims[name]
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ValueError(_wrong_type(value, "string"))
    return value


def _wrong_type(value: Any, wanted: str) -> str:
    names_of = {bool: "bool", int: "number", float: "number", str: "string", list: "array", dict: "object"}
    return f"json: cannot unmarshal {names_of.get(type(value), 'value')} into Go value of type {wanted}"


class _Escaped(dict[str, Any]):
    """A JSON object whose keys are found by their CEL identifiers too (`foo__dot__bar`)."""

    def __missing__(self, key: str) -> Any:
        plain = _unescaped(key)
        if plain != key and dict.__contains__(self, plain):
            return dict.__getitem__(self, plain)
        raise KeyError(key)

    def __contains__(self, key: object) -> bool:
        return dict.__contains__(self, key) or (isinstance(key, str) and dict.__contains__(self, _unescaped(key)))

    def get(self, key: str, default: Any = None) -> Any:
        return self[key] if key in self else default  # noqa: SIM401


def _unescaped(key: str) -> str:
    if "__" not in key:
        return key
    for code, plain in (("__dot__", "."), ("__dash__", "-"), ("__slash__", "/"), ("__underscores__", "__")):
        key = key.replace(code, plain)
    return key


def shown(value: Any) -> Any:
    """JSON as expressions see it: all numbers are doubles, as upstream decodes claims."""
    if isinstance(value, Mapping):
        return _Escaped({key: shown(item) for key, item in value.items()})
    if isinstance(value, list):
        return [shown(item) for item in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value
