"""Validation: a command becomes a frozen configuration, or a list of all that is wrong with it."""
