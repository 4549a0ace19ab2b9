"""NVIDIA GPUs of nodes, simulated or real: what they are, what nodes advertise of them, who holds which."""
