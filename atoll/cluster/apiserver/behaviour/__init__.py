"""How each built-in kind behaves beyond its schema: defaults, strategies, validation, warnings, field selectors."""

from atoll.cluster.apiserver.behaviour.conversion import conversions
from atoll.cluster.apiserver.behaviour.table import behaviour_of

__all__ = ["behaviour_of", "conversions"]
