"""From template and policy to objects in members, and status back."""
