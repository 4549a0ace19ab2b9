"""What proves who a client is: a token, a token file that changes, basic auth, a certificate, or an exec plugin."""

from __future__ import annotations

import asyncio
import base64
import os
from pathlib import Path

import orjson

from atoll.base.clock import Clock, parse_rfc3339
from atoll.base.errors import UserError
from atoll.client.kubeconfig import Access, ExecPlugin

_PLUGIN_SECONDS = 60
_EARLY_SECONDS = 10.0
_RELOAD_SECONDS = 60.0


class Credentials:
    """Current headers and client certificate of an Access; `renew` before each request."""

    def __init__(self, access: Access, clock: Clock) -> None:
        self._authorization: str | None = None
        self._others: list[tuple[str, str]] = []
        self.certificate_pem = access.certificate_pem
        self.key_pem = access.key_pem
        self._access = access
        self._clock = clock
        self._good_until: float | None = None  # monotonic for files, wall for plugins
        if access.impersonate:
            self._others.append(("Impersonate-User", access.impersonate))
            self._others += [("Impersonate-Group", group) for group in access.impersonate_groups]
        if access.token:
            self._bear(access.token)
        elif access.username is not None:
            pair = f"{access.username}:{access.password or ''}".encode()
            self._authorization = "Basic " + base64.b64encode(pair).decode()

    @property
    def headers(self) -> list[tuple[str, str]]:
        """What to add to each request."""
        if self._authorization is None:
            return self._others
        return [("Authorization", self._authorization), *self._others]

    @property
    def refreshable(self) -> bool:
        """Whether a 401 may be cured by asking anew."""
        return self._access.exec is not None or self._access.token_file is not None

    def expire(self) -> None:
        """The server refused these: ask anew."""
        self._good_until = None

    async def renew(self) -> None:
        """Bring the credentials up to date. Raises UserError."""
        if self._access.exec is not None:
            if self._good_until is None or self._clock.wall() > self._good_until - _EARLY_SECONDS:
                await self._run(self._access.exec)
        elif self._access.token_file is not None and (
            self._good_until is None or self._clock.monotonic() > self._good_until
        ):
            self._bear(_read_token(self._access.token_file))
            self._good_until = self._clock.monotonic() + _RELOAD_SECONDS

    def _bear(self, token: str) -> None:
        self._authorization = f"Bearer {token}"

    async def _run(self, plugin: ExecPlugin) -> None:
        asked = {
            "kind": "ExecCredential",
            "apiVersion": plugin.api_version,
            "spec": {"interactive": False, **self._cluster_info(plugin)},
        }
        environment = {**os.environ, **dict(plugin.env), "KUBERNETES_EXEC_INFO": orjson.dumps(asked).decode()}
        try:
            process = await asyncio.create_subprocess_exec(
                plugin.command,
                *plugin.args,
                env=environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
        except OSError as error:
            raise UserError(
                f"the credential plugin {plugin.command} can't be run: {error.strerror}",
                hint=plugin.install_hint or None,
            ) from None
        try:
            async with asyncio.timeout(_PLUGIN_SECONDS):
                output, complaint = await process.communicate()
        except TimeoutError:
            process.kill()
            await process.wait()
            raise UserError(f"the credential plugin {plugin.command} did not end in {_PLUGIN_SECONDS} s") from None
        if process.returncode != 0:
            text = complaint.decode(errors="replace").strip()[-500:]
            raise UserError(f"the credential plugin {plugin.command} failed ({process.returncode}): {text}")
        self._take(plugin, output)

    def _cluster_info(self, plugin: ExecPlugin) -> dict[str, object]:
        if not plugin.provide_cluster_info:
            return {}
        access = self._access
        cluster: dict[str, object] = {"server": access.server, "insecure-skip-tls-verify": access.insecure}
        if access.ca_pem:
            cluster["certificate-authority-data"] = base64.b64encode(access.ca_pem).decode()
        return {"cluster": cluster}

    def _take(self, plugin: ExecPlugin, output: bytes) -> None:
        try:
            status = orjson.loads(output)["status"]
            expires = status.get("expirationTimestamp")
            self._good_until = float("inf") if not expires else parse_rfc3339(expires)
            token, certificate, key = (status.get(name) for name in ("token", "clientCertificateData", "clientKeyData"))
        except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError, ValueError):
            raise UserError(f"the credential plugin {plugin.command} printed no ExecCredential with a status") from None
        if not token and not (certificate and key):
            raise UserError(f"the credential plugin {plugin.command} gave neither a token nor a certificate")
        if token:
            self._bear(str(token))
        if certificate and key:
            self.certificate_pem, self.key_pem = str(certificate).encode(), str(key).encode()


def _read_token(path: Path) -> str:
    try:
        token = path.read_text().strip()
    except OSError as error:
        raise UserError(f"the token file {path} can't be read: {error.strerror}") from None
    if not token:
        raise UserError(f"the token file {path} is empty")
    return token
