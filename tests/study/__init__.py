"""Tests of ``embedsweep.study``."""
