"""A real Chromium looks at a real MLflow UI over the store of a real sweep."""
