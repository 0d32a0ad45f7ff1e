"""Budgets: what may be spent is set aside before it is spent, in one script."""
