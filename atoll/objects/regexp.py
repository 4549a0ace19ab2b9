"""Go's regular expressions (RE2): what CRDs, CEL and templates have. Linear in the text, whatever the pattern."""

from __future__ import annotations

import functools
from typing import Any


@functools.lru_cache(1024)
def compile_pattern(pattern: str) -> Any:
    """A pattern with Python's methods, `search` and `finditer`. Raises ValueError, with RE2's words."""
    import re2  # takes 8 ms, and few ask for it

    quiet = re2.Options()
    quiet.log_errors = False
    try:
        return re2.compile(pattern, quiet)
    except re2.error as error:
        text = error.args[0]
        raise ValueError(text.decode(errors="replace") if isinstance(text, bytes) else str(text)) from None
