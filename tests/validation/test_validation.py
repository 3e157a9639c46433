"""Validation of commands: what is valid, and every message of what is not, before anything heavy is loaded."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import datasets
import pytest
from huggingface_hub import constants

from embedsweep import machine as devices_module
from embedsweep.config.compose import Composer, open_composer, shipped_conf, user_conf
from embedsweep.config.study import Axis, Choice, DiscreteAxis, RangeAxis
from embedsweep.config.trial import LossConfig
from embedsweep.errors import ConfigError
from embedsweep.files import SINGLE
from embedsweep.hub import hub_reachable
from embedsweep.losses.table import LOSSES as ALL_LOSSES
from embedsweep.validation import services as services_module
from embedsweep.validation.cells import cell_config
from embedsweep.validation.rules import model as model_rules
from embedsweep.validation.single import SingleRun, pass_single
from embedsweep.validation.sweep import Sweep, pass_sweep

GROUPS = (
    "data, dataloader, emissions, evaluation, loss, model, optimizer, recipe, search, study, tracking, trainer, workers"
)


def _options(group: str, *own: str) -> str:
    """What there is to choose from, as it is told: the files of a group, in the order of their names."""
    names = sorted([*(path.stem for path in (shipped_conf() / group).glob("*.yaml")), *own])
    return f"there are: {', '.join(names)}"


LOSSES = _options("loss")
MODELS = _options("model")
NOTHING = "-m: nothing is swept; give several values (loss=mnrl,cosent), a search (search=lr), or only study.name"
METRICS = ", ".join(
    (
        *(
            f"dev/{kind}_{similarity}"
            for kind in ("pearson", "spearman")
            for similarity in ("cosine", "euclidean", "manhattan", "dot", "max")
        ),
        *("emissions/co2eq_kg", "emissions/energy_kwh", "emissions/duration_s", "throughput/examples_per_s"),
    )
)


@pytest.fixture(scope="module")
def shipped_options() -> Iterator[Composer]:
    with open_composer() as composer:
        yield composer


@pytest.fixture(autouse=True)
def composed_once(shipped_options: Composer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Composes the shipped options once for all tests, which takes Hydra 80 ms; a user's own are composed anew."""

    @contextmanager
    def composer() -> Iterator[Composer]:
        if user_conf() is None:
            yield shipped_options
        else:
            with open_composer() as fresh:
                yield fresh

    monkeypatch.setattr("embedsweep.validation.single.open_composer", composer)
    monkeypatch.setattr("embedsweep.validation.sweep.open_composer", composer)


