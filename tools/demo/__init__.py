"""The generator of the demo data, which the package ships as ``data/demo.parquet``."""
