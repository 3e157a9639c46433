"""Finds the best fine-tuning recipe for a sentence-embedding model."""
