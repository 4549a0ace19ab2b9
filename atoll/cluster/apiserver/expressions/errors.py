"""What goes wrong with an expression: when it is compiled, when it runs, when it costs too much."""

from __future__ import annotations


class ExpressionError(Exception):
    """The root; the text is cel-go's where it is known."""


class CompileError(ExpressionError):
    """Does not parse, does not type-check, or gives another type than it must.

    `internal`: it does, but no program can be made of it, which upstream takes for a fault of the server's.
    """

    def __init__(self, message: str, *, internal: bool = False) -> None:
        super().__init__(message)
        self.internal = internal


class EvaluationError(ExpressionError):
    """Went wrong on these values (`no such key: x`). Absorbed by `||` and `&&` as CEL has it."""


class CostExceeded(ExpressionError):
    """Stopped: the limit of cost is used up. Never absorbed."""

    def __init__(self) -> None:
        super().__init__("operation cancelled: actual cost limit exceeded")
