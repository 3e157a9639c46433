"""Commands that make files which are checked in."""
