"""Tests of ``embedsweep.benchmarks``."""
