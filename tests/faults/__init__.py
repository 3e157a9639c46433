"""Faults, provoked in a child process, and what a study looks like afterwards."""
