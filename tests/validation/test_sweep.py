"""Commands for a study: what is swept, what is searched, and the services that its trials share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from embedsweep import machine as devices_module
from embedsweep.config.compose import shipped_conf
from embedsweep.config.study import Axis, Choice, DiscreteAxis, RangeAxis
from embedsweep.config.trial import LossConfig
from embedsweep.validation import services as services_module
from embedsweep.validation.plan_cells import cell_config
from embedsweep.validation.sweep import Sweep, pass_sweep
from tests.validation.commands import (
    GROUPS,
    HEADER,
    LOSSES,
    METRICS,
    MODELS,
    NOTHING,
    data_folder,
    errors,
    own_option,
    passed,
)

pytestmark = pytest.mark.usefixtures("composed_once", "a_machine_without_gpu_or_hub")


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
                f"study.name: must be letters, digits, '.', '_' and '-', and not 'single' or 'downloads', but got "
                f"{name!r}",
            )
            for name in ("single", "downloads", "../x", "a/b", ".hidden", "a+b")
        ),
        *(
            (
                f"study.storage={url}",
                "study.storage: must be the URL of a database (postgresql, sqlite), such as "
                "postgresql://host/database; null is a journal file",
            )
            for url in ("journal.log", "foo://host/db", "redis://host", "mysql://host/db")
        ),
        (f"study.name={'a' * 300}", f"study.name: must have at most 240 characters, but has 300: {'a' * 40}..."),
        ("study.storage=postgresql+nosuch://h/db", "study.storage: needs the Python package nosuch: install it"),
    ],
)
def test_a_wrong_study_is_refused_with_or_without_a_sweep(word: str, message: str) -> None:
    assert errors("-m", word, "loss=mnrl,cosent") == [message]
    assert message in errors("-m", word)


def test_a_missing_driver_is_reported_with_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
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
    own_option("model/tiny_slow.yaml", text.replace("lr: 1.0e-3", "lr: 1.0e-4"))


def _axes(sweep: Sweep) -> dict[str, Axis]:
    assert sweep.plan is not None
    return {axis.name: axis for axis in sweep.plan.axes}


def test_a_relative_search_over_models_with_other_rates_has_an_axis_for_each() -> None:
    _second_model()
    axes = _axes(passed(*MODEL, "search=lr"))
    assert list(axes) == ["model", "loss", "optimizer.lr [model=tiny]", "optimizer.lr [model=tiny_slow]"]
    bounds = [(axis.low, axis.high) for axis in axes.values() if isinstance(axis, RangeAxis)]
    assert bounds == [(1e-4, 1e-2), (1e-5, 1e-3)]


def test_an_options_own_space_is_searched_where_it_is_chosen_and_a_search_requests_it() -> None:
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
    expected = (
        "loss.space: is what search=full searches where the option is chosen: sweep the keys themselves, or edit "
        "space: in the option's file"
    )
    assert errors("loss=mnrl", "loss.space={}") == [expected]
    assert errors("-m", "loss.space=1,2", "loss=mnrl") == [expected]
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
def test_an_invalid_space_of_an_option_is_reported_where_a_search_requests_it(space: str, messages: list[str]) -> None:
    inside = f" {space}" if space[0] in "{3" else f"\n  {space}"
    own_option("loss/mine.yaml", f"name: mnrl\nscale: 50.0\nspace:{inside}\n")
    words = ("-m", "loss=mine,cosent", "search=full")
    assert errors(*words) == messages
    assert passed("loss=mine,cosent", "search=lr").n_trials == 10


def test_every_cell_keeps_the_constraints_and_invalid_ones_are_reported() -> None:
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


def test_errors_of_all_cells_are_reported_at_once_and_each_once(tmp_path: Path) -> None:
    folder = data_folder(tmp_path / "mine", train=HEADER + "a,b,0\nc,d,1\n", dev=HEADER)
    words = ["loss=mnrl,cosent,cosine", "dataloader.batch_size=1,16", "trainer.precision=fp16,fp32", "data=demo,csv"]
    words += ["optimizer.lr=1e-3,-1", "los=3", f"data.path={folder}", "study.objective=f1"]
    assert sorted(errors("-m", *words)) == sorted(
        [
            f"los: no such key (did you mean loss?); there are: {GROUPS}",
            f"study.objective: no metric f1 of evaluation=sts; there are: {METRICS}",
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


def test_local_workers_must_fit_on_the_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices_module, "cuda_device_count", lambda: 1)
    words = ("-m", "loss=mnrl,cosent", "workers=local", "workers.count=4")
    assert [problem.partition(":")[0] for problem in errors(*words)] == ["workers.count"]
    assert passed(*words[1:], "trainer.device=cpu").workers.count == 4
    assert passed(*words[1:], "workers.per_device=4").workers.per_device == 4
