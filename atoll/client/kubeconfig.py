"""Kubeconfigs: read them as kubectl does, merge entries of ours into them without losing what else is there.

`load(path).access(context)` gives an `Access`: everything that a client needs, files read. Mistakes are UserErrors that
name the file and the entry.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from atoll.base.errors import UserError

_LISTS = ("clusters", "users", "contexts")


@dataclass(frozen=True, slots=True)
class ExecPlugin:
    """A credential plugin (client.authentication.k8s.io)."""

    command: str
    args: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    api_version: str = "client.authentication.k8s.io/v1"
    install_hint: str = ""
    provide_cluster_info: bool = False


@dataclass(frozen=True, slots=True)
class Access:
    """How to reach one API server as one user. `repr` shows no secrets."""

    server: str
    ca_pem: bytes | None = None
    insecure: bool = False
    tls_server_name: str | None = None
    certificate_pem: bytes | None = field(default=None, repr=False)
    key_pem: bytes | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    token_file: Path | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    exec: ExecPlugin | None = field(default=None, repr=False)
    impersonate: str | None = None
    impersonate_groups: tuple[str, ...] = ()
    namespace: str = "default"
    context: str = ""


class Kubeconfig:
    """A parsed kubeconfig; `source` names it in messages, `folder` is what its relative paths start from."""

    def __init__(self, document: dict[str, Any], source: str = "kubeconfig", folder: Path | None = None) -> None:
        self._document = document
        self._source = source
        self._folder = folder or Path()

    @classmethod
    def parse(cls, text: str | bytes, source: str = "kubeconfig", folder: Path | None = None) -> Kubeconfig:
        """Raises UserError."""
        import yaml  # only where one is read: its import takes longer than most clusters' answers

        try:
            document = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        except yaml.YAMLError as error:
            raise UserError(f"{source} is not YAML: {error}", hint="is it a kubeconfig?") from None
        if not isinstance(document, dict) or not any(key in document for key in (*_LISTS, "current-context")):
            raise UserError(f"{source} is not a kubeconfig", hint="it must have clusters, users and contexts")
        for key in _LISTS:
            entries = document.get(key) or []
            if not isinstance(entries, list) or not all(isinstance(item, dict) and "name" in item for item in entries):
                raise UserError(f"{source}: {key} must be a list of entries with a name")
        return cls(document, source, folder)

    @property
    def current_context(self) -> str:
        return str(self._document.get("current-context") or "")

    @property
    def document(self) -> dict[str, Any]:
        """The whole file as parsed: shared, do not change."""
        return self._document

    @property
    def contexts(self) -> list[str]:
        return [str(item["name"]) for item in self._document.get("contexts") or []]

    def access(self, context: str | None = None) -> Access:
        """The access that a context (by default the current one) gives. Raises UserError."""
        name = context or self.current_context
        if not name:
            known = ", ".join(self.contexts) or "none"
            raise UserError(f"{self._source} has no current context", hint=f"name one of its contexts: {known}")
        chosen = self._entry("contexts", "context", name, "context")
        cluster_name, user_name = str(chosen.get("cluster") or ""), str(chosen.get("user") or "")
        cluster = self._entry("clusters", "cluster", cluster_name, f"context {name!r}: cluster")
        user = self._entry("users", "user", user_name, f"context {name!r}: user") if user_name else {}
        server = cluster.get("server")
        if not isinstance(server, str) or not server.startswith(("https://", "http://")):
            raise UserError(
                f"{self._source}: cluster {cluster_name!r} has no server URL", hint="as in https://host:6443"
            )
        if cluster.get("proxy-url"):
            raise UserError(f"{self._source}: cluster {cluster_name!r} uses a proxy-url, which is not supported")
        if user.get("auth-provider"):
            raise UserError(
                f"{self._source}: user {user_name!r} uses an auth-provider, which Kubernetes has removed",
                hint="use a token, a client certificate or an exec plugin",
            )
        token_file = user.get("tokenFile")
        return Access(
            server=server.rstrip("/"),
            ca_pem=self._data(cluster, "certificate-authority", f"cluster {cluster_name!r}"),
            insecure=bool(cluster.get("insecure-skip-tls-verify")),
            tls_server_name=cluster.get("tls-server-name"),
            certificate_pem=self._data(user, "client-certificate", f"user {user_name!r}"),
            key_pem=self._data(user, "client-key", f"user {user_name!r}"),
            token=user.get("token"),
            token_file=self._path(token_file) if token_file and not user.get("token") else None,
            username=user.get("username"),
            password=user.get("password"),
            exec=self._exec(user.get("exec"), user_name),
            impersonate=user.get("as"),
            impersonate_groups=tuple(user.get("as-groups") or ()),
            namespace=str(chosen.get("namespace") or "default"),
            context=name,
        )

    def _entry(self, kind: str, field_name: str, name: str, what: str) -> dict[str, Any]:
        entries = self._document.get(kind) or []
        for item in entries:
            if item["name"] == name:
                found = item.get(field_name) or {}
                if not isinstance(found, dict):
                    raise UserError(f"{self._source}: {what} {name!r} is malformed")
                return found
        known = ", ".join(str(item["name"]) for item in entries) or "none"
        raise UserError(f"{self._source}: {what} {name!r} is not there", hint=f"known {kind}: {known}")

    def _path(self, text: str) -> Path:
        path = Path(text).expanduser()
        return path if path.is_absolute() else self._folder / path

    def _data(self, entry: dict[str, Any], name: str, what: str) -> bytes | None:
        inline = entry.get(f"{name}-data")
        if inline:
            try:
                return base64.b64decode(str(inline), validate=True)
            except (binascii.Error, ValueError):
                raise UserError(f"{self._source}: {what}: {name}-data is not base64") from None
        if not entry.get(name):
            return None
        path = self._path(str(entry[name]))
        try:
            return path.read_bytes()
        except OSError as error:
            raise UserError(f"{self._source}: {what}: {name} {path}: {error.strerror}") from None

    def _exec(self, entry: dict[str, Any] | None, user: str) -> ExecPlugin | None:
        if not entry:
            return None
        command = entry.get("command")
        if not command:
            raise UserError(f"{self._source}: user {user!r}: exec has no command")
        command = str(command)
        if "/" in command:
            command = str(self._path(command))
        return ExecPlugin(
            command=command,
            args=tuple(str(item) for item in entry.get("args") or ()),
            env=tuple((str(item["name"]), str(item.get("value", ""))) for item in entry.get("env") or ()),
            api_version=str(entry.get("apiVersion") or "client.authentication.k8s.io/v1"),
            install_hint=str(entry.get("installHint") or "").strip(),
            provide_cluster_info=bool(entry.get("provideClusterInfo")),
        )


def load(path: Path) -> Kubeconfig:
    """Read one file. Raises UserError."""
    path = path.expanduser()
    try:
        text = path.read_bytes()
    except OSError as error:
        raise UserError(f"kubeconfig {path}: {error.strerror}", hint="give the path of a kubeconfig") from None
    return Kubeconfig.parse(text, str(path), path.absolute().parent)


def default_paths(environ: Mapping[str, str], home: Path) -> list[Path]:
    """$KUBECONFIG's files, or ~/.kube/config: the last to be written to is the first."""
    paths = [Path(item) for item in environ.get("KUBECONFIG", "").split(os.pathsep) if item]
    return paths or [home / ".kube" / "config"]


