from __future__ import annotations

import io
import shlex
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from rich.console import Console

from embedsweep.config.identity import config_hash
from embedsweep.config.result import Emissions, TrialResult
from embedsweep.config.study import Choice
from embedsweep.config.trial import DEV_METRICS
from embedsweep.report.ranking import print_best, print_ranking, print_single, rerun_command
from embedsweep.study.opening import open_study
from embedsweep.study.record import Finals
from embedsweep.study.study import Study
from embedsweep.training.folder import write_result
from embedsweep.validation.plan_cells import cell_config
from embedsweep.validation.single import pass_single
from embedsweep.validation.sweep import pass_sweep

COMPLETE = optuna.trial.TrialState.COMPLETE
COST = Emissions(0.002, 0.01, 1.0, "world average", ())


def result(objective: float, *, pruned: bool = False) -> TrialResult:
    dev = dict.fromkeys(DEV_METRICS, objective)
    return TrialResult(objective, dev, {}, {}, {}, 1, 1, COST, pruned, None, None)


def study_of(*outcomes: float | str, name: str = "ranked", words: tuple[str, ...] = (), rates: int = 0) -> Study:
    """A study whose trials ended so: a value, ``pruned``, or a reason to fail; of that many rates, or one for each."""
    lr = ",".join(f"{number + 1}e-4" for number in range(rates or len(outcomes) + 1))
    study = open_study(
        pass_sweep([f"study.name={name}", f"optimizer.lr={lr}", f"study.n_trials={len(outcomes)}", *words])
    )
    for outcome in outcomes:
        trial = study.ask()
        assert trial is not None
        if isinstance(outcome, float):
            study.complete(trial, result(outcome))
        elif outcome == "pruned":
            study.complete(trial, result(0.99, pruned=True))
        else:
            study.fail(trial, outcome)
    return study


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def console() -> tuple[Console, io.StringIO]:
    output = io.StringIO()
    return Console(file=output, width=100), output


def ranking(study: Study) -> list[str]:
    to, output = console()
    print_ranking(to, study)
    return output.getvalue().splitlines()


def test_the_ranking_sorts_by_value_then_number_and_gives_reasons_of_failures() -> None:
    study = study_of(0.5, 0.7, "TrialError: [nan]", -0.2, 0.7, "pruned", 0.0)
    blank, title, head, *lines = ranking(study)
    assert blank == ""
    assert title.strip() == "study ranked: 5 complete, 1 pruned, 1 failed"
    assert head.split() == ["trial", "dev/spearman_cosine", "g", "CO2eq", "Wh", "values"]
    assert [line.split() for line in lines] == [
        ["1", "1", "0.7000", "2", "10", "lr=0.0002"],
        ["2", "4", "0.7000", "2", "10", "lr=0.0005"],
        ["3", "0", "0.5000", "2", "10", "lr=0.0001"],
        ["4", "6", "0.0000", "2", "10", "lr=0.0007"],
        ["5", "3", "-0.2000", "2", "10", "lr=0.0004"],
        ["trial", "2", "failed:", "TrialError:", "[nan]"],
        ["log:", "sweeps/ranked/trials/0002/train.log"],
    ]


def test_pruned_trials_are_counted_by_their_rung() -> None:
    study = study_of(0.5, 0.7, name="rungs", words=("study.pruner=successive_halving", "study.n_trials=6"), rates=6)
    for values in ((0.1,), (0.8, 0.1), (0.1,), ()):
        trial = study.ask()
        assert trial is not None
        for step, value in zip((10, 20), values, strict=False):
            study.report(trial, step, {"dev/spearman_cosine": value}, 80)
        study.complete(trial, result(0.1, pruned=bool(values)))
    assert study.pruned_at == {0.125: 2, 0.25: 1}
    lines = ranking(study)
    assert lines[1].strip() == "study rungs: 3 complete, 3 pruned"
    assert lines[-1] == "pruned: 2 at rung 0.125, 1 at rung 0.25"


