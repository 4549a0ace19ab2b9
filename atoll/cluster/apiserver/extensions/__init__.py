"""CustomResourceDefinitions and CEL."""
