"""Tests of ``embedsweep.config``."""
