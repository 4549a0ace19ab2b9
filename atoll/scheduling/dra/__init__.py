"""Dynamic Resource Allocation: which devices a claim gets, decided on a snapshot of slices and claims."""
