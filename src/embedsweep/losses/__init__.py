"""Losses: what each wants of its data, which parameters it takes, how it is built and what it is trained on.

Owns the table of losses, which needs no torch: a row in ``table`` and a YAML file in ``conf/loss`` is a loss. Knows
nothing of where data comes from or how training runs. Weights of a loss's own are in ``losses.state``.
"""
