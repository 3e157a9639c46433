"""Losses: a table of them, their builders, and the datasets they are trained on."""
