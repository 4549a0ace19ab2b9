"""Failover and the budgets of destruction."""
