"""Balloons: pods of low priority that keep spare nodes warm, and give way to any work."""
