"""State on Redis, where every change of state is an event."""
