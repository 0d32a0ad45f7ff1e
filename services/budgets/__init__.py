"""Budgets: what may still be spent, by a user, a workspace and an organisation."""
