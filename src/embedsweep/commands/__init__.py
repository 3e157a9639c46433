"""The verbs of the command line, one per file, and what they share.

A verb's ``run(words, console) -> int`` raises a ConfigError before anything was done, and returns 1 where a part fails.
"""
