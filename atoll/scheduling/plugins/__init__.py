"""What may go where, and how good each place is: one file each. The port is `port.py`; see docs/scheduling.md."""
