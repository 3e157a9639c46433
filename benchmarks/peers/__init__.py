"""The same search by embedsweep and by what people use instead, one after another on this machine.

    python -m benchmarks peers                     16 trials each, 15 minutes; the first time installs a peer
    python -m benchmarks.peers --trials 2 --limit 160 --only trainer,hydra

``task`` is the search's task, ``trainer_search`` and ``hydra_search`` are scripts of people who do not know embedsweep
and import nothing of it; ``hydra_search`` runs in a virtual environment of its own, since it pins old packages.
"""
