"""Alibaba's OpenB trace: placement policies for GPU sharing, held against the results that others published."""
