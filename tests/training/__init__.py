"""Tests of ``embedsweep.training``."""
