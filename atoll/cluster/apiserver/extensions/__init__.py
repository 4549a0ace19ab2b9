"""CustomResourceDefinitions: structural schemas, CEL rules, and serving what they define, at once."""

from atoll.cluster.apiserver.extensions.establish import install

__all__ = ["install"]
