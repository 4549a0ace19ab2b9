"""The scheduler's loop: pods without a node get one, or an event and a condition that say why not."""
