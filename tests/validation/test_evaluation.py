"""Commands that choose an evaluation: its keys, its objective, and what it can score."""

from __future__ import annotations

import pytest

from embedsweep.config.metrics import StsScoring
from embedsweep.config.trial import RetrievalConfig, StsConfig
from embedsweep.validation.single import pass_single
from tests.validation.commands import errors, passed

pytestmark = pytest.mark.usefixtures("composed_once", "a_machine_without_gpu_or_hub")

DEMO = ("loss=mnrl", "data=demo_retrieval", "evaluation=retrieval")


@pytest.mark.parametrize(
    ("words", "objective"),
    [
        ([], "dev/spearman_cosine"),
        (["study.objective=null"], "dev/spearman_cosine"),
        (["study.objective=dev/pearson_dot"], "dev/pearson_dot"),
        (DEMO, "dev/ndcg_at_10_cosine"),
        ([*DEMO, "evaluation.ndcg_at_k=[1,7]", "evaluation.similarities=[dot]"], "dev/ndcg_at_7_dot"),
        ([*DEMO, "study.objective=[emissions/co2eq_kg,dev/recall_at_5_dot]"], "dev/recall_at_5_dot"),
        ([*DEMO[:2], "evaluation=reranking"], "dev/ndcg_at_10"),
    ],
)
def test_the_objective_is_the_main_metric_of_the_evaluation_unless_it_is_set(words: list[str], objective: str) -> None:
    assert pass_single(words).config.objective == objective
    plan = passed(*words, "trainer.seed=1,2").plan
    assert plan is not None
    assert plan.objective == objective


def test_an_evaluation_is_read_as_its_family() -> None:
    config = pass_single([*DEMO, "evaluation.corpus_size=50"]).config.evaluation
    assert isinstance(config, RetrievalConfig)
    assert (config.family, config.accuracy_at_k, config.corpus_size) == ("retrieval", (1, 3, 5, 10), 50)
    assert type(pass_single([]).config.evaluation) is StsConfig


