"""Rate limits: how often something may be done."""
