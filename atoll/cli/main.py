"""Entry point of the atoll command."""

from __future__ import annotations


def main() -> None:
    raise SystemExit("not built yet")
