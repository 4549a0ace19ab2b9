"""GPUs of nodes as arrays: what fits, how fragmented they are, and policies that choose node and device."""
