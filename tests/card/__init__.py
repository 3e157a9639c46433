"""Tests of ``embedsweep.card``."""
