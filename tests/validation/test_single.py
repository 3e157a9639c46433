"""Commands for one run: options, values, and how they go together."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from embedsweep.config.compose import as_text_word
from embedsweep.config.trial import LossConfig
from embedsweep.validation.single import SingleRun, pass_single
from tests.validation.commands import GROUPS, LOSSES, METRICS, MODELS, errors

pytestmark = pytest.mark.usefixtures("composed_once", "a_machine_without_gpu_or_hub")


WRONG_WORDS = [
    (
        "loss@loss.inner=mnrl",
        "loss@loss.inner: loss=cosent wraps no other loss; the losses that do: matryoshka, adaptive_layer, "
        "matryoshka2d, global_orthogonal_regularization",
    ),
    (
        "loss@trainer.early_stopping=mnrl",
        "loss@trainer.early_stopping: there is no section trainer.early_stopping for an option of loss; loss=OPTION "
        "chooses its own",
    ),
    (
        "model@model.base=tiny",
        "model@model.base: there is no section model.base for an option of model; model=OPTION chooses its own",
    ),
    ("loss.inner=mnrl", "loss.inner: is the name of the option; choose another one by loss@loss.inner=OPTION"),
    (
        "loss.inner.name=mnrl",
        "loss.inner.name: is the name of the option; choose another one by loss@loss.inner=OPTION",
    ),
    ("los=mnrl", f"los: no such key (did you mean loss?); there are: {GROUPS}"),
    ("lr=1", "lr: no such key; here it is optimizer.lr"),
    (
        "seeds=1",
        f"seeds: no such key (did you mean study.finals.seeds?); there are: {GROUPS}",
    ),
    ("+typo=1", f"typo: no such key; there are: {GROUPS}"),
    ("++typo=1", f"typo: no such key; there are: {GROUPS}"),
    ("+loss.typo=1", "loss.typo: no such key; it has: loss.scale"),
    ("loss=mnlr", f"loss: no option mnlr (did you mean mnrl?); {LOSSES}"),
    ("loss=bogus", f"loss: no option bogus; {LOSSES}"),
    ("loss=", f"loss: must be the name of an option, but got nothing; {LOSSES}"),
    ("loss=null", f"loss: must be the name of an option, but got null; {LOSSES}"),
    ("loss=[mnrl]", "loss: takes the name of an option, not a list: loss=mnrl"),
    ("loss=[mnrll]", f"loss: must be the name of an option, but got [mnrll]; {LOSSES}"),
    ("model=minlm", f"model: no option minlm (did you mean minilm?); {MODELS}"),
    ("loss.scal=3", "loss.scal: no such key (did you mean loss.scale?); it has: loss.scale"),
    (
        "optimizer.warm_up=1",
        "optimizer.warm_up: no such key (did you mean optimizer.warmup?); it has: optimizer.lr, "
        "optimizer.weight_decay, optimizer.warmup, optimizer.schedule, optimizer.max_grad_norm",
    ),
    ("loss.name=mnrl", "loss.name: is the name of the option; choose another one by loss=OPTION"),
    ("loss", "loss: is not key=value"),
    ("~loss", "loss: ~loss cannot be used: keys cannot be removed from the configuration; set the key to null instead"),
    ("loss=mnrl,cosent", "loss: several values need a study: add -m"),
    ("optimizer.lr=interval(0,1)", "optimizer.lr: several values need a study: add -m"),
    (
        "model.space.optimizer.lr=1",
        "model.space.optimizer.lr: is what search=full searches where the option is chosen: sweep the keys themselves, "
        "or edit space: in the option's file",
    ),
    ("search=lr", "search: search=lr needs a study: add -m"),
    ("workers=local", "workers: workers=local runs the trials of a study: add -m"),
    ("workers.count=4", "workers.count: inline is this process alone, but got 4: add workers=local"),
    ("workers.per_device=0", "workers.per_device: must be a whole number of at least 1, or auto, but got 0"),
    ("workers.per_device=true", "workers.per_device: must be a whole number of at least 1, or auto, but got true"),
    ("workers.per_device=many", "workers.per_device: must be a whole number of at least 1, or auto, but got 'many'"),
    ("workers.mps=on", "workers.mps: must be one of auto, true, false, but got 'on'"),
    ("workers.mps=null", "workers.mps: must be one of auto, true, false, but got null"),
    ("study.n_trials=3", "study.n_trials: is for studies, and this is one run: add -m, or leave it out"),
]


@pytest.mark.parametrize(("word", "message"), WRONG_WORDS, ids=lambda value: value.split(":")[0])
def test_an_invalid_override_is_reported_with_the_nearest_valid_one(word: str, message: str) -> None:
    assert errors(word) == [message]


@pytest.mark.parametrize("command", [(), ("-m", "loss=cosent,cosine")])
@pytest.mark.parametrize("path", ["my(1)", "a=b", "x[1]", 'q"q'])
def test_a_path_that_hydra_cannot_read_is_one_problem(path: str, command: Sequence[str]) -> None:
    (problem,) = errors(*command, "data=csv", f"data.path={path}")
    assert problem.startswith(f"data.path={path}: ")
    assert as_text_word("data.path", path) in problem
    if not command:  # a key that has to be given is not missing
        assert len(errors("loss=mse", f"loss.teacher={path}")) == 1


def test_a_path_with_a_comma_or_brackets_is_one_problem_with_how_it_is_written() -> None:
    assert errors("data=csv", "data.path=a,b") == [
        "data.path: several values need a study: add -m; a text with a comma is written in quotes: 'data.path=\"a,b\"'"
    ]
    assert errors("data=csv", "data.path=[x]") == [
        "data.path: must be a text, or null, but got [x]; a text with such a character is written in quotes: "
        "'data.path=\"...\"'"
    ]


WRONG_VALUES = [
    ("loss.scale=abc", "loss.scale: must be a number above 0, but got 'abc'"),
    ("loss.scale=null", "loss.scale: must be a number above 0, but got null"),
    ("loss.scale=0", "loss.scale: must be a number above 0, but got 0"),
    ("loss.scale=\"'20'\"", "loss.scale: must be a number above 0, but got \"'20'\""),
    ("optimizer.lr=true", "optimizer.lr: must be a number above 0 and at most 1, but got true"),
    ("optimizer.lr=inf", "optimizer.lr: must be a number above 0 and at most 1, but got inf"),
    ("optimizer.lr=nan", "optimizer.lr: must be a number above 0 and at most 1, but got nan"),
    ("optimizer.lr=-1e-5", "optimizer.lr: must be a number above 0 and at most 1, but got -1e-05"),
    ("optimizer.weight_decay=-1", "optimizer.weight_decay: must be a number of at least 0, but got -1"),
    ("optimizer.warmup=2.5", "optimizer.warmup: must be a ratio below 1 or a whole number of steps, but got 2.5"),
    (
        "optimizer.schedule=cosin",
        "optimizer.schedule: must be one of linear, cosine, constant, but got 'cosin' (did you mean cosine?)",
    ),
    ("trainer.epochs=two", "trainer.epochs: must be a number above 0, but got 'two'"),
    ("trainer.epochs=0", "trainer.epochs: must be a number above 0, but got 0"),
    ("trainer.max_steps=1.5", "trainer.max_steps: must be a whole number of at least 1, or null, but got 1.5"),
    ("trainer.seed=-1", "trainer.seed: must be a whole number of at least 0 and below 4294967296, but got -1"),
    (
        "trainer.seed=4294967296",
        "trainer.seed: must be a whole number of at least 0 and below 4294967296, but got 4294967296",
    ),
    ("trainer.eval_every=1.5", "trainer.eval_every: must be a ratio below 1 or a whole number of steps, but got 1.5"),
    ("trainer.eval_every=0", "trainer.eval_every: must be a number above 0, but got 0"),
    ("trainer.early_stopping=3", "trainer.early_stopping: must be a section with keys of its own, but got 3"),
    (
        "trainer.early_stopping.patience=0",
        "trainer.early_stopping.patience: must be a whole number of at least 1, or null, but got 0",
    ),
    (
        "trainer.precision=bf17",
        "trainer.precision: must be one of fp32, fp16, bf16, but got 'bf17' (did you mean bf16?)",
    ),
    ("trainer.precision=fp16", "trainer.precision: fp16 needs a GPU, and this trains on the CPU; use fp32 or bf16"),
    ("trainer.device=gpu", "trainer.device: must be auto, cpu, cuda, cuda:N or mps, but got gpu"),
    (
        "trainer.device=cuda",
        "trainer.device: this machine shows no CUDA device, but got cuda; use auto or cpu",
    ),
    ("trainer.device=mps", "trainer.device: this machine has no mps device; use auto or cpu"),
    ("dataloader.batch_size=0", "dataloader.batch_size: must be a whole number of at least 1, but got 0"),
    (
        "dataloader.batch_size=8.0",
        "dataloader.batch_size: must be a whole number of at least 1, but got 8.0; write 8, and int(interval(...)) "
        "where it is swept",
    ),
    (
        "dataloader.batch_size=1",
        "dataloader.batch_size: loss=cosent compares examples inside a batch and needs at least 2, but got 1",
    ),
    (
        "dataloader.micro_batch_size=5",
        "dataloader.micro_batch_size: must divide dataloader.batch_size=32, but got 5",
    ),
    (
        "dataloader.micro_batch_size=1",
        "dataloader.micro_batch_size: loss=cosent compares examples inside a batch and needs at least 2, but got 1",
    ),
    ("dataloader.drop_last=1", "dataloader.drop_last: must be true or false, but got 1"),
    ("model.trust_remote_code=yes", "model.trust_remote_code: must be true or false, but got 'yes'"),
    (
        "model.pooling=avg",
        "model.pooling: must be of mean, cls, max, mean_sqrt_len_tokens, weightedmean, lasttoken, several joined by + "
        "(mean+cls), or null, but got avg",
    ),
    ("model.path=/x", "model.path: model=tiny is built here and has none; use model=pretrained"),
    ("model.max_seq_length=65", "model.max_seq_length: model=tiny reads at most 64 tokens, but got 65"),
    ("model=pretrained", "model.path: model=pretrained needs one: a hub id (ORG/NAME) or a folder"),
    (
        "data=csv",
        "data.path: is not set, and csv is not on the hub: set data.path=FOLDER, with train.csv, dev.csv, test.csv in "
        "that folder",
    ),
    ("data.path=/x", "data.path: /x is not read: demo data is generated; set data=csv for files"),
    ("data.limit=1", "data.limit: must be a whole number of at least 2, or null, but got 1"),
    (
        "data.columns=[a,b,b]",
        "data.columns: must be 3 names of a header (sentence1, sentence2, score of data.shape=scored_pairs, in that "
        "order), or as many positions from 0 where there is none: [sentence1,sentence2,score], but got [a,b,b]",
    ),
    ("data.delimiter=ab", 'data.delimiter: must be one character, such as "," or ";" or "\\t", but got \'ab\''),
    (
        "data.score_range=[5,0]",
        "data.score_range: must be the lowest and the highest possible score, as [0,5], but got [5,0]",
    ),
    (
        "data.convert.positive_threshold=1.5",
        "data.convert.positive_threshold: must be a number of at least 0 and at most 1, but got 1.5",
    ),
    (
        "study.objective=dev/spearmann_cosine",
        "study.objective: no metric dev/spearmann_cosine of evaluation=sts (did you mean dev/spearman_cosine?); there "
        f"are: {METRICS}",
    ),
    (
        "study.objective=test/spearman_cosine",
        "study.objective: no metric test/spearman_cosine of evaluation=sts (did you mean dev/spearman_cosine?); there "
        f"are: {METRICS}",
    ),
    (
        "emissions.country_iso_code=FR",
        "emissions.country_iso_code: CodeCarbon knows no country 'FR'. Did you mean FRA (France), FRO (Faroe Islands)? "
        "Give a three-letter ISO code in capitals (FRA, DEU, USA) or null for the world average of 475 g CO2eq/kWh.",
    ),
    (
        "tracking.uri=databricks",
        "tracking.uri: must be the URI of a store or server, such as sqlite:///mlruns/mlflow.db or http://host:5000, "
        "but got databricks",
    ),
    (
        "tracking.uri=mlruns",
        "tracking.uri: must be the URI of a store or server, such as sqlite:///mlruns/mlflow.db or http://host:5000, "
        "but got mlruns",
    ),
    (
        "tracking.uri=file:///tmp/mlruns",
        "tracking.uri: MLflow no longer keeps records in plain folders; use sqlite:///mlruns/mlflow.db",
    ),
    ("tracking.uri='sqlite://'", "tracking.uri: names no file: use sqlite:///mlruns/mlflow.db, not sqlite://"),
    ("loss.scale=${model.foo}", "loss.scale: Interpolation key 'model.foo' not found"),
]


@pytest.mark.parametrize(("word", "message"), WRONG_VALUES, ids=lambda value: value.split(":")[0])
def test_an_invalid_value_is_reported_with_what_is_allowed(word: str, message: str) -> None:
    assert errors(word) == [message]


def test_a_batch_that_drop_last_leaves_nothing_of_is_refused() -> None:
    words = ("dataloader.drop_last=true", "data.limit=20")
    message = "dataloader.batch_size: with drop_last no batch is left: {} examples for a batch of 32"
    assert errors(*words) == [message.format(20)]
    # Of 20 pairs the loss on positive pairs has fewer.
    (refusal,) = errors(*words, "loss=mnrl", "dataloader.batch_size=20")
    assert refusal.startswith("dataloader.batch_size: with drop_last no batch is left: ")
    assert pass_single([*words, "dataloader.batch_size=20"]).config.dataloader.batch_size == 20


def test_a_threshold_that_leaves_a_loss_no_pairs_is_refused_for_that_loss_only() -> None:
    words = ("data.limit=3", "data.convert.positive_threshold=1")
    (refusal,) = errors("loss=mnrl", *words)
    assert refusal.startswith("data.convert.positive_threshold: 1 (5 of 0-5) leaves 1 of 3 pairs of demo train")
    assert pass_single(["loss=cosent", *words]).config.data.limit == 3


def test_the_independent_loss_takes_a_batch_of_one() -> None:
    assert pass_single(["loss=cosine", "dataloader.batch_size=1"]).config.dataloader.batch_size == 1


def test_the_loss_inside_of_another_is_chosen_by_its_place() -> None:
    words = ["loss=matryoshka", "loss@loss.inner=mnrl", "loss.inner.scale=30", "loss.matryoshka_dims=[128,64]"]
    loss = pass_single(words).config.loss
    assert (loss.name, loss.inner) == ("matryoshka", LossConfig("mnrl", {"scale": 30.0}, None))
    twice = pass_single(["loss=adaptive_layer", "loss@loss.inner=matryoshka", "loss@loss.inner.inner=mnrl"]).config.loss
    assert twice.inner is not None
    assert (twice.inner.name, twice.inner.inner) == ("matryoshka", LossConfig("mnrl", {"scale": 20.0}, None))


def test_several_mistakes_are_reported_at_once_and_rules_check_only_valid_values() -> None:
    words = ("los=3", "loss.scale=x", "dataloader.micro_batch_size=5", "trainer.device=gpu", "trainer.precision=x")
    more = ("study.objective=f1", "emissions.country_iso_code=Spain", "data.limit=1", "optimizer.warmup=1.5")
    assert [problem.split(":")[0] for problem in errors(*words, *more)] == [
        "los",
        "study.objective",
        "emissions.country_iso_code",
        "loss.scale",
        "data.limit",
        "trainer.precision",
        "dataloader.micro_batch_size",
        "optimizer.warmup",
        "trainer.device",
    ]


def test_a_wrong_option_does_not_make_its_keys_wrong() -> None:
    assert errors("loss=lambda", "loss.margin=0.3") == [f"loss: no option lambda; {LOSSES}"]


def test_the_last_of_two_plain_words_counts() -> None:
    assert pass_single(["loss=mnrl", "loss=cosine", "trainer.seed=1", "trainer.seed=2"]).config.trainer.seed == 2


def test_a_single_run_is_a_frozen_configuration() -> None:
    run = pass_single(["loss=mnrl", "study.objective=dev/pearson_max", "optimizer.lr=2e-3", "data.limit=50"])
    assert isinstance(run, SingleRun)
    assert (run.config.loss.name, dict(run.config.loss.parameters)) == ("mnrl", {"scale": 20.0})
    assert (run.config.objective, run.config.optimizer.lr, run.config.data.limit) == ("dev/pearson_max", 2e-3, 50)
    assert run.tracking.uri == "sqlite:///mlruns/mlflow.db"
    with pytest.raises(AttributeError):
        run.config.loss = None  # type: ignore[misc,assignment]
