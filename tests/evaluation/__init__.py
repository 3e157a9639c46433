"""Tests of ``embedsweep.evaluation``."""
