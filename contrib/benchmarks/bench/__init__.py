"""What the benchmarks share: one message, one way to time, one way to run in turns, one way to report."""
