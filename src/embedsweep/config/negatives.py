"""The configuration of hard negatives: how many are mined for each question, and what becomes of those with too few."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from embedsweep.config.types import Bounds, Count, Described, NotNegative, Ratio, Seed, WholeNumber

Sampling = Literal["top", "random"]
Missing = Literal["repeat", "drop"]

STRICTER: Mapping[str, Callable[[list[float]], float]] = {
    "count": max,
    "range_min": max,
    "range_max": min,
    "margin": max,
    "relative_margin": max,
    "max_score": min,
}
"""Keys that decide how many negatives are found, with the function that chooses the value with which fewest are."""

NONE: Mapping[str, object] = {
    "count": 0,
    "range_min": 0,
    "range_max": None,
    "margin": None,
    "relative_margin": None,
    "max_score": None,
    "sampling": "top",
    "miner": None,
    "use_faiss": False,
    "missing": "repeat",
    "strictest": {},
    "seed": 42,
}
"""What the configurations of trials begun before there were negatives are taken to have."""


@dataclass(frozen=True)
class NegativesConfig:
    """Hard negatives of positive pairs, found by ``sentence_transformers.util.mine_hard_negatives``.

    Attributes:
        count: how many negatives each pair gets; 0 mines none.
        range_min: of the documents nearest to a question that may be negatives, how many are skipped.
        range_max: the last rank that is considered; None is the library's: a few more than are needed.
        margin: how far a negative's cosine similarity must be below that of the question's least similar positive.
        relative_margin: the same, as a fraction of the positive's similarity.
        max_score: the highest cosine similarity to the question that a negative may have.
        sampling: ``top`` takes the nearest of those left, ``random`` draws among them.
        miner: the model that finds them, a hub id or a folder, with its own prompts; None is the base model.
        use_faiss: whether faiss searches, which needs the package.
        missing: what becomes of a question with too few: ``repeat`` repeats what was found, ``drop`` leaves it out.
        strictest: keys of this section that replace its own where questions are left out; empty replaces none. A study
            sets the strictest values of what it searches, so that all its trials are trained on the same questions.
        seed: of what is drawn at random.
    """

    count: WholeNumber
    range_min: WholeNumber
    range_max: Count | None
    margin: NotNegative | None
    relative_margin: Ratio | None
    max_score: Annotated[float, Bounds(at_least=-1, at_most=1)] | None
    sampling: Sampling
    miner: str | None
    use_faiss: bool
    missing: Missing
    strictest: Annotated[Mapping[str, float], Described("a mapping of keys of this section, as {count:3,margin:0.1}")]
    seed: Seed

    @property
    def decide_examples(self) -> bool:
        """Whether negatives are mined, to train on them or to know which questions are left out."""
        return self.count > 0 or self.dropping is not None

    @property
    def dropping(self) -> NegativesConfig | None:
        """The settings by which questions are left out; None if none are."""
        if self.missing != "drop":
            return None
        wholes = ("count", "range_min", "range_max")
        values: dict[str, Any] = {
            key: int(value) if key in wholes else value for key, value in self.strictest.items() if key in STRICTER
        }
        dropping = replace(self, **values)
        return dropping if dropping.count else None


def without_unused(tree: Mapping[str, Any]) -> Mapping[str, object]:
    """Return a section of a trial, as plain containers, with the defaults of what changes nothing about its examples.

    Without negatives that is everything; but where questions are dropped, by what ``strictest`` has, and by the rest.
    """
    if tree["count"]:
        return tree
    if tree["missing"] != "drop" or not tree["strictest"].get("count"):
        return NONE
    replaced = [key for key in STRICTER if key in tree["strictest"]]
    return {**tree, **{key: NONE[key] for key in (*replaced, "sampling")}}