OTHER = "which evaluation=retrieval cannot score"
SCORES = "evaluation=retrieval scores positive_pairs or triplets"
WRONG = [
    (
        ("study.objective=dev/ndcg_at_10_cosine",),
        ["study.objective: no metric dev/ndcg_at_10_cosine of evaluation=sts (add evaluation=retrieval); there are: "],
    ),
    (
        (*DEMO, "study.objective=dev/ndcg_at_9_cosine"),
        [
            "study.objective: no metric dev/ndcg_at_9_cosine of evaluation=retrieval (did you mean "
            "dev/ndcg_at_10_cosine?); there are: dev/{accuracy,precision,recall}_at_{1,3,5,10}_{cosine,dot}, "
        ],
    ),
    (
        (*DEMO, "study.objective=emissions/co2eq_kg"),
        [
            "study.objective: must have a dev metric, which chooses a trial's best checkpoint: "
            "dev/{accuracy,precision,recall}_at_"
        ],
    ),
    (
        (*DEMO, "evaluation.ndcg_at_k=[]"),
        ["evaluation.ndcg_at_k: must be a list of ranks from 1, as [1,10], but got []"],
    ),
    (
        (*DEMO, "evaluation.map_at_k=[0]"),
        ["evaluation.map_at_k: must be a list of ranks from 1, as [1,10], but got [0]"],
    ),
    (
        (*DEMO, "evaluation.similarities=[manhattan]"),
        ["evaluation.similarities: must be a list of some of cosine, dot, but got [manhattan]"],
    ),
    (
        ("evaluation.ndcg_at_k=[10]",),
        ["evaluation.ndcg_at_k: evaluation=sts has no such key; choose evaluation=retrieval for it"],
    ),
    (
        ("evaluation=retrieval",),
        [
            f"evaluation: {SCORES}, and data=demo has scored_pairs (two texts and a similarity score; data.shape): "
            "take evaluation=sts, or set evaluation.dev and evaluation.test to benchmarks of that "
            "family (to try it: data=demo_retrieval)"
        ],
    ),
    (
        ("evaluation=retrieval", "evaluation.dev=demo-retrieval-dev"),
        [f"evaluation.test: {SCORES}, and data=demo has scored_pairs "],
    ),
    (
        ("evaluation=retrieval", "data=csv", "data.path=."),
        [
            f"evaluation: {SCORES}, and data=csv has scored_pairs (two texts and a similarity score; data.shape): set "
            "data.shape=positive_pairs 'data.columns=[question,answer]' for a table with such columns, or take "
            "evaluation=sts, or ",
            "train.csv: no such file",
        ],
    ),
    (
        ("data=beir", "data.path=."),
        [
            "evaluation: evaluation=sts scores scored_pairs, and data=beir has positive_pairs (two texts that mean the "
            "same; data.shape): take evaluation=retrieval, or set evaluation.dev=stsb-es-dev "
            "evaluation.test=stsb-es-test or other benchmarks",
            "corpus.jsonl: no such file",
            "queries.jsonl: no such file",
            "qrels/train.tsv: no such file",
            "loss: loss=cosent needs scored_pairs (sentence1, sentence2, score: two texts and a similarity score); the "
            "data has positive_pairs (anchor, positive: two texts that mean the same), which can be converted to "
            "texts: take data of the shape scored_pairs, class_pairs, binary_pairs, or another loss: mnrl, "
            "mnrl_symmetric, megabatch_margin (to try loss=cosent: data=demo)",
        ],
    ),
    (
        ("evaluation=retrieval", "evaluation.corpus_size=0", "data=csv", "data.path=.", "evaluation.test=demo-test"),
        [
            "evaluation.corpus_size: must be a whole number of at least 1, or null, but got 0",
            "train.csv: no such file",
            "dev.csv: no such file",
        ],
    ),
    (
        ("evaluation=retrieval", "evaluation.dev=dem-dev", "data=csv", "data.path=.", "evaluation.corpus_size=0"),
        [
            "evaluation.dev: dem-dev: no such benchmark",
            "evaluation.corpus_size: must be",
            "train.csv: no such file",
            "test.csv: no such file",
        ],
    ),
    (
        ("evaluation=retreival", "study.objective=dev/ndcg_at_10_cosine", "data=beir", "data.path=nosuch"),
        ["evaluation: no option retreival (did you mean retrieval?)", "data.path: there is no folder nosuch"],
    ),
    (
        (
            "-m",
            "evaluation=retreival",
            "loss=mnlr",
            "trainer.seed=1,2",
            "study.objective=dev/ndcg_at_10_cosine",
            DEMO[1],
        ),
        ["evaluation: no option retreival (did you mean retrieval?)", "loss: no option mnlr (did you mean mnrl?)"],
    ),
    (
        ("loss=mnlr", DEMO[1]),
        ["loss: no option mnlr (did you mean mnrl?)"],
    ),
    (
        (*DEMO, "evaluation.dev=demo-dev"),
        [f"evaluation.dev: demo-dev is of the family sts, {OTHER}: choose another benchmark, or evaluation=sts"],
    ),
    (
        ("-m", "loss=mnrl", "evaluation=sts,retrieval"),
        ["evaluation: is the same for all trials of a study, since their scores are compared"],
    ),
    (
        ("-m", "loss=mnrl", "evaluation.dims=[32],[64]"),
        ["evaluation.dims: is the same for all trials of a study, since their scores are compared"],
    ),
]


@pytest.mark.parametrize(("words", "reported"), WRONG)
def test_what_an_evaluation_cannot_do_is_refused_with_what_to_do(words: tuple[str, ...], reported: list[str]) -> None:
    found = errors(*words)
    assert len(found) == len(reported), found
    assert all(problem.startswith(start) for problem, start in zip(found, reported, strict=True)), found


def test_a_benchmark_of_another_family_brings_the_keys_of_its_own() -> None:
    config = pass_single([*DEMO, "evaluation.benchmarks=[demo-test]"]).config
    (benchmark,) = config.evaluation.benchmarks
    assert (benchmark.family, benchmark.scoring) == ("sts", StsScoring("sts"))
    (own,) = pass_single(["evaluation.benchmarks=[demo-test]"]).config.evaluation.benchmarks
    assert own.scoring is None, "it is scored as dev is"


SEARCHED = ["evaluation=retrieval", "evaluation.dev=demo-retrieval-dev", "evaluation.test=demo-retrieval-test"]


@pytest.mark.parametrize(
    "words", [SEARCHED, ["evaluation.watch=[demo-retrieval-dev]"], ["evaluation.benchmarks=[demo-retrieval-test]"]]
)
@pytest.mark.parametrize("rule", ["roles", "columns"])
def test_prompts_that_only_scored_queries_or_documents_get_are_accepted(words: list[str], rule: str) -> None:
    words = [*words, f"model.prompt_rule={rule}"]  # the demo data to train on are pairs of equals
    assert pass_single([*words, "model.prompts={query:'q: '}"]).config.model.prompts == {"query": "q: "}
    expected = "model.prompts: no text gets one of passage: name them query and document, or "
    assert errors(*words, "model.prompts={passage:'p: '}") == [f"{expected}set model.default_prompt=passage"]
