"""Tests of ``embedsweep.emissions``."""
