"""Access that a cluster's files configure: structured authentication and authorisation, a token webhook.

Read at the start, where a mistake ends it, and again whenever a file changes: then a mistake is told in the log, and
what held before goes on holding, as with kube-apiserver. Imported only where a cluster names such files.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from atoll.app.assembly import Assembly
from atoll.app.fleetspec import AccessFiles
from atoll.base.errors import UserError
from atoll.client.calls import OutsideCalls
from atoll.client.kubeconfig import load
from atoll.cluster.apiserver.access import authorization_config
from atoll.cluster.apiserver.access.authorization_config import AuthorizerConfig
from atoll.cluster.apiserver.access.authorization_webhook import WebhookAuthorizer
from atoll.cluster.apiserver.access.authorizers import AlwaysAllow, AlwaysDeny
from atoll.cluster.apiserver.access.documents import seconds
from atoll.cluster.apiserver.access.jwt import model
from atoll.cluster.apiserver.access.jwt.authenticator import JwtAuthenticator
from atoll.cluster.apiserver.access.outside import Endpoint, Outside, ReviewClient
from atoll.cluster.apiserver.access.token_webhook import CACHE_SECONDS, TokenWebhook
from atoll.cluster.apiserver.access.tokens import TokenAuthenticator
from atoll.cluster.apiserver.ports import Authorizer

log = logging.getLogger("atoll.access")
_LOOK_SECONDS = 1.0
_WEBHOOK_SECONDS = 30.0


async def configure_access(stack: AsyncExitStack, assembly: Assembly, files: AccessFiles) -> None:
    """Until the stack is closed. Raises UserError for what can't be used."""
    outside = OutsideCalls()
    stack.push_async_callback(outside.close)
    configured = Configured(assembly, files, outside)
    configured.apply()
    task = asyncio.create_task(configured.follow(), name="access-files")
    stack.push_async_callback(_ended, task)


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


class Configured:
    """Applies the files to an assembly."""

    def __init__(self, assembly: Assembly, files: AccessFiles, outside: Outside) -> None:
        self._assembly = assembly
        self._outside = outside
        self._builtin = assembly.authenticator.tokens.authenticators
        self._jwt: tuple[TokenAuthenticator, ...] = ()
        self._webhook: tuple[TokenAuthenticator, ...] = ()
        self._files = files
        self._watched: list[_Watched] = []

    def apply(self) -> None:
        """Raises UserError."""
        files = self._files
        if files.token_webhook:
            self._webhook = (self._token_webhook(files),)
        for path, use in (
            (files.authentication, self._use_authentication),
            (files.authorization, self._use_authorization),
        ):
            if path:
                watched = _Watched(Path(path), use)
                watched.read()
                self._watched.append(watched)
        self._set_tokens()

    async def follow(self) -> None:
        """Look for changes, until cancelled."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            for watched in self._watched:
                watched.read_again()

    def _set_tokens(self) -> None:
        self._assembly.authenticator.tokens.authenticators = (*self._builtin, *self._jwt, *self._webhook)

    def _token_webhook(self, files: AccessFiles) -> TokenWebhook:
        cache = seconds(files.token_webhook_cache_ttl)
        if files.token_webhook_version not in ("v1", "v1beta1"):
            given = files.token_webhook_version
            raise UserError(f"unsupported authentication webhook version {given!r}", hint="use v1 or v1beta1")
        if cache is not None and not cache >= 0:
            raise UserError(f"{files.token_webhook_cache_ttl!r} is not a duration", hint="as in 2m or 30s")
        client = ReviewClient(self._outside, read_endpoint(files.token_webhook), _WEBHOOK_SECONDS)
        return TokenWebhook(
            client,
            self._assembly.clock,
            own_audiences=self._own_audiences(),
            version=files.token_webhook_version,
            cache_seconds=CACHE_SECONDS if cache is None else cache,
        )

    def _own_audiences(self) -> tuple[str, ...]:
        tokens = self._assembly.tokens
        return (tokens.issuer,) if tokens is not None else ()

    def _use_authentication(self, text: str, source: str) -> None:
        config = model.parse(text, source, self._own_audiences())
        self._jwt = tuple(JwtAuthenticator(jwt, self._outside, self._assembly.clock) for jwt in config.jwt)
        self._assembly.authenticator.anonymous = config.anonymous
        self._set_tokens()

    def _use_authorization(self, text: str, source: str) -> None:
        configs = authorization_config.parse(text, source, read_endpoint)
        self._assembly.authorizer.authorizers = tuple(self._authorizer(config) for config in configs)
        self._assembly.reviews.asks_webhooks = any(config.webhook is not None for config in configs)

    def _authorizer(self, config: AuthorizerConfig) -> Authorizer:
        if config.webhook is not None:
            return WebhookAuthorizer(config.webhook, self._outside, self._assembly.clock)
        builtin: dict[str, Callable[[], Authorizer]] = {
            "Node": lambda: self._assembly.node_authorizer,
            "RBAC": lambda: self._assembly.rbac,
            "AlwaysAllow": AlwaysAllow,
            "AlwaysDeny": AlwaysDeny,
        }
        return builtin[config.type]()


@dataclass(slots=True)
class _Watched:
    """A file, and what it was when it was last read."""

    path: Path
    use: Callable[[str, str], None]
    text: str = ""
    told: str = ""

    def read(self) -> None:
        """Raises UserError."""
        try:
            text = self.path.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{self.path}: {getattr(error, 'strerror', None) or error}") from None
        if text != self.text:
            self.use(text, str(self.path))
            self.text = text

    def read_again(self) -> None:
        before = self.text
        try:
            self.read()
        except UserError as error:
            if error.message != self.told:
                log.error("%s; what held before goes on holding", error.message)
                self.told = error.message
            return
        self.told = ""
        if self.text != before:
            log.info("%s was read again", self.path)


def read_endpoint(path: str) -> Endpoint:
    """What a kubeconfig says of a webhook: its server is the whole URL. Raises UserError."""
    access = load(Path(path)).access()
    token = access.token
    if access.token_file is not None:
        token = access.token_file.read_text().strip()
    return Endpoint(
        access.server, access.ca_pem, access.insecure, access.tls_server_name, access.certificate_pem,
        access.key_pem, token,
    )  # fmt: skip
