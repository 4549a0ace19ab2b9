"""Informers, work queues, reconcile loops, leases; the real and the virtual event loop."""