def load_default(environ: Mapping[str, str], home: Path) -> Kubeconfig:
    """As kubectl: the files of $KUBECONFIG merged (the first to name an entry wins), or ~/.kube/config."""
    paths = [path for path in default_paths(environ, home) if path.exists()]
    if not paths:
        shown = ", ".join(str(path) for path in default_paths(environ, home))
        raise UserError(f"no kubeconfig at {shown}", hint="set KUBECONFIG or give --kubeconfig")
    merged: dict[str, Any] = {}
    for path in paths:
        config = load(path)
        document = config._document
        for kind, names in (
            ("clusters", ("certificate-authority",)),
            ("users", ("client-certificate", "client-key", "tokenFile")),
        ):
            for item in document.get(kind) or []:
                entry = item.get(kind[:-1])
                for name in names:
                    if isinstance(entry, dict) and entry.get(name):
                        entry[name] = str(config._path(str(entry[name])))
        for kind in _LISTS:
            held = merged.setdefault(kind, [])
            names_held = {item["name"] for item in held}
            held += [item for item in document.get(kind) or [] if item["name"] not in names_held]
        if document.get("current-context") and not merged.get("current-context"):
            merged["current-context"] = document["current-context"]
    return Kubeconfig(merged, os.pathsep.join(str(path) for path in paths), paths[0].absolute().parent)


