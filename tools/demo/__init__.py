"""What writes the demo data, which the package ships as parquet files in ``data``."""