def test_several_objectives_are_columns_and_the_pareto_front_is_marked() -> None:
    objectives = "study.objective=[emissions/co2eq_kg,dev/spearman_cosine]"
    study = study_of(name="several", words=(objectives, "study.n_trials=3"), rates=3)
    for spearman, kilograms in ((0.7, 0.0000051234), (0.2, 0.000001), (0.1, 0.000002)):
        trial = study.ask()
        assert trial is not None
        study.complete(trial, replace(result(spearman), emissions=replace(COST, co2eq_kg=kilograms)))
    _, _, head, *lines = ranking(study)
    assert head.split() == ["trial", "emissions/co2eq_kg", "dev/spearman_cosine", "g", "CO2eq", "Wh", "values"]
    assert [line.split() for line in lines[:3]] == [
        ["1*", "1", "1e-06", "0.2000", "0.001", "10", "lr=0.0002"],
        ["2", "2", "2e-06", "0.1000", "0.002", "10", "lr=0.0003"],
        ["3*", "0", "5.123e-06", "0.7000", "0.00512", "10", "lr=0.0001"],
    ]
    assert lines[3] == "* on the Pareto front: no other trial is better in one objective and as good in the others"
    to, output = console()
    print_best(to, study, "embedsweep train", {"test/spearman_cosine": 0.5})
    line = "best: trial 0, emissions/co2eq_kg 5.123e-06, dev/spearman_cosine 0.7000, test/spearman_cosine 0.5000"
    assert line in output.getvalue()


def test_repeated_and_retried_trials_are_marked() -> None:
    study = study_of("no", 0.7, 0.7, 0.6)
    mark = {"reuse": {"original": 1, "replicate": None}, "replicate": {"original": 1, "replicate": 1}}
    trials = [
        optuna.trial.create_trial(value=0.7, user_attrs={"embedsweep.duplicate": mark[kind]}, params={}, state=COMPLETE)
        for kind in ("reuse", "replicate")
    ]
    for trial in trials:
        study._study.add_trial(trial)
    assert study.retry_failed() == [0]
    lines = ranking(study)
    assert lines[1].strip() == "study ranked: 5 complete, 1 failed, 1 waiting"
    assert [" ".join(line.split()) for line in lines[5:7]] == [
        "3 4 0.7000 - - (reused from trial 1)",
        "4 5 0.7000 - - (replicate of trial 1)",
    ]
    assert lines[8].strip() == "trial 0 failed: no; retried as trial 6"
    assert study.failed_trials == []
    best = study.best
    assert best is not None
    assert best.number == 1


def test_a_long_ranking_is_cut_and_gives_the_number_left_out() -> None:
    lines = ranking(study_of(*(number / 100 for number in range(13))))
    assert [line.split()[1] for line in lines[3:13]] == [str(number) for number in range(12, 2, -1)]
    assert lines[13] == "and 3 more"


def test_without_a_complete_trial_there_is_no_best() -> None:
    to, output = console()
    print_best(to, study_of("TrialError: no"), "embedsweep train", None)
    assert output.getvalue() == "no trial is complete\n"


def test_the_best_trial_is_printed_with_scores_command_and_total_cost() -> None:
    study = study_of(0.5, 0.7, "no", words=("loss=mnrl", "trainer.epochs=3"))
    to, output = console()
    print_best(to, study, "python train.py", {"test/spearman_cosine": 0.66666})
    assert output.getvalue().splitlines() == [
        "",
        "best: trial 1, dev/spearman_cosine 0.7000, test/spearman_cosine 0.6667",
        "run it again: python train.py loss=mnrl trainer.epochs=3 optimizer.lr=0.0002",
        "emissions of all trials: 4 g CO2eq, 20 Wh",
    ]
    (study.trial_folder(1) / "model").mkdir(parents=True)
    print_best(to, study, "python train.py", None)
    assert "model: sweeps/ranked/trials/0001/model" in output.getvalue()


def test_what_scoring_test_cost_is_in_the_total() -> None:
    study = study_of(0.5, 0.7)
    cost = replace(COST, co2eq_kg=0.0005, energy_kwh=0.001, duration_s=75.0)
    study.set_finals(Finals(1, {"test/spearman_cosine": 0.6}, {}, {}, 2, cost))
    assert total_of(study) == "emissions of all trials and of scoring test (1m15s): 4.5 g CO2eq, 21 Wh"


def total_of(study: Study) -> str:
    to, output = console()
    print_best(to, study, "embedsweep train", None)
    return output.getvalue().splitlines()[-1]


