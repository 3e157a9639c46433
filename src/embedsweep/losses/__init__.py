"""Losses: a table of them, their builders and the datasets they train on. A loss is a row in ``table`` and a YAML file."""
