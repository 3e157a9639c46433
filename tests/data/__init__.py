"""Tests of ``embedsweep.data``."""