def test_gpu_hours_are_a_column_and_a_total_if_a_trial_ran_on_a_gpu() -> None:
    study = study_of(0.5, name="on_gpus", rates=4, words=("study.n_trials=4",))
    hours = (0.0016, 0.25, 0.5)
    for value, gpu_h in zip((0.7, 0.6), hours, strict=False):
        trial = study.ask()
        assert trial is not None
        study.complete(trial, replace(result(value), emissions=replace(COST, gpu_h=gpu_h)))
    failed = study.ask()
    assert failed is not None
    study.fail(failed, "no", replace(COST, gpu_h=hours[2]))
    _, _, head, *lines = ranking(study)
    assert head.split()[2:] == ["g", "CO2eq", "Wh", "GPU", "h", "values"]
    assert [line.split()[2:6] for line in lines[:3]] == [
        ["0.7000", "2", "10", "0.0016"],
        ["0.6000", "2", "10", "0.25"],
        ["0.5000", "2", "10", "-"],
    ]
    assert total_of(study) == "emissions of all trials: 8 g CO2eq, 40 Wh, 0.752 GPU h"


def test_a_study_of_an_older_version_is_reported_without_what_it_lacks() -> None:
    study = study_of(name="older", words=("study.n_trials=3",), rates=3)
    for value in (0.7, 0.6):
        trial = study.ask()
        assert trial is not None
        study._open[trial.number].set_user_attr("emissions_kg", 0.002)
        study._study.tell(trial.number, value)
    _, _, head, *lines = ranking(study)
    assert head.split() == ["trial", "dev/spearman_cosine", "g", "CO2eq", "values"]
    assert lines[0].split() == ["1", "0", "0.7000", "2", "lr=0.0001"]
    assert total_of(study) == "emissions of all trials: 4 g CO2eq"
    trial = study.ask()
    assert trial is not None
    study.complete(trial, result(0.5))
    assert ranking(study)[3].split() == ["1", "0", "0.7000", "2", "-", "lr=0.0001"]
    assert total_of(study) == "emissions of all trials: 6 g CO2eq, 10 Wh (1 of 3 trials)"


def test_estimated_energy_is_marked() -> None:
    study = study_of(0.5, 0.7, name="estimated")
    assert total_of(study).endswith(" Wh")
    for how, is_marked in (("estimated (load x", True), ("assumed (half of", True), ("", False)):
        words = (f"cpu power {how} TDP of 8 W, no RAPL)",) if how else ("ram power estimated (not measured)",)
        study.trial_folder(1).mkdir(parents=True, exist_ok=True)
        write_result(study.trial_folder(1), replace(result(0.7), emissions=replace(COST, unmeasured=words)))
        assert total_of(study).endswith(" Wh (CPU power estimated)") is is_marked


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"optimizer.lr": 1e-05}, "x a=1 optimizer.lr=1e-05"),
        ({"optimizer.lr": 0.1 + 0.2}, "x a=1 optimizer.lr=0.30000000000000004"),
        ({"data.convert.both_directions": True, "data.limit": None}, None),
        ({"data.path": "my (1)/é"}, "x a=1 'data.path=\"my (1)/é\"'"),
        ({"dataloader.batch_size": 16, "loss": "mnrl"}, "x a=1 dataloader.batch_size=16 loss=mnrl"),
    ],
)
def test_values_are_written_as_the_command_line_reads_them(params: dict[str, Choice], expected: str | None) -> None:
    expected = expected or "x a=1 data.convert.both_directions=true data.limit=null"
    assert rerun_command("x", ["a=1"], params) == expected


SWEEPS = [
    ["optimizer.lr=1e-5,0.30000000000000004"],
    ["loss=mnrl,cosent", "loss.scale=17.5", "data.convert.positive_threshold=0.55"],
    ["data.convert.both_directions=true,false", "loss=mnrl"],
    ["data.limit=null,700", "trainer.early_stopping.patience=3"],
    ["dataloader.batch_size=range(16,49,16)", "dataloader.micro_batch_size=null,8", "loss=cosine"],
    ["search=lr_warmup_batch", "loss=mnrl,cosent", "study.n_trials=3", "study.sampler=random"],
    ["loss@loss.inner=mnrl,cosent", "loss=matryoshka,adaptive_layer", "loss.inner.scale=17.5"],
    ["optimizer.lr=1e-5,1e-3", "study.pruner=median", "study.pruning.rungs=[0.1,0.7]"],
    ["optimizer.lr=1e-5,1e-3", "study.objective=[emissions/co2eq_kg,dev/pearson_max]"],
    ["model.pooling=mean,cls", "+data.delimiter='|'"],
]


