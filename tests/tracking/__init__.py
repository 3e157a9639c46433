"""Tests of ``embedsweep.tracking``."""
