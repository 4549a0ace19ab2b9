"""Deployments: replica sets by revision, rolled from one to the next."""
