"""The display of a terminal: finished trials scroll away above the running ones and a line about the study."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from embedsweep.config.study import Choice
from embedsweep.console import FINISHED, OutputStyle, duration, short_params
from embedsweep.errors import printable
from embedsweep.report.lines import JsonLines, PlainLines, QuietLines, end_line
from embedsweep.report.running import RunningTrial, RunningTrials

NO_TRIAL_ROWS = 2
"""Lines of a screen that stay free for the cursor and for what was printed last."""


class LiveScreen(PlainLines):
    """Running trials and the study's status at the bottom of a terminal, redrawn in place; all else scrolls away.

    Args:
        console: the terminal.
        trials: what is known of the trials.
        unit: what they are called: ``trial``, or ``run`` of one by itself.
    """

    def shown(self) -> Live:
        """Return the block in which the screen is shown; a new one each time, as an old one erases what it once was."""
        return Live(
            console=self._console,
            get_renderable=self.screen,
            refresh_per_second=2,
            redirect_stdout=False,
            transient=True,  # what it shows is over when it ends
        )

    def say(self, text: str) -> None:
        """Print a line above the running trials."""
        self._console.print(printable(text), highlight=False, markup=False)

    def begin(self, label: str, params: Mapping[str, Choice], note: str, worker: int) -> None:
        """Show a trial that starts."""
        self.trials.begin(label, RunningTrial(worker, params, note))

    def score(self, label: str, objective: float) -> None:
        """Show the latest objective."""
        self.trials.by_label[label].score = objective

    def end(self, label: str, state: str, objective: float | None, note: str) -> None:
        """Print a trial's result as a line."""
        trial, seconds = self.trials.end(label, is_finished=state in FINISHED)
        self.say(f"{self._unit} {end_line(label, state, trial, seconds, objective, note)}")

    def screen(self) -> Group:
        """Return what is shown now; it is never higher than the terminal."""
        width, height = self._console.size
        below = [Text(text) for text in (self._waiting(), self.trials.line()) if text]
        taken = sum(len(text.wrap(self._console, width)) for text in below)
        trials = list(self.trials.by_label.items())
        n_rows = max(1, height - NO_TRIAL_ROWS - taken - 1)
        if len(trials) > n_rows:
            n_rows = max(1, n_rows - 1)
            below.insert(0, Text(f"and {len(trials) - n_rows} more run"))
        return Group(*([self._table(trials[:n_rows])] if trials else []), *below)

    def _table(self, trials: list[tuple[str, RunningTrial]]) -> Table:
        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, expand=True, header_style="bold")
        columns = [self._unit, *(["worker"] if self.trials.workers > 1 else []), "done", "dev score", "left"]
        for name in columns:
            table.add_column(name, no_wrap=True)
        table.add_column("values", no_wrap=True, overflow="ellipsis", ratio=1)
        for label, trial in trials:
            left = self.trials.estimate.trial_left(label)
            cells = [
                label,
                *([str(trial.worker)] if self.trials.workers > 1 else []),
                trial.share,
                "" if trial.score is None else f"{trial.score:.4f}",
                "" if left is None else duration(left),
                " ".join(filter(None, (trial.note, short_params(trial.params)))),
            ]
            table.add_row(*(Text(printable(cell)) for cell in cells))
        return table

    def _waiting(self) -> str:
        """Return what is waited for while a worker has not begun, or after the last trial; mostly nothing."""
        running = self.trials
        waiting = [number for number in range(running.workers) if number not in running.begun_by]
        status = running.status
        if status is None or (running.by_label and not waiting):
            return ""
        if status.n_finished >= status.n_expected:
            return "" if running.by_label else f"all {status.unit}s are finished: {status.then}"
        if not waiting:
            return ""
        workers = f"worker{'s' if len(waiting) > 1 else ''} {', '.join(map(str, waiting))}"
        return f"{workers} {'start' if len(waiting) > 1 else 'starts'}: importing libraries takes some seconds"


TrialDisplay = PlainLines | JsonLines


def make_display(console: Console, style: OutputStyle, trials: RunningTrials, unit: str = "trial") -> TrialDisplay:
    """Return the display of a command: on a terminal a screen, elsewhere lines, unless another style is chosen."""
    if style == "json":
        return JsonLines(console, trials, unit)
    if style == "quiet":
        return QuietLines(console, trials, unit)
    return (LiveScreen if console.is_terminal else PlainLines)(console, trials, unit)


def shown(display: TrialDisplay) -> AbstractContextManager[object]:
    """Return a block in which the running trials are on the screen, if the display has one."""
    return display.shown() if isinstance(display, LiveScreen) else nullcontext()
