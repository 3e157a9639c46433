"""Families of evaluations: the keys of each, the metrics that they give, and which way of a metric is better.

A metric is named after the library's: ``ndcg_at_10_cosine`` is its ``cosine_ndcg@10``, as MLflow takes no ``@``.
Before it stands what was scored: ``dev/ndcg_at_10_cosine``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, get_args

from embedsweep.config.types import Count, Described, HasVariants, NotEmpty, WholeNumber, fields_of

Family = Literal["sts", "retrieval", "triplets", "pairs", "reranking"]
FAMILIES: tuple[Family, ...] = get_args(Family)

Similarity = Literal["cosine", "euclidean", "manhattan", "dot"]
SIMILARITIES: tuple[Similarity, ...] = get_args(Similarity)

Ranks = Annotated[tuple[Count, ...], NotEmpty(), Described("a list of ranks from 1, as [1,10]")]
Similarities = Annotated[tuple[Similarity, ...], NotEmpty()]
SearchSimilarities = Annotated[tuple[Literal["cosine", "dot"], ...], NotEmpty()]

Direction = Literal["maximize", "minimize"]

COSTS: Mapping[str, Direction] = {
    "emissions/co2eq_kg": "minimize",
    "emissions/energy_kwh": "minimize",
    "emissions/duration_s": "minimize",
    "throughput/examples_per_s": "maximize",
}
"""What ``study.objective`` may be beside dev metrics, and which way is better."""


def is_dev_metric(name: str) -> bool:
    """Return whether a metric is a score on dev (``dev/spearman_cosine``), and no cost."""
    return name.startswith("dev/")


def direction_of(name: str) -> Direction:
    """Return which way of a metric is better; of all scores that can be optimised the larger ones are."""
    return COSTS.get(name, "maximize")


@dataclass(frozen=True)
class Scoring(HasVariants):
    """How models are scored: a family of evaluations with the keys that decide its metrics.

    Attributes:
        name: the option's name, which is the family's.
    """

    family: ClassVar[Family]

    name: str

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of all metrics that can be optimised."""
        raise NotImplementedError

    @property
    def main_metric(self) -> str:
        """The one that is optimised where the command names none."""
        raise NotImplementedError

    @property
    def headlines(self) -> tuple[str, ...]:
        """Those that a summary shows."""
        raise NotImplementedError

    @classmethod
    def variant(cls, name: object) -> type[Scoring]:
        """Return the class of a family; any other name is an option that scores pairs, as all once did."""
        return next((kind for kind in SCORINGS if kind.family == name), StsScoring)


@dataclass(frozen=True)
class StsScoring(Scoring):
    """Correlations of gold scores with the similarities of pairs."""

    family = "sts"

    @property
    def metrics(self) -> tuple[str, ...]:
        """Pearson's and Spearman's correlation by each similarity, and the largest of them."""
        return tuple(_by(("pearson", "spearman"), (*SIMILARITIES, "max")))

    @property
    def main_metric(self) -> str:
        """Spearman's correlation by cosine."""
        return "spearman_cosine"

    @property
    def headlines(self) -> tuple[str, ...]:
        """Both correlations by cosine, and the largest of Spearman's."""
        return ("pearson_cosine", "spearman_cosine", "spearman_max")


@dataclass(frozen=True)
class RetrievalScoring(Scoring):
    """How well queries find their relevant documents among all.

    Attributes:
        accuracy_at_k: numbers of first documents of which one must be relevant.
        precision_recall_at_k: numbers of first documents whose precision and recall are computed.
        mrr_at_k: numbers of first documents within which the first relevant one counts by its reciprocal rank.
        ndcg_at_k: numbers of first documents whose normalised discounted cumulative gain is computed.
        map_at_k: numbers of first documents whose average precision is computed.
        similarities: what documents are ranked by; each gives all metrics.
        corpus_chunk_size: documents that are encoded and compared at once.
        corpus_size: documents of dev and test that are searched: those that are judged, and a random sample of the
            others; None searches all.
        corpus_seed: of that sample.
    """

    family = "retrieval"

    accuracy_at_k: Ranks
    precision_recall_at_k: Ranks
    mrr_at_k: Ranks
    ndcg_at_k: Ranks
    map_at_k: Ranks
    similarities: SearchSimilarities
    corpus_chunk_size: Count
    corpus_size: Count | None
    corpus_seed: WholeNumber

    @property
    def metrics(self) -> tuple[str, ...]:
        """Each metric at each of its ranks, by each similarity."""
        ranks = {
            "accuracy": self.accuracy_at_k,
            "precision": self.precision_recall_at_k,
            "recall": self.precision_recall_at_k,
            "mrr": self.mrr_at_k,
            "ndcg": self.ndcg_at_k,
            "map": self.map_at_k,
        }
        return tuple(_by((f"{name}_at_{k}" for name, of_name in ranks.items() for k in of_name), self.similarities))

    @property
    def main_metric(self) -> str:
        """The normalised discounted cumulative gain at its largest rank, by the first similarity."""
        return f"ndcg_at_{max(self.ndcg_at_k)}_{self.similarities[0]}"

    @property
    def headlines(self) -> tuple[str, ...]:
        """By the first similarity: accuracy at its smallest rank, the others at their largest."""
        ranks = {
            "mrr": max(self.mrr_at_k),
            "recall": max(self.precision_recall_at_k),
            "accuracy": min(self.accuracy_at_k),
        }
        others = (f"{name}_at_{k}_{self.similarities[0]}" for name, k in ranks.items())
        return (self.main_metric, *others)