@pytest.mark.parametrize("words", SWEEPS, ids=lambda words: words[0])
def test_the_printed_command_gives_the_same_configuration(words: list[str]) -> None:
    words = [word for word in words if not word.startswith("+")] + ["trainer.device=cpu"]
    study = open_study(pass_sweep(words))
    checked = 0
    while (trial := study.ask()) is not None:
        command = rerun_command("python train.py", study.fixed, trial.params)
        program, script, *again = shlex.split(command)
        assert (program, script) == ("python", "train.py")
        assert config_hash(pass_single(again).config) == config_hash(cell_config(study.plan, trial.params))
        study.complete(trial, result(0.5))
        checked += 1
    assert checked >= 2


def test_words_with_spaces_and_quotes_survive_the_shell(tmp_path: Path) -> None:
    folder = tmp_path / "my pairs"
    folder.mkdir()
    rows = [f"the {word} runs|a {word} ran|{score}" for score, word in enumerate(("dog", "cat", "fox", "cow"))]
    for split in ("train", "dev", "test"):
        (folder / f"{split}.csv").write_text("\n".join(["sentence1|sentence2|score", *rows]), encoding="utf-8")
    words = ["data=csv", f"data.path='{folder}'", "data.delimiter='|'", "dataloader.batch_size=2,4"]
    study = open_study(pass_sweep([*words, "trainer.device=cpu"]))
    trial = study.ask()
    assert trial is not None
    again = shlex.split(rerun_command("x", study.fixed, trial.params))[1:]
    assert config_hash(pass_single(again).config) == config_hash(cell_config(study.plan, trial.params))


def test_a_single_run_is_printed_with_both_splits_and_its_cost() -> None:
    to, output = console()
    test = {name.replace("dev/", "test/"): 0.25 for name in DEV_METRICS}
    done = TrialResult(0.5, dict.fromkeys(DEV_METRICS, 0.5), test, {}, {}, 1, 1, COST, False, None, None)
    print_single(to, done, Path("sweeps/single/abc"), "dev/spearman_cosine")
    assert output.getvalue().splitlines() == [
        "",
        "pearson_cosine: dev 0.5000, test 0.2500",
        "spearman_cosine: dev 0.5000, test 0.2500",
        "spearman_max: dev 0.5000, test 0.2500",
        "emissions: 2 g CO2eq, 10 Wh (electricity: world average)",
        "model: sweeps/single/abc/model",
        "log: sweeps/single/abc/train.log",
    ]
    cost = replace(COST, gpu_h=0.125, unmeasured=("cpu power assumed (half of a TDP of 8 W, no RAPL)",))
    print_single(to, replace(done, emissions=cost), Path("sweeps/single/abc"), "dev/spearman_cosine")
    line = "emissions: 2 g CO2eq, 10 Wh, 0.125 GPU h (electricity: world average; CPU power estimated)"
    assert line in output.getvalue()


@pytest.mark.parametrize(("before", "is_printed"), [(0.6, True), (0.5, True), (0.49, False), (None, False)])
def test_a_result_that_is_not_better_than_the_untrained_model_is_named(before: float | None, is_printed: bool) -> None:
    untrained = {} if before is None else {"dev/spearman_cosine": before}
    done = replace(result(0.5), before=untrained)
    study = study_of(0.5)
    folder = study.trial_folder(0)
    folder.mkdir(parents=True, exist_ok=True)
    write_result(folder, done)
    to, output = console()
    print_best(to, study, "embedsweep train", None)
    assert ("the best trial is not better than the untrained model: dev/spearman_cosine was" in output.getvalue()) is (
        is_printed
    )
    to, output = console()
    test = {name.replace("dev/", "test/"): 0.25 for name in DEV_METRICS}
    scores = {name: before for name in (*DEV_METRICS, *test) if before is not None}
    single = replace(done, dev=dict.fromkeys(DEV_METRICS, 0.5), test=test, before=scores)
    print_single(to, single, Path("x"), "dev/spearman_cosine")
    assert ("the model is not better than the untrained model" in output.getvalue()) is is_printed
