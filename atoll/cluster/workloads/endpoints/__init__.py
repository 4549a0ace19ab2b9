"""Endpoints and EndpointSlices of Services that select pods."""
