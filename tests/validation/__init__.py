"""Tests of ``embedsweep.validation``."""
