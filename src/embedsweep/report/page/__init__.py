"""A study's report: one HTML file with words, tables and charts that needs nothing else, offline and in print."""
