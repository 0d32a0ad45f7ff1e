"""Tests of the benchmarks' machinery: a benchmark that miscounts is worse than none."""
