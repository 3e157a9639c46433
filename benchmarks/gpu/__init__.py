"""The same trials on one GPU by sentence-transformers' own search and by embedsweep: trials a minute, side by side.

    python -m benchmarks.gpu --seconds 450 --out OUT --model FOLDER --data FOLDER
    python -m benchmarks.gpu --device cpu --trials 2 --max-steps 4 --ways A,B2,B2+p --out OUT --model ... --data ...

A way is ``A``, ``SentenceTransformerTrainer.hyperparameter_search``, or ``B8``, ``embedsweep train -m`` with eight
workers on the device; ``+m`` adds CUDA MPS, ``+g`` CUDA graphs, ``+p`` pruning. ``task`` defines the trials, ``ways``
the commands, ``trainer_search`` is A's; ``trials`` reads the studies' storage, ``results`` and ``table`` evaluate it.
"""