@dataclass(frozen=True)
class TripletScoring(Scoring):
    """How many triplets have a positive more similar to the anchor than the negative.

    Attributes:
        similarities: what is compared; each gives an accuracy.
    """

    family = "triplets"

    similarities: Similarities

    @property
    def metrics(self) -> tuple[str, ...]:
        """The accuracy by each similarity, and the largest of several."""
        return tuple(_by(("accuracy",), _with_max(self.similarities)))

    @property
    def main_metric(self) -> str:
        """The accuracy by the first similarity."""
        return f"accuracy_{self.similarities[0]}"

    @property
    def headlines(self) -> tuple[str, ...]:
        """The accuracy by each similarity."""
        return tuple(_by(("accuracy",), self.similarities))


@dataclass(frozen=True)
class BinaryScoring(Scoring):
    """How well a threshold on similarity separates pairs that mean the same from others.

    Attributes:
        similarities: what has the threshold; each gives all metrics.
    """

    family = "pairs"

    similarities: Similarities

    @property
    def metrics(self) -> tuple[str, ...]:
        """Each metric by each similarity, and the largest of several; thresholds themselves are not optimised."""
        names = ("accuracy", "f1", "precision", "recall", "ap", "mcc")
        return tuple(_by(names, _with_max(self.similarities)))

    @property
    def main_metric(self) -> str:
        """Average precision by the first similarity."""
        return f"ap_{self.similarities[0]}"

    @property
    def headlines(self) -> tuple[str, ...]:
        """Average precision, F1 and accuracy by the first similarity."""
        return tuple(_by(("ap", "f1", "accuracy"), self.similarities[:1]))


@dataclass(frozen=True)
class RerankingScoring(Scoring):
    """How well each query's judged documents are ranked by cosine.

    Attributes:
        at_k: number of first documents that count for the reciprocal rank and the discounted cumulative gain.
    """

    family = "reranking"

    at_k: Count

    @property
    def metrics(self) -> tuple[str, ...]:
        """Mean average precision, reciprocal rank and normalised discounted cumulative gain."""
        return ("map", f"mrr_at_{self.at_k}", f"ndcg_at_{self.at_k}")

    @property
    def main_metric(self) -> str:
        """The normalised discounted cumulative gain."""
        return f"ndcg_at_{self.at_k}"

    @property
    def headlines(self) -> tuple[str, ...]:
        """All of them."""
        return self.metrics


SCORINGS: tuple[type[Scoring], ...] = (
    StsScoring,
    RetrievalScoring,
    TripletScoring,
    BinaryScoring,
    RerankingScoring,
)
"""The table of families."""


def scoring_keys(family: Family) -> tuple[str, ...]:
    """Return the keys that decide the metrics of a family, beside its name."""
    kind: type = Scoring.variant(family)
    return tuple(key for key, _ in fields_of(kind).values() if key != "name")


def _by(names: Iterable[str], similarities: Iterable[str]) -> Iterable[str]:
    similarities = tuple(similarities)
    return (f"{name}_{similarity}" for name in names for similarity in similarities)


def _with_max(similarities: tuple[str, ...]) -> tuple[str, ...]:
    return (*similarities, "max") if len(similarities) > 1 else similarities


def dev_metrics(scoring: Scoring) -> tuple[str, ...]:
    """Return the metrics that a trial may be chosen by."""
    return tuple(f"dev/{name}" for name in scoring.metrics)
