"""Tests of ``embedsweep.workers``."""
