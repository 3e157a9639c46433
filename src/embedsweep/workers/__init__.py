"""Workers: who runs trials, and in which order results are recorded."""
