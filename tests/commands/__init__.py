"""Tests of ``embedsweep.commands``."""
