"""``embedsweep repair STUDY``: compare a study's storage, folder and MLflow runs, and rebuild each from the others."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from embedsweep.commands.arguments import Option, Verb, parse
from embedsweep.commands.show import STUDY
from embedsweep.config.values import nearest
from embedsweep.files import SWEEPS, study_names
from embedsweep.validation.sweep import pass_sweep


def run(words: Sequence[str], console: Console) -> int:
    """Print how a study's records differ, and with ``--write`` rebuild what can be rebuilt.

    Returns:
        0 if the records agree now, 1 if something is left.

    Raises:
        ConfigError: all that is wrong with the arguments.
        StudyError: the records contradict each other, or the study's plan is lost.
        TrackingError: MLflow's store cannot be opened.
    """
    arguments = parse(VERB, words)
    name = "".join(arguments.positionals[0])
    if name and not (SWEEPS / name).is_dir():
        known = study_names()
        there = ", ".join(known) or f"none in {SWEEPS.resolve()}"
        arguments.add_problem("STUDY", f"no study {name}{nearest(name, known)}; there are: {there}")
    request = arguments.collect(pass_sweep, [f"study.name={name}", *arguments.overrides]) if name else None
    arguments.check()
    assert request is not None, "what is missing was noted as a problem"
    from embedsweep.commands.study_repair import repair_study

    return repair_study(request, console, is_written=arguments.values.write)


VERB = Verb(
    name="repair",
    summary="compare a study's records, and rebuild what is lost",
    run=run,
    description=(
        "Compare the records of a study: its storage, its folder in sweeps/ and its runs in MLflow. Say what differs,\n"
        "and with --write rebuild it: a lost or damaged journal, or a study in a database, from study.yaml and the\n"
        "trials' folders; study.yaml and lost results from the storage; lost runs, and scores (best/...) that runs of\n"
        "older versions lack, from both. Records that wait for MLflow are written, and those it refuses are set aside\n"
        "in the study's spool. A damaged journal stays as journal.log.damaged. Exit code 1: something is left."
    ),
    positionals=(STUDY,),
    options=(Option("--write", "", "rebuild what differs; without it nothing is changed"),),
    overrides="study.storage=URL, if the URL has a password, and tracking.uri=URI, as of train",
)
