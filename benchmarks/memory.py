"""Growth of a process's memory over 100 trials, after five that include one-time loading."""

from __future__ import annotations

import psutil

from benchmarks.figures import Figure, print_figures
from benchmarks.studies import open_worker

if __name__ == "__main__":
    worker, sizes = open_worker(100), []
    while (trial := worker.study.ask()) is not None:
        worker._attempt(trial)
        worker._leftovers.delete()
        sizes.append(psutil.Process().memory_info().rss)
    growth = 100 * (max(sizes[-5:]) / max(sizes[:5]) - 1)
    print_figures(Figure(f"memory over {len(sizes)} trials ({sizes[-1] / 2**20:.0f} MiB), growth", growth, 5.0, "%"))
