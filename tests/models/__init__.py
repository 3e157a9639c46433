"""Tests of ``embedsweep.models``."""
