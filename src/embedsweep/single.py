"""A single run: one trial without a study, which starts anew every time.

Owns its folder, ``sweeps/single/<run id>``, and how it ends.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rich.console import Console

from embedsweep.checkpoints import Checkpoints
from embedsweep.config import config_hash
from embedsweep.display import open_display
from embedsweep.errors import Interrupted
from embedsweep.gate import SINGLE, SingleRun
from embedsweep.report import print_single, print_ui
from embedsweep.schema import Decision
from embedsweep.secrets import redact
from embedsweep.signals import Interrupts
from embedsweep.study import SWEEPS
from embedsweep.tracking import Tracker
from embedsweep.trial import CHECKPOINTS, run_trial


def run_single(asked: SingleRun, console: Console, interrupts: Interrupts, program: str) -> int:
    """Runs one configuration, records it in the experiment ``single`` and prints what came of it.

    Returns:
        0, or 1 where the run failed; the reason is printed and recorded.

    Raises:
        Interrupted: a signal came; the run is marked KILLED.
        TrackingError: the run cannot be recorded.
    """
    config = asked.config
    tracker = Tracker(asked.tracking)
    with interrupts.shielded():
        run = tracker.trial_run(
            SINGLE, 0, config, config_hash(config), run_name=f"{config.loss.name} {config.model.name}"
        )
    folder: Path = SWEEPS / SINGLE / run.run_id
    label = run.run_id[:8]
    with open_display(console, config.objective) as display:

        def report(_: int, metrics: Mapping[str, float]) -> Decision:
            display.score(label, metrics[config.objective])
            return Decision.GO_ON

        def progress(step: int, total: int) -> None:
            display.progress(label, step, total)

        display.begin(label, {"loss": config.loss.name, "model": config.model.name, "data": config.data.name}, "")
        try:
            result = run_trial(config, folder, run, report, progress, asked.emissions, single=True)
        except Interrupted:
            with interrupts.shielded():
                run.finish("RUNNING")
                Checkpoints(folder / CHECKPOINTS).clear()
                display.end(label, "RUNNING", None, "interrupted; a single run starts anew, a study (-m) goes on")
            raise
        except Exception as error:
            reason = redact(f"{type(error).__name__}: {error}")
            display.end(label, "FAIL", None, reason)
            run.set_tags({"embedsweep.failure": reason})
            run.finish("FAIL")
            Checkpoints(folder / CHECKPOINTS).clear()
            console.print(f"log: {folder / 'train.log'}", highlight=False, markup=False)
            return 1
        with interrupts.shielded():
            run.finish("COMPLETE")
            Checkpoints(folder / CHECKPOINTS).clear()
            display.end(label, "COMPLETE", result.objective, "")
    print_single(console, result, folder)
    print_ui(console, tracker.ui_hint(), program)
    return 0
