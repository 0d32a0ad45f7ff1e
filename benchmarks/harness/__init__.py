"""What the benchmarks share: servers under test, the load client, rounds, and the report."""