@pytest.fixture(autouse=True)
def a_machine_without_gpu_or_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forget_data: Callable[[], None]
) -> Iterator[None]:
    """An empty working directory and cache, no GPU, and a hub that refuses connections."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(devices_module, "cuda_device_count", lambda: 0)
    monkeypatch.setattr(devices_module, "has_metal", lambda: False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    hub_reachable.cache_clear()
    forget_data()
    yield
    hub_reachable.cache_clear()
    forget_data()


def errors(*words: str) -> list[str]:
    """The problems of a command; with ``-m`` first, of one for a study."""
    with pytest.raises(ConfigError) as error:
        pass_sweep(words[1:]) if words[0] == "-m" else pass_single(words)
    problems = [str(problem) for problem in error.value.problems]
    assert len(set(problems)) == len(problems), "each is told once"
    return problems


def passed(*words: str) -> Sweep:
    return pass_sweep(words)


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
    ("lr=1", f"lr: no such key (did you mean model.lr or optimizer.lr?); there are: {GROUPS}"),
    ("+typo=1", f"typo: no such key; there are: {GROUPS}"),
    ("++typo=1", f"typo: no such key; there are: {GROUPS}"),
    ("+loss.typo=1", "loss.typo: no such key; it has: loss.scale"),
    ("loss=mnlr", f"loss: no option mnlr (did you mean mnrl?); {LOSSES}"),
    ("loss=bogus", f"loss: no option bogus; {LOSSES}"),
    ("loss=", f"loss: must be the name of an option, but got nothing; {LOSSES}"),
    ("loss=null", f"loss: must be the name of an option, but got null; {LOSSES}"),
    ("loss=[mnrl]", f"loss: must be the name of an option, but got [mnrl]; {LOSSES}"),
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
    ("trainer.seed=-1", "trainer.seed: must be a whole number of at least 0, but got -1"),
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
        f"study.objective: no metric dev/spearmann_cosine (did you mean dev/spearman_cosine?); there are: {METRICS}",
    ),
    (
        "study.objective=test/spearman_cosine",
        f"study.objective: no metric test/spearman_cosine (did you mean dev/spearman_cosine?); there are: {METRICS}",
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


# Data


HEADER = "sentence1,sentence2,score\n"
GOOD = HEADER + "a,b,0\nc,d,5\n"


def _folder(path: Path, **splits: str | bytes | None) -> Path:
    path.mkdir()
    for split in ("train", "dev", "test"):
        content = splits.get(split, GOOD)
        if content is not None:
            (path / f"{split}.csv").write_bytes(content.encode() if isinstance(content, str) else content)
    return path


WRONG_FILES = [
    ({"dev": None}, "{}/dev.csv: no such file; in its folder: 'test.csv'"),
    ({"train": ""}, "{}/train.csv: is empty"),
    ({"train": HEADER}, "{}/train.csv: has no rows"),
    ({"dev": HEADER + "a,b,1\n"}, "{}/dev.csv: has only one row; at least two with different scores are needed"),
    (
        {"test": HEADER + "a,b,2\nc,d,2\n"},
        "{}/test.csv: all 2 scores are 2, so nothing can be ranked: is the third of data.columns the score?",
    ),
    (
        {"train": HEADER + "a,b,0\nc,d,7\n"},
        "{}/train.csv, line 3: score 7 is outside data.score_range=[0,5]: fix it, or, if the scale is another, set "
        "data.score_range (the scores here go from 0 to 7)",
    ),
    (
        {"train": HEADER + "a,b,0\nc,d,5\ne,f,nan\n"},
        "{}/train.csv, line 4: score 'nan' is not a finite number: fill it in or leave the row out",
    ),
    (
        {"train": GOOD + "e,,3\n"},
        "{}/train.csv, line 4: sentence2 is empty: fill it in or leave the row out",
    ),
    (
        {"train": "sentence1,sentence2,score\nseñal,b,0\nc,d,5\n".encode("latin-1")},
        "{}/train.csv, line 2: byte 3 (0xf1) is not UTF-8; the file is probably latin-1: convert it with iconv "
        "-f latin1 -t utf-8",
    ),
    (
        {"train": GOOD.replace(",", ";")},
        "{}/train.csv: one column found with ',' between columns; with ';' there are 3: set 'data.delimiter=\";\"'",
    ),
    (
        {"train": "text1,text2,score\na,b,0\nc,d,5\n"},
        "{}/train.csv: has no column 'sentence1' (data.columns); its header has 'score', 'text1', 'text2'",
    ),
]


@pytest.mark.parametrize(("splits", "message"), WRONG_FILES, ids=lambda value: str(value)[:40])
def test_wrong_data_is_told_with_its_file_and_line(
    tmp_path: Path, splits: dict[str, str | bytes | None], message: str
) -> None:
    folder = _folder(tmp_path / "mine", **splits)
    first = errors("data=csv", f"data.path={folder}")[0]
    assert first.startswith(message.format(folder).split("; its header")[0])


def test_the_wrong_files_of_all_splits_are_told_at_once(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "mine", train=HEADER, dev=None, test=HEADER + "a,b,9\nc,d,1\n")
    places = [problem.split(": ")[0] for problem in errors("data=csv", f"data.path={folder}")]
    assert places == [f"{folder}/train.csv", f"{folder}/dev.csv", f"{folder}/test.csv, line 2"]


def test_na_and_null_are_texts(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "mine", train=GOOD + "NA,null,3\n")
    assert pass_single(["data=csv", f"data.path={folder}"]).config.data.path == str(folder)


def test_a_folder_that_is_not_there_is_told_with_its_neighbours(tmp_path: Path) -> None:
    _folder(tmp_path / "mine")
    (refusal,) = errors("data=csv", f"data.path={tmp_path}/mime")
    assert refusal.startswith(f"data.path: there is no folder {tmp_path}/mime; folders in {tmp_path}: 'mine'")


# The hub and models


def test_an_unreachable_hub_is_told_for_model_and_data_with_the_way_out() -> None:
    assert errors("model=minilm", "data=stsb_multi_mt") == [
        "model.path: sentence-transformers/all-MiniLM-L6-v2 is neither a folder nor in the local cache, and "
        "http://127.0.0.1:9 does not "
        "answer; use model=pretrained model.path=FOLDER, or model=tiny, which needs no download",
        errors("data=stsb_multi_mt")[0],
    ]
    (refusal,) = errors("data=stsb_multi_mt", "data.language=es")
    assert refusal.startswith("data.hub: PhilipMay/stsb_multi_mt")
    assert "data.path" in refusal


def _model(folder: Path, weights: str = "model.safetensors", config: str | None = None) -> Path:
    folder.mkdir(parents=True)
    text = json.dumps({"max_position_embeddings": 512}) if config is None else config
    (folder / "config.json").write_text(text)
    (folder / weights).touch()
    return folder


def _cached(hub: Path, weights: str = "model.safetensors") -> None:
    repository = hub / "models--ORG--NAME"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("a" * 40)
    _model(repository / "snapshots" / ("a" * 40), weights)


PRETRAINED = ("model=pretrained", "model.path=ORG/NAME")


def test_a_cached_model_passes_without_the_hub(tmp_path: Path) -> None:
    _cached(tmp_path / "hub")
    assert pass_single(PRETRAINED).config.model.path == "ORG/NAME"
    assert errors(*PRETRAINED, "model.max_seq_length=513") == [
        "model.max_seq_length: the model has positions for 512 tokens, but got 513"
    ]


def test_a_cached_model_with_a_pickle_only_is_refused(tmp_path: Path) -> None:
    _cached(tmp_path / "hub", "pytorch_model.bin")
    assert errors(*PRETRAINED) == [
        "model.path: the copy of ORG/NAME in the local cache has no safetensors weights; run: hf download ORG/NAME"
    ]


def test_a_hub_that_answers_lets_an_uncached_model_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_rules, "hub_reachable", lambda: True)
    assert pass_single(PRETRAINED).config.model.path == "ORG/NAME"


@pytest.mark.parametrize(
    ("weights", "config", "message"),
    [
        ("model.safetensors", "{torn", "{0}/config.json is not the configuration of a model (a JSON object)"),
        ("model.safetensors", "[]", "{0}/config.json is not the configuration of a model (a JSON object)"),
        (
            "pytorch_model.bin",
            None,
            "{0} has no safetensors weights, and a pickle could execute code: if you trust it, load it and save it "
            "again with save_pretrained()",
        ),
    ],
)
def test_a_folder_with_a_model_that_cannot_be_loaded_is_refused(
    tmp_path: Path, weights: str, config: str | None, message: str
) -> None:
    folder = _model(tmp_path / "model", weights, config)
    assert errors("model=pretrained", f"model.path={folder}") == [f"model.path: {message.format(folder)}"]


def test_a_folder_without_a_model_a_file_and_nothing_at_all_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    messages = {
        tmp_path / "empty": f"{tmp_path}/empty holds no model: it has neither config.json nor modules.json",
        tmp_path / "file": f"{tmp_path}/file is a file; a model is a folder with config.json or modules.json",
        tmp_path / "none": f"there is no folder {tmp_path}/none, and it is not a hub id (ORG/NAME) either",
    }
    for path, message in messages.items():
        assert errors("model=pretrained", f"model.path={path}") == [f"model.path: {message}"]


def test_a_folder_with_a_model_passes_up_to_its_length(tmp_path: Path) -> None:
    words = ("model=pretrained", f"model.path={_model(tmp_path / 'model')}")
    assert pass_single([*words, "model.max_seq_length=512"]).config.model.max_seq_length == 512
    assert errors(*words, "model.max_seq_length=513") == [
        "model.max_seq_length: the model has positions for 512 tokens, but got 513"
    ]


@pytest.mark.parametrize(
    ("device", "problem"),
    [
        ("auto", None),
        ("cuda", None),
        ("cuda:1", None),
        ("cuda:2", "this machine has 2 CUDA devices, cuda:0 to cuda:1, but got cuda:2"),
        ("cuda:x", "must be auto, cpu, cuda, cuda:N or mps, but got cuda:x"),
    ],
)
def test_a_device_is_checked_against_those_there_are(
    monkeypatch: pytest.MonkeyPatch, device: str, problem: str | None
) -> None:
    monkeypatch.setattr(devices_module, "cuda_device_count", lambda: 2)
    if problem is None:
        assert pass_single([f"trainer.device={device}", "trainer.precision=fp16"]).config.trainer.device == device
    else:
        assert errors(f"trainer.device={device}") == [f"trainer.device: {problem}"]


def test_a_working_directory_that_cannot_be_written_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)
    assert [problem.split(":")[0] for problem in errors("loss=mnrl")] == ["sweeps", "mlruns"]


# Studies


def test_a_list_makes_a_grid_of_all_cells() -> None:
    sweep = passed("loss=mnrl,cosent", "dataloader.batch_size=range(16,64,16)", "study.name=mine", "trainer.epochs=1")
    assert sweep.plan is not None
    assert sweep.plan.axes == (
        DiscreteAxis("loss", ("mnrl", "cosent"), {}),
        RangeAxis("dataloader.batch_size", 16, 48, log=False, step=16, integer=True, when={}),
    )
    assert (sweep.plan.sampler, sweep.n_trials, sweep.plan.groups) == ("exhaustive", 6, ("loss",))
    assert (sweep.study.name, sweep.fixed) == ("mine", ("trainer.epochs=1",))
    config = cell_config(sweep.plan, {"loss": "mnrl", "dataloader.batch_size": 48})
    assert (config.loss.name, config.dataloader.batch_size, config.trainer.epochs) == ("mnrl", 48, 1.0)


def test_a_search_file_joins_what_is_swept_and_is_sampled() -> None:
    sweep = passed("loss=mnrl,cosent", "search=lr_warmup_batch", "dataloader.batch_size=8", "study.n_trials=7")
    assert sweep.plan is not None
    assert [axis.key for axis in sweep.plan.axes] == ["loss", "optimizer.lr", "optimizer.warmup"]
    assert sweep.plan.axes[1] == RangeAxis("optimizer.lr", 1e-4, 1e-2, log=True, step=None, integer=False, when={})
    assert (sweep.plan.sampler, sweep.n_trials) == ("tpe", 7)


def test_a_command_that_sweeps_all_a_search_would_is_a_grid_of_its_own_size() -> None:
    sweep = passed("search=lr", "optimizer.lr=1e-4,1e-3")
    assert (sweep.plan and sweep.plan.sampler, sweep.n_trials) == ("exhaustive", 2)


def test_the_objective_is_part_of_the_command_that_runs_a_trial_again() -> None:
    assert passed("loss=mnrl,cosent", "study.objective=dev/pearson_max", "study.seed=3").fixed == (
        "study.objective=dev/pearson_max",
    )


def test_a_name_alone_opens_a_study() -> None:
    sweep = passed("study.name=mine", "study.n_trials=30", "tracking.uri=http://host:5000")
    assert (sweep.plan, sweep.study.name, sweep.n_trials) == (None, "mine", 30)
    assert passed("study.name=mine").n_trials is None


def test_null_is_a_choice() -> None:
    sweep = passed("model.max_seq_length=null,16")
    assert sweep.plan is not None
    assert [cell_config(sweep.plan, {"model.max_seq_length": value}).model.max_seq_length for value in (None, 16)] == [
        None,
        16,
    ]


def test_a_fixed_key_is_right_only_if_every_swept_option_has_it() -> None:
    sweep = passed("loss=mnrl,cosent", "loss.scale=3")
    assert sweep.plan is not None
    assert [cell_config(sweep.plan, {"loss": name}).loss.parameters["scale"] for name in ("mnrl", "cosent")] == [3, 3]
    assert errors("-m", "loss=mnrl,cosine", "loss.scale=3") == [
        "loss.scale: loss=cosine has no such key; it has no keys of its own"
    ]
    assert errors("-m", "loss=mnrl,cosine", "loss.scale=3,4") == [
        "loss.scale: loss=cosine has no such key; it has no keys of its own"
    ]


def test_the_loss_inside_of_another_is_swept_as_options_are() -> None:
    sweep = passed("loss=matryoshka,adaptive_layer", "loss@loss.inner=mnrl,cosent", "loss.inner.scale=7,9")
    assert sweep.plan is not None
    assert sweep.plan.groups == ("loss", "loss@loss.inner")
    assert list(sweep.plan.cells) == [
        f"loss={outer},loss@loss.inner={inner}"
        for outer in ("matryoshka", "adaptive_layer")
        for inner in ("mnrl", "cosent")
    ]
    params: dict[str, Choice] = {"loss": "adaptive_layer", "loss@loss.inner": "mnrl", "loss.inner.scale": 9}
    loss = cell_config(sweep.plan, params).loss
    assert (loss.name, loss.inner) == ("adaptive_layer", LossConfig("mnrl", {"scale": 9.0}, None))
    assert (sweep.plan.sampler, sweep.n_trials) == ("exhaustive", 8)


SWEPT = "model, loss, data, dataloader, optimizer, trainer"
WRAPPERS = "loss={} wraps no other loss; the losses that do: matryoshka, adaptive_layer, matryoshka2d, " + (
    "global_orthogonal_regularization"
)
WRONG_SWEEPS: list[tuple[Sequence[str], list[str]]] = [
    ([], [NOTHING]),
    (["loss=mnrl"], [NOTHING]),
    (["study.n_trials=3"], [NOTHING]),
    (["search=none"], [NOTHING]),
    (
        ["loss=mnrl,bogus,cosin", "model=tiny,minlm"],
        [
            f"loss: no option bogus; {LOSSES}",
            f"loss: no option cosin (did you mean cosine?); {LOSSES}",
            f"model: no option minlm (did you mean minilm?); {MODELS}",
        ],
    ),
    (["loss=a,b", "loss.margin=3"], [f"loss: no option a; {LOSSES}", f"loss: no option b; {LOSSES}"]),
    (["loss=mnrl,mnrl"], ["loss: the choices mnrl, mnrl contain a value twice"]),
    (["loss=mnrl,cosent", "loss=cosine"], ["loss: is swept and set a second time; give it once"]),
    (["trainer.seed=1,2", "trainer.seed=3"], ["trainer.seed: is swept and set a second time; give it once"]),
    (["loss=mnrl,cosent", "loss.scal=3"], ["loss.scal: no such key (did you mean loss.scale?); it has: loss.scale"]),
    (["loss.name=mnrl,cosent"], ["loss.name: is the name of the option; choose another one by loss=OPTION"]),
    (
        ["model.pooling=choice(null,mean)"],
        ["model.pooling=choice(null,mean): Hydra's choice() cannot contain null: write the choices as key=null,a,b"],
    ),
    (["study.seed=1,2"], [f"study.seed: is the same for all trials of a study; what can be swept: {SWEPT}"]),
    (["search=lr,none"], [f"search: is the same for all trials of a study; what can be swept: {SWEPT}"]),
    (
        ["trainer.device=cpu,cuda"],
        ["trainer.device: is the same for all trials of a command, since a process trains on one device"],
    ),
    (
        ["evaluation.batch_size=16,32"],
        ["evaluation.batch_size: is the same for all trials of a study, since their scores are compared"],
    ),
    (["recipe=none,distilbert_sts_es"], [f"recipe: is the same for all trials of a study; what can be swept: {SWEPT}"]),
    (
        ["loss=mnrl,matryoshka,cosine", "loss@loss.inner=mnrl,cosent"],
        [f"loss@loss.inner: {WRAPPERS.format('mnrl')}", f"loss@loss.inner: {WRAPPERS.format('cosine')}"],
    ),
    (
        ["loss=matryoshka", "loss@loss.inner=mnrl,cosnt"],
        [f"loss@loss.inner: no option cosnt (did you mean cosent?); {LOSSES}"],
    ),
    (
        ["loss=mnrl,cosent", "study.n_trials=5"],
        ["study.n_trials: the grid has 2 cells, each run once, but got 5"],
    ),
    (
        ["optimizer.lr=interval(1e-5,1e-3)"],
        ["study.n_trials: optimizer.lr is sampled: set a number of trials, as study.n_trials=20"],
    ),
    (
        ["optimizer.lr=interval(1e-3,1e-5)", "study.n_trials=3"],
        ["optimizer.lr: interval(0.001,1e-05) must have its lower bound first"],
    ),
    (
        ["optimizer.warmup=interval(-1,1.5)", "study.n_trials=3"],
        [
            "optimizer.warmup: must be a number of at least 0, but got -1.0",
            "optimizer.warmup: must be a ratio below 1 or a whole number of steps, but got 1.5",
        ],
    ),
    (
        ["loss=mnrl,cosent", "search=lr", "study.sampler=cmaes"],
        ["study.sampler: cmaes takes ranges only, and loss is a list of choices; use tpe or gp"],
    ),
    (
        ["search=lr", "study.sampler=tp"],
        [
            "study.sampler: must be one of tpe, random, gp, cmaes, qmc, nsga2, nsga3, exhaustive, but got 'tp' "
            "(did you mean tpe?)"
        ],
    ),
    (
        ["search=lr", "optimizer.lr=1e-4"],
        ["search: search=lr searches optimizer.lr, and this command fixes it; leave one out"],
    ),
    (["search=lr", "study.timeout=0"], ["study.timeout: must be a number above 0, or null, but got 0"]),
    (
        ["search.space=3"],
        ["search.space: must be a mapping of keys to what they are searched over, but got 3"],
    ),
    (
        ["search.space={optimizer.lrr: 'interval(1,3)', loss: 'a,b', study.seed: '1,2'}"],
        [
            "search=none, optimizer.lrr: no such key (did you mean optimizer.lr?)",
            "search=none, loss: options are swept on the command line: loss=a,b",
            "search=none, study.seed: is the same for all trials of a study and cannot be searched",
        ],
    ),
    (
        ["dataloader.micro_batch_size=2,5", "dataloader.batch_size=4,10"],
        [
            "dataloader.micro_batch_size: must divide dataloader.batch_size=4, but got 5",
        ],
    ),
]


@pytest.mark.parametrize(("words", "messages"), WRONG_SWEEPS, ids=lambda value: " ".join(value)[:50])
def test_an_invalid_sweep_is_reported_without_its_consequences(words: Sequence[str], messages: list[str]) -> None:
    assert errors("-m", *words) == messages


@pytest.mark.parametrize(
    ("word", "message"),
    [
        *(
            (
                f"study.name={name}",
                f"study.name: must be letters, digits, '.', '_' and '-', and not 'single', but got {name!r}",
            )
            for name in (SINGLE, "../x", "a/b", ".hidden", "a+b")
        ),
        *(
            (
                f"study.storage={url}",
                "study.storage: must be the URL of a database (postgresql, sqlite), such as "
                "postgresql://host/database; null is a journal file",
            )
            for url in ("journal.log", "foo://host/db", "redis://host", "mysql://host/db")
        ),
        ("study.storage=postgresql+nosuch://h/db", "study.storage: needs the Python package nosuch: install it"),
    ],
)
def test_a_wrong_study_is_refused_with_or_without_a_sweep(word: str, message: str) -> None:
    assert errors("-m", word, "loss=mnrl,cosent") == [message]
    assert message in errors("-m", word)


def test_a_missing_driver_is_told_with_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services_module, "find_spec", lambda _: None)
    assert errors("-m", "study.storage=postgresql://localhost/db", "loss=mnrl,cosent") == [
        "study.storage: needs the Python package psycopg: pip install 'embedsweep[postgresql]'"
    ]


@pytest.mark.parametrize(
    ("host", "tracking", "passes"),
    [
        ("far.example:5432", (), False),
        ("me@far.example", ("tracking.uri=sqlite:///runs.db",), False),
        ("far.example", ("tracking.uri=http://far.example:5000",), True),
        ("far.example", ("tracking.uri=postgresql://far.example/runs",), True),
        ("localhost", (), True),
        ("127.0.0.1:5432", (), True),
        ("", (), True),
    ],
)
def test_a_study_that_other_machines_may_join_needs_a_store_they_reach(
    host: str, tracking: tuple[str, ...], passes: bool
) -> None:
    words = ("-m", f"study.storage=postgresql://{host}/db", "loss=mnrl,cosent", *tracking)
    machine = host.rpartition("@")[2].partition(":")[0]
    if passes:
        assert pass_sweep(words[1:]).study.storage == f"postgresql://{host}/db"
        return
    assert errors(*words) == [
        f"tracking.uri: study.storage is on {machine}, so that other machines may join, but a file on this one "
        "cannot take their records: give all of them the same server (tracking.uri=http://host:5000)"
    ]


MODEL = ("model=tiny,tiny_slow", "loss=mnrl,cosent")


def _second_model() -> None:
    text = (shipped_conf() / "model" / "tiny.yaml").read_text(encoding="utf-8")
    _own("model/tiny_slow.yaml", text.replace("lr: 1.0e-3", "lr: 1.0e-4"))


def _axes(sweep: Sweep) -> dict[str, Axis]:
    assert sweep.plan is not None
    return {axis.name: axis for axis in sweep.plan.axes}


def test_a_relative_search_over_models_with_other_rates_has_an_axis_for_each() -> None:
    _second_model()
    axes = _axes(passed(*MODEL, "search=lr"))
    assert list(axes) == ["model", "loss", "optimizer.lr [model=tiny]", "optimizer.lr [model=tiny_slow]"]
    bounds = [(axis.low, axis.high) for axis in axes.values() if isinstance(axis, RangeAxis)]
    assert bounds == [(1e-4, 1e-2), (1e-5, 1e-3)]


def test_an_options_own_space_is_searched_where_it_is_chosen_and_where_a_search_asks_for_it() -> None:
    everywhere = ["optimizer.warmup", "dataloader.batch_size", "optimizer.lr"]
    assert list(_axes(passed("loss=mnrl,cosent,cosine", "search=full"))) == [
        *("loss", *everywhere),
        *("loss.scale [loss=mnrl]", "loss.scale [loss=cosent]", "dataloader.batch_sampler [loss=mnrl]"),
    ]
    assert list(_axes(passed("loss=mnrl", "search=full"))) == [*everywhere, "loss.scale", "dataloader.batch_sampler"]
    assert list(_axes(passed("loss=mnrl,cosent", "search=full", "loss.scale=20"))) == [
        *("loss", *everywhere, "dataloader.batch_sampler [loss=mnrl]"),
    ]
    assert list(_axes(passed("loss=mnrl,cosent", "search=lr"))) == ["loss", "optimizer.lr"]


def test_the_space_of_an_option_inside_another_is_searched_at_its_place() -> None:
    names = list(_axes(passed("loss=matryoshka,cosine", "search=full", "search.space={}", "optimizer.lr=1e-3")))
    assert names == ["loss", "loss.matryoshka_dims [loss=matryoshka]", "loss.inner.scale [loss=matryoshka]"]
    names = list(_axes(passed("loss=matryoshka", "loss@loss.inner=mnrl,cosine", "search=full", "optimizer.lr=1e-3")))
    assert names[-2:] == ["loss.inner.scale [loss@loss.inner=mnrl]", "dataloader.batch_sampler [loss@loss.inner=mnrl]"]


def test_a_list_is_a_choice_and_reaches_the_configuration() -> None:
    sweep = passed("loss=matryoshka", "loss.matryoshka_dims=[128,64],[64]")
    assert sweep.plan is not None
    assert _axes(sweep)["loss.matryoshka_dims"] == DiscreteAxis("loss.matryoshka_dims", ((128, 64), (64,)), {})
    config = cell_config(sweep.plan, {"loss.matryoshka_dims": (128, 64)})
    assert config.loss.parameters["matryoshka_dims"] == (128, 64)


def test_a_space_is_no_key_of_a_trial() -> None:
    assert errors("loss=mnrl", "loss.space={}") == [
        "loss.space: loss=mnrl has no such key (did you mean loss.scale?); it has: loss.scale"
    ]
    assert errors("-m", "loss.space=1,2", "loss=mnrl") == [
        "loss.space: loss=mnrl has no such key (did you mean loss.scale?); it has: loss.scale"
    ]
    assert "space" not in str(passed("loss=mnrl,cosent", "search=full").plan.cells)  # type: ignore[union-attr]


WRONG_SPACES = [
    ("loss.scael: interval(1, 2)", ["loss=mine, loss.scael: no such key (did you mean loss.scale?)"]),
    ("loss.scale: 3", ["loss=mine, loss.scale: 3 is a single value; use choice(), range() or interval()"]),
    (
        "{optimizer.lr: 'interval(1e-4, 1e-3)'}",
        ["loss=mine, optimizer.lr: model=tiny searches it, too: leave it out of one space"],
    ),
    (
        "evaluation.batch_size: choice(1, 2)",
        ["loss=mine, evaluation.batch_size: is the same for all trials of a study and cannot be searched"],
    ),
    ("3", ["loss=mine: space must map keys to what they are searched over, but got 3"]),
]


@pytest.mark.parametrize(("space", "messages"), WRONG_SPACES)
def test_a_wrong_space_of_an_option_is_told_where_a_search_asks_for_it(space: str, messages: list[str]) -> None:
    inside = f" {space}" if space[0] in "{3" else f"\n  {space}"
    _own("loss/mine.yaml", f"name: mnrl\nscale: 50.0\nspace:{inside}\n")
    asks = ("-m", "loss=mine,cosent", "search=full")
    assert errors(*asks) == messages
    assert passed("loss=mine,cosent", "search=lr").n_trials == 10


def test_constraints_are_kept_by_every_cell_and_told_where_they_are_wrong() -> None:
    words = ("dataloader.micro_batch_size=4,8,16", "dataloader.batch_size=8,16")
    kept = "search.constraints=['dataloader.micro_batch_size <= dataloader.batch_size']"
    assert errors("-m", *words) == ["dataloader.micro_batch_size: must divide dataloader.batch_size=8, but got 16"]
    sweep = passed(*words, kept)
    assert sweep.plan is not None
    assert sweep.plan.constraints == ("dataloader.micro_batch_size <= dataloader.batch_size",)
    assert sweep.n_trials == 5
    for constraint, message in {
        "dataloader.batch_size <": "'dataloader.batch_size <': a constraint compares keys and numbers, as in "
        "'dataloader.micro_batch_size <= dataloader.batch_size'",
        "dataloader.batch_siz < 3": "'dataloader.batch_siz < 3': no such key: dataloader.batch_siz (did you mean "
        "dataloader.batch_size?)",
        "dataloader.batch_size > 64": "no trial keeps dataloader.batch_size > 64: change one of them",
        "loss.name > 2": "loss.name is cosent, but only numbers can be compared",
    }.items():
        # A cell that is never run has no problems of its own.
        (refusal,) = errors("-m", "dataloader.batch_size=8,16", f'search.constraints=["{constraint}"]')
        assert refusal == f"search.constraints: {message}"


def test_a_constraint_that_neither_end_of_an_interval_keeps_is_no_mistake() -> None:
    sweep = passed(
        "optimizer.warmup=interval(0,0.8)", 'search.constraints=["0.2 < optimizer.warmup < 0.7"]', "study.n_trials=3"
    )
    assert sweep.n_trials == 3


def test_exhaustive_runs_every_cell_of_a_discrete_search_once() -> None:
    space = "search.space={loss.scale:'choice(10,20)',dataloader.batch_size:'choice(16,32)'}"
    sweep = passed("loss=mnrl,cosent", "search=lr", space, "study.sampler=exhaustive")
    assert (sweep.plan and sweep.plan.sampler, sweep.n_trials) == ("exhaustive", 8)
    assert passed("loss=mnrl", "search=lr", space, "study.sampler=exhaustive", "study.n_trials=3").n_trials == 3
    assert errors("-m", "loss=mnrl", "search=lr", space, "study.sampler=exhaustive", "study.n_trials=5") == [
        "study.n_trials: the grid has 4 cells, each run once, but got 5"
    ]
    assert errors("-m", "loss=mnrl,cosent", "search=lr", "study.sampler=exhaustive") == [
        "study.sampler: exhaustive runs every cell once, and optimizer.lr is an interval: give it values, or use tpe"
    ]


def test_points_that_are_tried_first_lie_in_the_search_space() -> None:
    sweep = passed(
        "loss=mnrl,cosent", "search=full", "study.enqueue=[{optimizer.lr:1e-3,loss:mnrl,loss.scale:30},{loss:cosent}]"
    )
    assert sweep.plan is not None
    first, second = sweep.plan.enqueue
    assert first == {"optimizer.lr": 1e-3, "loss": "mnrl", "loss.scale": 30.0}
    assert isinstance(first["loss.scale"], float)
    assert second == {"loss": "cosent"}


def test_invalid_points_are_reported_all_at_once() -> None:
    points = [
        "{optimizer.lr:1,optimizer.warmupp:0.1}",
        "{loss.scale:30}",
        "{loss:cosine}",
        "{loss:cosent,dataloader.batch_sampler:no_duplicates}",
        "{dataloader.batch_size:true}",
    ]
    known = "loss, optimizer.warmup, dataloader.batch_size, optimizer.lr, loss.scale, dataloader.batch_sampler"
    only = "is searched with {} only: set that, or leave {} out"
    assert errors(
        "-m", "loss=mnrl,cosent", "search=full", f"study.enqueue=[{','.join(points)}]", "study.n_trials=9"
    ) == [
        "study.enqueue, 1: optimizer.lr must be a number from 0.0001 to 0.01, but got 1",
        "study.enqueue, 1: optimizer.warmupp is not searched (did you mean "
        "optimizer.warmup?); these keys are: " + known,
        "study.enqueue, 2: loss.scale " + only.format("loss=mnrl or loss=cosent", "loss.scale"),
        "study.enqueue, 3: loss must be one of mnrl, cosent, but got cosine",
        "study.enqueue, 4: dataloader.batch_sampler " + only.format("loss=mnrl", "dataloader.batch_sampler"),
        "study.enqueue, 5: dataloader.batch_size must be one of 16, 32, 64, but got true",
    ]
    words = ("loss=mnrl,cosent", "study.enqueue=[{loss:mnrl},{loss:cosent},{loss:mnrl}]")
    assert errors("-m", *words) == [
        "study.enqueue: has 3 configurations, more than study.n_trials=2: try fewer, or raise it"
    ]
    assert errors(
        "-m",
        "optimizer.warmup=0,0.1",
        'search.constraints=["optimizer.warmup<0.1"]',
        "study.enqueue={optimizer.warmup:0.1}",
    ) == ["study.enqueue: breaks the constraint optimizer.warmup<0.1"]


def test_errors_of_all_cells_are_told_at_once_and_each_once(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "mine", train=HEADER + "a,b,0\nc,d,1\n", dev=HEADER)
    words = ["loss=mnrl,cosent,cosine", "dataloader.batch_size=1,16", "trainer.precision=fp16,fp32", "data=demo,csv"]
    words += ["optimizer.lr=1e-3,-1", "los=3", f"data.path={folder}", "study.objective=f1"]
    assert sorted(errors("-m", *words)) == sorted(
        [
            f"los: no such key (did you mean loss?); there are: {GROUPS}",
            f"study.objective: no metric f1; there are: {METRICS}",
            "trainer.precision: fp16 needs a GPU, and this trains on the CPU; use fp32 or bf16",
            f"data.path: {folder} is not read: demo data is generated; set data=csv for files",
            f"{folder}/dev.csv: has no rows",
            "optimizer.lr: must be a number above 0 and at most 1, but got -1",
            "dataloader.batch_size: loss=mnrl compares examples inside a batch and needs at least 2, but got 1",
            "dataloader.batch_size: loss=cosent compares examples inside a batch and needs at least 2, but got 1",
        ]
    )


def test_a_large_grid_is_checked_in_every_value_and_pair() -> None:
    words = ["loss=mnrl,cosent,cosine", "trainer.seed=range(20)", "optimizer.lr=1e-4,1e-3,-1"]
    words += ["dataloader.batch_size=1,2,4,8,16"]
    assert errors("-m", *words) == [
        "dataloader.batch_size: loss=mnrl compares examples inside a batch and needs at least 2, but got 1",
        "dataloader.batch_size: loss=cosent compares examples inside a batch and needs at least 2, but got 1",
        "optimizer.lr: must be a number above 0 and at most 1, but got -1",
    ]


def test_options_that_train_on_other_devices_are_refused(tmp_path: Path) -> None:
    folder = Path("conf/trainer")
    folder.mkdir(parents=True)
    shipped = Path(services_module.__file__).parents[3] / "conf" / "trainer" / "default.yaml"
    text = shipped.read_text().replace("device: auto", "device: cpu").replace("name: default", "name: slow")
    (folder / "slow.yaml").write_text(text)
    assert errors("-m", "trainer=default,slow") == [
        "trainer.device: is the same for all trials of a command, since a process trains on one device; the swept "
        "options have auto, cpu"
    ]


# The user's own conf/


def _own(path: str, text: str) -> None:
    file = Path("conf") / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def test_a_users_own_option_stands_beside_the_shipped_ones(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "pairs")
    shipped = Path(services_module.__file__).parents[3] / "conf"
    text = (shipped / "data" / "csv.yaml").read_text()
    _own("data/mine.yaml", text.replace("name: csv", "name: mine").replace("path: ???", f"path: {folder}"))
    assert pass_single(["data=mine"]).config.data.name == "mine"
    assert errors("data=mne") == [f"data: no option mne (did you mean mine?); {_options('data', 'mine')}"]


def test_a_users_own_option_comes_before_the_shipped_one_of_its_name() -> None:
    _own("loss/mnrl.yaml", "name: mnrl\nscale: 50.0\n")
    assert pass_single(["loss=mnrl"]).config.loss.parameters["scale"] == 50.0
    assert pass_single(["loss=cosent"]).config.loss.parameters["scale"] == 20.0


def test_a_users_own_option_may_give_a_loss_another_scale() -> None:
    _own("loss/mnrl_sharp.yaml", "name: mnrl\nscale: 50.0\n")
    sweep = passed("loss=mnrl,mnrl_sharp")
    assert sweep.plan is not None
    scales = [cell_config(sweep.plan, {"loss": name}).loss.parameters["scale"] for name in ("mnrl", "mnrl_sharp")]
    assert scales == [20.0, 50.0]


def test_a_users_own_search_is_found() -> None:
    _own(
        "search/mine.yaml",
        "defaults: [none, _self_]\nname: mine\nn_trials: 3\nspace:\n  loss.scale: interval(10, 30)\n",
    )
    sweep = passed("search=mine")
    assert sweep.plan is not None
    assert [axis.key for axis in sweep.plan.axes] == ["loss.scale"]
    assert sweep.n_trials == 3


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        ("name: mnrl\n", ["loss.scale: is missing from this option's YAML file"]),
        (
            "name: mnrl\nscale: 20\nscal: 3\n",
            ["loss.scal: loss=mnrl has no such parameter (did you mean scale?); it has: scale"],
        ),
        (
            "name: mnlr\nscale: 20\n",
            [f"loss.name: no loss mnlr (did you mean mnrl?); there are: {', '.join(ALL_LOSSES)}"],
        ),
        ("scale: 20\n", ["loss.name: is missing from this option's YAML file"]),
    ],
)
def test_an_invalid_option_of_the_user_is_reported(text: str, messages: list[str]) -> None:
    _own("loss/mine.yaml", text)
    assert errors("loss=mine") == messages


def test_local_workers_must_fit_on_the_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices_module, "cuda_device_count", lambda: 1)
    words = ("-m", "loss=mnrl,cosent", "workers=local", "workers.count=4")
    assert [problem.partition(":")[0] for problem in errors(*words)] == ["workers.count"]
    assert passed(*words[1:], "trainer.device=cpu").workers.count == 4
    assert passed(*words[1:], "workers.per_device=4").workers.per_device == 4
