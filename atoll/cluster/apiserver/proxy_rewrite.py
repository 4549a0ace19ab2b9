"""What the proxies change in an answer, so that a browser stays within them: pure.

A redirect to the proxied host, and links of an HTML page that begin with a slash, lead through the proxy's own path
(apimachinery's pkg/util/proxy). Anything else passes as it is.
"""

from __future__ import annotations

import posixpath
import re
from html import escape
from urllib.parse import urlsplit, urlunsplit

_ATTRIBUTES = {
    "a": ("href",), "applet": ("codebase",), "area": ("href",), "audio": ("src",), "base": ("href",),
    "blockquote": ("cite",), "body": ("background",), "button": ("formaction",), "command": ("icon",),
    "del": ("cite",), "embed": ("src",), "form": ("action",), "frame": ("longdesc", "src"), "head": ("profile",),
    "html": ("manifest",), "iframe": ("longdesc", "src"), "img": ("longdesc", "src", "usemap"),
    "input": ("src", "usemap", "formaction"), "ins": ("cite",), "link": ("href",),
    "object": ("classid", "codebase", "data", "usemap"), "q": ("cite",), "script": ("src",), "source": ("src",),
    "video": ("poster", "src"),
}  # fmt: skip
_VALUE = r"(?:\"[^\"]*\"|'[^']*'|[^\s>]+)"
_TAG = re.compile(rf"<(?P<name>[a-zA-Z][a-zA-Z0-9]*)(?P<rest>(?:\s+[^\s=>/]+(?:\s*=\s*{_VALUE})?)+)")
_ATTRIBUTE = re.compile(rf"(?P<key>[^\s=>/]+)(?P<sign>\s*=\s*)(?P<value>{_VALUE})")


def rewritten_url(url: str, prefix: str, target: str, asked: str) -> str:
    """`prefix`: the proxy's path. `target`: the proxied host and port. `asked`: the host that the client named."""
    try:
        found = urlsplit(url)
    except ValueError:
        return url
    if found.netloc not in ("", target, asked) or not found.path.startswith("/"):
        return url
    scheme, host = (found.scheme, found.netloc) if found.netloc and found.netloc == asked else ("", "")
    path = found.path
    if not path.startswith(prefix):
        path = posixpath.normpath(f"{prefix}/{path}") + ("/" if path.endswith("/") else "")
    return urlunsplit((scheme, host, path, found.query, found.fragment))


def rewritten_page(text: str, prefix: str, target: str, asked: str) -> str:
    """The HTML with its links led through the proxy."""

    def attribute(name: str, match: re.Match[str]) -> str:
        if match["key"].lower() not in _ATTRIBUTES[name]:
            return match[0]
        value = match["value"].strip("\"'")
        return f'{match["key"]}{match["sign"]}"{escape(rewritten_url(value, prefix, target, asked))}"'

    def tag(match: re.Match[str]) -> str:
        name = match["name"].lower()
        if name not in _ATTRIBUTES:
            return match[0]
        return f"<{match['name']}" + _ATTRIBUTE.sub(lambda found: attribute(name, found), match["rest"])

    return _TAG.sub(tag, text)
