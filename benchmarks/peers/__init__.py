"""The same search by embedsweep and by other tools, one after another on this machine.

    python -m benchmarks peers                     16 trials each, 15 minutes; the first time installs a peer
    python -m benchmarks.peers --trials 2 --limit 160 --only trainer,hydra

``task`` is the search's task. ``trainer_search`` and ``hydra_search`` are scripts that import nothing of embedsweep;
``hydra_search`` runs in its own virtual environment, because it pins old packages.
"""
