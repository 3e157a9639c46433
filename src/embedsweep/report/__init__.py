"""Reports of a study: its ranking and summary."""
