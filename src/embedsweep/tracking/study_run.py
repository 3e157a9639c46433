"""A study's own run, and its experiment: what their pages show of the whole study."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from embedsweep.tracking.names import redacted
from embedsweep.tracking.record_writer import RecordWriter
from embedsweep.tracking.records import ExperimentTags, Files, Record, Tags
from embedsweep.tracking.tables import Table, log_table


class StudyTracker:
    """A study's own (parent) run and its experiment, from ``Tracker.study_run``.

    Records are written in the background, as those of a trial's run.

    Args:
        writer: writes the records.
        study: the study's name, which is also the experiment's.
        run_id: the study's run, from ``Tracker.parent_run``.
    """

    def __init__(self, writer: RecordWriter, study: str, run_id: str) -> None:
        self._writer = writer
        self._study = study
        self._run_id = run_id

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags of the run; they replace those of the same name. Secrets in values are redacted."""
        self._write(Tags(redacted(tags)))

    def set_experiment_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags of the experiment, in the same way."""
        self._write(ExperimentTags(redacted(tags)))

    def log_artifact(self, path: Path, folder: str) -> None:
        """Copy a file into a folder of the run's artifacts."""
        self._write(Files(str(path), folder))

    def log_table(self, name: str, table: Table) -> None:
        """Store a table as the artifact ``name``, which MLflow's pages show as such."""
        log_table(self._write, name, table)

    def _write(self, record: Record) -> None:
        self._writer.write(self._study, self._run_id, record)
