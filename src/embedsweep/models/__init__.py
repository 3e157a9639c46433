"""Base models: building, changing, loading and tokenising them."""
