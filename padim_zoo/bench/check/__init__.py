"""Runs and benchmarks held to a baseline: what got worse by more than noise."""
