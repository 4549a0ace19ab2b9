"""Where pods go: filters, scores, preemption and why not, decided on a snapshot. Pure: no clock, no I/O."""
