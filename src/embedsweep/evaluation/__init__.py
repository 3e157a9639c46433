"""Evaluation: what a model is scored on."""
