"""Benchmarks: each promised limit beside its measurement. ``make bench`` prints them."""