def entry(name: str, access: Access) -> dict[str, Any]:
    """A whole kubeconfig with one cluster, user and context of that name."""
    cluster: dict[str, Any] = {"server": access.server}
    if access.ca_pem:
        cluster["certificate-authority-data"] = base64.b64encode(access.ca_pem).decode()
    if access.insecure:
        cluster["insecure-skip-tls-verify"] = True
    if access.tls_server_name:
        cluster["tls-server-name"] = access.tls_server_name
    user: dict[str, Any] = {}
    if access.token:
        user["token"] = access.token
    if access.certificate_pem and access.key_pem:
        user["client-certificate-data"] = base64.b64encode(access.certificate_pem).decode()
        user["client-key-data"] = base64.b64encode(access.key_pem).decode()
    context: dict[str, Any] = {"cluster": name, "user": name}
    if access.namespace != "default":
        context["namespace"] = access.namespace
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": cluster}],
        "users": [{"name": name, "user": user}],
        "contexts": [{"name": name, "context": context}],
        "current-context": name,
    }


def write(path: Path, document: dict[str, Any]) -> None:
    """Write a kubeconfig whole: atomically, readable by its owner only. Raises UserError."""
    import yaml

    write_text(path, yaml.safe_dump(document, sort_keys=False))


def write_own(path: Path, document: dict[str, Any]) -> None:
    """The same for what `entry` made: JSON strings in block style, which need no YAML library. Raises UserError."""
    write_text(path, "".join(_lines(document, "")))


def _lines(value: dict[str, Any], indent: str) -> Iterator[str]:
    for key, item in value.items():
        if isinstance(item, list):
            yield f"{indent}{key}:\n"
            for each in item:
                first, *rest = _lines(each, indent + "  ")
                yield f"{indent}- {first.lstrip()}"
                yield from rest
        elif isinstance(item, dict):
            yield f"{indent}{key}:\n"
            yield from _lines(item, indent + "  ")
        else:
            yield f"{indent}{key}: {json.dumps(item)}\n"


def write_text(path: Path, text: str) -> None:
    """Write the text of a kubeconfig whole: atomically, readable by its owner only. Raises UserError.

    What is no regular file (/dev/null, /dev/stdout, a pipe) is written to, never replaced.
    """
    path = path.expanduser()
    if path.is_symlink():
        path = path.resolve()
    try:
        if path.exists() and not path.is_file():
            path.write_text(text)
            return
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # 0600
        try:
            with os.fdopen(descriptor, "w") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise UserError(f"kubeconfig {path} can't be written: {error.strerror}") from None


def merge(path: Path, documents: Sequence[dict[str, Any]], *, current_context: str | None = None) -> None:
    """Put the entries of `documents` into the file, in place of those of the same names; the rest stays.

    `current_context` is set if given, or if the file has none. Raises UserError, with the file untouched.
    """
    with _Lock(path):
        held = _read_document(path)
        for document in documents:
            for kind in _LISTS:
                fresh = {item["name"]: item for item in document.get(kind) or []}
                held[kind] = [item for item in held.get(kind) or [] if item["name"] not in fresh]
                held[kind] += fresh.values()
        if current_context:
            held["current-context"] = current_context
        elif not held.get("current-context") and documents:
            held["current-context"] = documents[0].get("current-context", "")
        write(path, held)


def remove(path: Path, names: Sequence[str]) -> None:
    """Take the clusters, users and contexts of these names out of the file, if it is there. Raises UserError."""
    if not path.expanduser().exists():
        return
    with _Lock(path):
        held = _read_document(path)
        for kind in _LISTS:
            held[kind] = [item for item in held.get(kind) or [] if item["name"] not in names]
        if held.get("current-context") in names:
            held["current-context"] = ""
        write(path, held)


def _read_document(path: Path) -> dict[str, Any]:
    path = path.expanduser()
    if not path.exists() or not path.read_bytes().strip():
        return {"apiVersion": "v1", "kind": "Config", "clusters": [], "users": [], "contexts": []}
    return load(path)._document


class _Lock:
    """kubectl's own lock beside the file, so that neither loses the other's change."""

    def __init__(self, path: Path) -> None:
        path = path.expanduser()
        self._path = path.with_name(path.name + ".lock")

    def __enter__(self) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            os.close(os.open(self._path, os.O_CREAT | os.O_EXCL, 0o600))
        except FileExistsError:
            raise UserError(
                f"{self._path} exists: another program is changing the kubeconfig",
                hint="try again; if none is, remove that file",
            ) from None
        except OSError as error:
            raise UserError(f"{self._path}: {error.strerror}") from None

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._path.unlink()
