"""Staying up: who is lost, what moves, what may be destroyed."""
