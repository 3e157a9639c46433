"""Tests of ``embedsweep.report``."""
