"""The answer of a study: computed once from its storage and its trials' folders, and then kept."""

from __future__ import annotations

from embedsweep.config.answer import Answer
from embedsweep.study.record import StudyRecord


def make_answer(study: StudyRecord, finals: StudyRecord | None, seeds: int) -> Answer:
    """Return what is known of a complete study and of its finals, without a soup.

    Args:
        study: the study.
        finals: its finals, complete; None without any.
        seeds: with how many seeds each finalist was trained (``study.finals.seeds``); not read without finals.
    """
    raise NotImplementedError
