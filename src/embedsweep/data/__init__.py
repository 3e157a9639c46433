"""Training examples and scored pairs: reading, checks, conversions and audit."""
