"""Many workers on one PostgreSQL and one MLflow server, with a training that sleeps: what they wait for their books.

``python -m benchmarks.scale --workers 8 --trials 100 --history 1000`` is a quick run; ``make bench-scale`` the whole.
"""
