"""Reports: what people look at after a sweep."""
