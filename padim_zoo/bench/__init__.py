"""The benchmark: suite, plan, runs, run store, leaderboard, and the check against a baseline."""
