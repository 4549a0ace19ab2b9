"""How a worker cluster of MultiKueue is reached: a kubeconfig that holds all it needs, from a Secret or a file.

Who may write a Secret in kueue-system, or a MultiKueueCluster, must not thereby run programs as the manager or read its
files: what upstream refuses as insecure is refused here.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from atoll.base.errors import UserError
from atoll.client.kubeconfig import Access, Kubeconfig

UPSTREAM_FOLDER = Path("/etc/multikueue/kubeconfigs")
_OF_USERS = {
    "exec": "exec plugins are not allowed",
    "auth-provider": "auth providers are not allowed",
    "tokenFile": "tokenFile is not allowed",
    "username": "basic auth is not allowed",
    "password": "basic auth is not allowed",
    "client-certificate": "client-certificate file paths are not allowed, use client-certificate-data",
    "client-key": "client-key file paths are not allowed, use client-key-data",
}
_OF_CLUSTERS = {
    "insecure-skip-tls-verify": "insecure TLS verification is not allowed",
    "certificate-authority": "certificate-authority file paths are not allowed, use certificate-authority-data",
}


class InsecureKubeconfig(UserError):
    """It names programs or files of the manager's machine, or trusts anybody."""


def worker_access(text: str) -> Access:
    """Of its current context. Raises UserError; InsecureKubeconfig where upstream's MultiKueue refuses it too."""
    config = Kubeconfig.parse(text, "the worker's kubeconfig")
    for kind, part, refused in (("users", "user", _OF_USERS), ("clusters", "cluster", _OF_CLUSTERS)):
        for entry in config.document.get(kind) or []:
            _refuse(f"{part} {entry['name']}", entry.get(part), refused)
    access = config.access()
    try:
        parts = urlsplit(access.server)
        usable = bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        hint = "as in https://host:6443"
        raise InsecureKubeconfig(f"untrusted server endpoint {access.server}", hint=hint)
    return access


def _refuse(what: str, entry: Any, refused: dict[str, str]) -> None:
    if not isinstance(entry, dict):
        return
    for field, why in refused.items():
        if entry.get(field):
            hint = "give a token or certificates, all of it within the kubeconfig (kubectl config view --flatten)"
            raise InsecureKubeconfig(f"{what}: {why}", hint=hint)


def kubeconfig_at(location: str, folders: Iterable[Path]) -> str:
    """The text of a kubeconfig file, which must lie in one of the folders, links followed. Raises UserError."""
    path, known = Path(location), tuple(folders)
    hint = f"put it into {' or '.join(map(str, known))}"
    if not path.is_absolute() or ".." in path.parts:
        raise UserError(f"kubeconfig path {location} must be absolute, without '..'", hint=hint)
    try:
        real = path.resolve(strict=True)
        if not any(real.is_relative_to(folder.resolve()) for folder in known):
            raise UserError(f"kubeconfig path {location} is not under {' or '.join(map(str, known))}", hint=hint)
        return real.read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not text"
        raise UserError(f"kubeconfig {location}: {reason}", hint=hint) from None
