"""The garbage collector: what no longer has an owner goes; owners wait for their dependents where asked to."""
