"""Tests of MLflow's UI in a real Chromium, over the store of a real sweep."""
