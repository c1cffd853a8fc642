"""Comparisons with peers in one run: server CPU and ratios. BENCHMARKING.md says what each case measures."""
