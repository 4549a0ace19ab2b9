"""What the workload controllers share: pods' health, ownership, expectations, revisions, batches. Mostly pure."""
