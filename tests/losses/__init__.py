"""Tests of ``embedsweep.losses``."""
