"""The verbs of the command line beside ``train`` and ``ui``, a file each.

Owns their arguments, help and output. A verb is ``run(words, console) -> int``: it raises a ConfigError before anything
was done, and returns 1 where some of it could not be.
"""
