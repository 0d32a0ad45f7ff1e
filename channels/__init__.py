"""The vocabulary: events, channel declarations, positions, identity, wire structs, errors."""
