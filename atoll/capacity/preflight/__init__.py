"""Tests of nodes: before any work lands on a new or mended one, and from time to time afterwards."""
