from __future__ import annotations

import io
import shlex
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from rich.console import Console

from embedsweep.config.identity import config_hash
from embedsweep.config.result import TrialResult
from embedsweep.config.study import Choice
from embedsweep.console import short_params
from embedsweep.report.export import tree_of
from embedsweep.report.ranking import SHOWN, print_best, print_ranking, print_single, rerun_command
from embedsweep.report.results import study_results
from embedsweep.study.leases import LEASE
from embedsweep.study.opening import open_study
from embedsweep.study.study import Study
from embedsweep.study.test_scores import TestScores
from embedsweep.validation.plan_cells import cell_config
from embedsweep.validation.single import pass_single
from embedsweep.validation.sweep import pass_sweep
from tests.configs import DEV_METRICS
from tests.report.studies import COST, Outcome, finish, keep_scores, result, study_of

COMPLETE = optuna.trial.TrialState.COMPLETE
SINGLE = pass_single([]).config
MEASURED = "(the machine's energy, CPU power measured; electricity: world average)"


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def console(width: int = 100) -> tuple[Console, io.StringIO]:
    output = io.StringIO()
    return Console(file=output, width=width), output


def ranking(study: Study, most: int | None = SHOWN, width: int = 100) -> list[str]:
    to, output = console(width)
    print_ranking(to, study_results(study), most)
    return output.getvalue().splitlines()


def best(study: Study, program: str = "embedsweep train") -> list[str]:
    to, output = console()
    print_best(to, study_results(study), program)
    return output.getvalue().splitlines()


def cells(lines: list[str]) -> list[list[str]]:
    return [line.split() for line in lines]


def test_the_ranking_sorts_by_value_then_number_and_gives_reasons_of_failures() -> None:
    study = study_of(0.5, 0.7, "TrialError: [nan]", -0.2, 0.7, "pruned", 0.0)
    blank, title, second_blank, head, *lines = ranking(study)
    assert (blank, second_blank) == ("", "")
    assert title == "study ranked: 5 complete, 1 pruned, 1 failed"
    assert head.split() == ["trial", "dev/spearman_cosine", "training", "g", "CO2eq", "Wh", "values"]
    assert cells(lines) == [
        ["1", "1", "0.7000", "1s", "2", "10", "lr=0.0002"],
        ["2", "4", "0.7000", "1s", "2", "10", "lr=0.0005"],
        ["3", "0", "0.5000", "1s", "2", "10", "lr=0.0001"],
        ["4", "6", "0.0000", "1s", "2", "10", "lr=0.0007"],
        ["5", "3", "-0.2000", "1s", "2", "10", "lr=0.0004"],
        ["trial", "2", "failed:", "TrialError:", "[nan]"],
        ["log:", "sweeps/ranked/trials/0002/train.log"],
    ]


def test_a_trial_whose_worker_died_is_interrupted_and_not_running() -> None:
    study = study_of(0.5, words=("study.n_trials=2",))
    trial = study.ask()
    assert trial is not None
    assert ranking(study)[1] == "study ranked: 1 complete, 1 running"
    study._open[trial.number].set_user_attr(LEASE, None)
    assert ranking(study)[1] == "study ranked: 1 complete, 1 interrupted"
    assert ["1", "interrupted", "-", "lr=0.0002"] in cells(ranking(study, None))


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
    assert lines[1] == "study rungs: 3 complete, 3 pruned"
    assert lines[-1] == "pruned: 2 at rung 0.125, 1 at rung 0.25"


def test_several_objectives_are_columns_and_the_pareto_front_is_marked() -> None:
    objectives = "study.objective=[emissions/co2eq_kg,dev/spearman_cosine]"
    study = study_of(
        result(0.7, co2eq_kg=0.0000051234),
        result(0.2, co2eq_kg=0.000001),
        result(0.1, co2eq_kg=0.000002),
        name="several",
        words=(objectives,),
        rates=3,
    )
    _, _, _, head, *lines = ranking(study)
    assert head.split() == ["trial", "emissions/co2eq_kg", "dev/spearman_cosine", "training", "Wh", "values"]
    assert cells(lines[:3]) == [
        ["1*", "1", "1e-06", "0.2000", "1s", "10", "lr=0.0002"],
        ["2", "2", "2e-06", "0.1000", "1s", "10", "lr=0.0003"],
        ["3*", "0", "5.123e-06", "0.7000", "1s", "10", "lr=0.0001"],
    ]
    assert lines[3] == "* on the Pareto front: no other trial is better in one objective and as good in the others"
    line = "best: trial 0, emissions/co2eq_kg 5.123e-06, dev/spearman_cosine 0.7000, test/spearman_cosine 0.5000"
    study.set_test_scores(TestScores(0, {"test/spearman_cosine": 0.5}, {}, {}, 3, None))
    assert line in best(study)


def test_repeated_and_retried_trials_are_marked() -> None:
    study = study_of("no", 0.7, 0.6)
    reused = optuna.trial.create_trial(
        value=0.7, user_attrs={"embedsweep.duplicate": {"original": 1, "replicate": None}}, params={}, state=COMPLETE
    )
    study._study.add_trial(reused)
    assert study.retry_failed() == [0]
    lines = ranking(study)
    assert lines[1] == "study ranked: 3 complete, 1 failed, 1 waiting"
    assert cells(lines[4:6]) == [
        ["1", "1", "0.7000", "1s", "2", "10", "lr=0.0002", "(also", "trial", "3)"],
        ["2", "2", "0.6000", "1s", "2", "10", "lr=0.0003"],
    ]
    assert lines[6] == "trial 0 failed: no; retried as trial 4"
    assert study.failed_trials == []
    assert study.best is not None
    assert study.best.number == 1


def test_a_long_ranking_is_cut_and_gives_the_number_left_out() -> None:
    study = study_of(*(number / 100 for number in range(13)), *["no"] * 5, "pruned")
    lines = ranking(study)
    assert [line.split()[1] for line in lines[4:14]] == [str(number) for number in range(12, 2, -1)]
    assert lines[14] == "and 3 more: embedsweep show ranked --all"
    assert [line.split()[:2] for line in lines[15::2]] == [["trial", str(number)] for number in (13, 14, 15)] + [
        ["and", "2"]
    ]
    lines = ranking(study, most=None)
    assert [line.split()[1] for line in lines[4:17]] == [str(number) for number in range(12, -1, -1)]
    assert lines[18].split() == ["trial", "state", "dev/spearman_cosine", "values"]
    assert cells(lines[19:]) == [
        *([str(number), "FAIL", "-", f"lr={(number + 1) / 10000:.3g}", "(no)"] for number in range(13, 18)),
        ["18", "PRUNED", "-", "lr=0.0019"],
    ]


def test_options_of_a_swept_group_are_compared_before_the_ranking() -> None:
    study = finish(open_study(pass_sweep(["study.name=options", "loss=mnrl,cosent", "optimizer.lr=1e-4,2e-4"])), [])
    finish(study, [result(0.5, steps=8), result(0.7, steps=16), "no", "pruned"])
    lines = ranking(study)
    assert cells(lines[3:6]) == [
        ["loss", "trials", "complete", "pruned", "failed", "best", "median", "steps", "g", "CO2eq"],
        ["mnrl", "2", "2", "0", "0", "0.7000", "0.6000", "12", "2"],
        ["cosent", "2", "0", "1", "1", "-", "-", "-", "-"],
    ]
    assert "best loss: mnrl; cosent has no complete trial" in best(study)
    single = finish(open_study(pass_sweep(["study.name=once", "loss=mnrl,cosent"])), [0.5, 0.6])
    assert ranking(single)[3].split()[0] == "trial"  # a table of one trial each would say nothing more


def test_an_interval_stands_beside_each_score_and_a_dash_where_it_is_not_known() -> None:
    study = study_of(result(0.7, interval=(0.65, 0.7412)), 0.5)
    _, _, _, head, *lines = ranking(study)
    assert "95 % interval" in head
    assert cells(lines) == [
        ["1", "0", "0.7000", "0.6500", "to", "0.7412", "1s", "2", "10", "lr=0.0001"],
        ["2", "1", "0.5000", "-", "1s", "2", "10", "lr=0.0002"],
    ]
    score = "dev/spearman_cosine 0.7000 (95 % interval over dev items 0.6500 to 0.7412, one seed)"
    assert f"best: trial 0, {score}" in best(study)


def test_of_several_objectives_the_interval_stands_beside_the_one_it_is_of() -> None:
    words = ("study.objective=[dev/spearman_cosine,emissions/co2eq_kg]",)
    interval = "(95 % interval over dev items 0.6500 to 0.7412, one seed)"
    line = f"best: trial 0, dev/spearman_cosine 0.7000 {interval}, emissions/co2eq_kg 0.002"
    assert line in best(study_of(result(0.7, interval=(0.65, 0.7412)), 0.5, words=words))


def test_seeds_of_a_configuration_are_one_row_with_mean_spread_and_number() -> None:
    words = ["study.name=seeds", "optimizer.lr=1e-4,2e-4", "trainer.seed=1,2"]
    study = finish(open_study(pass_sweep(words)), [result(0.5, interval=(0.4, 0.6)), 0.7, 0.65, 0.63])
    lines = ranking(study)[4:]
    assert cells(lines) == [
        ["1", "2,3", "0.6400", "±", "0.0141", "2", "seeds", "1s", "2", "10", "lr=0.0002"],
        ["2", "0,1", "0.6000", "±", "0.1414", "2", "seeds", "1s", "2", "10", "lr=0.0001"],
    ]
    printed = best(study)
    assert "best mean over seeds: trials 2 and 3, 0.6400 ± 0.0141 over 2 seeds" in printed
    assert "±: sample standard deviation over the seeds of a configuration" in printed


def test_what_became_of_negatives_is_told_where_they_are_swept_or_some_were_drawn_at_random() -> None:
    def mined(value: float, counts: str) -> TrialResult:
        return replace(result(value), conversion=f"positive pairs: all 9; hard negatives: {counts} (1 for each of 9)")

    words = ["loss=mnrl", "data=demo_retrieval", "evaluation.dev=demo-dev", "evaluation.test=demo-test"]
    swept = open_study(pass_sweep([*words, "study.name=swept", "data.negatives.count=0,1,2"]))
    outcomes: list[Outcome] = [0.5, mined(0.6, "9 found, 0 repeated"), mined(0.7, "17 found, 1 repeated")]
    lines = ranking(finish(swept, outcomes), width=200)[-3:]
    assert [line.split("count=")[1] for line in lines] == [
        "2 (negatives: 17 found, 1 repeated)",
        "1 (negatives: 9 found, 0 repeated)",
        "0",
    ]
    drawn = mined(0.6, "8 found, 0 repeated, drawn at random for 1 question")
    lines = ranking(study_of(mined(0.7, "9 found, 0 repeated"), drawn), width=200)[-2:]
    assert [line.split("lr=")[1] for line in lines] == [
        "0.0001",
        "0.0002 (negatives: 8 found, 0 repeated, drawn at random for 1 question)",
    ]


@pytest.mark.parametrize("width", [80, 100])
def test_nothing_is_cut_off_or_wider_than_the_terminal(width: int) -> None:
    words = ["study.name=wide", "loss=mnrl,cosent", "search=full", "study.n_trials=4", "study.sampler=random"]
    several = result(0.7, interval=(0.65, 0.7412))
    gpu = replace(several, emissions=replace(several.emissions, gpu_h=0.125, duration_s=4000.0))
    study = finish(open_study(pass_sweep(words)), [gpu, gpu, gpu, gpu])
    lines = ranking(study, width=width)
    assert max(map(len, lines)) <= width
    text = " ".join(" ".join(lines).split())
    for trial in study.trials:
        assert short_params(study.params_of(trial)) in text


def test_without_a_complete_trial_there_is_no_best() -> None:
    assert best(study_of("TrialError: no")) == ["no trial is complete"]


def test_the_best_trial_is_printed_with_scores_command_and_total_cost() -> None:
    study = study_of(0.5, 0.7, "no", words=("loss=mnrl", "trainer.epochs=3"))
    keep_scores(study, (0.5, 0.2))
    study.set_test_scores(TestScores(1, {"test/spearman_cosine": 0.66666}, {}, {}, 3, None))
    assert best(study, "python train.py") == [
        "",
        "best: trial 1, dev/spearman_cosine 0.7000, test/spearman_cosine 0.6667",
        "trial 1 is better than trial 0 on other dev items, too, as far as these ones show",
        "another seed moves scores, too: study.finals.top=2 trains the best again with others to show how much",
        "run it again: python train.py loss=mnrl trainer.epochs=3 optimizer.lr=0.0002",
        f"cost of all trials: 2s, 4 g CO2eq, 20 Wh {MEASURED}",
    ]
    (study.trial_folder(1) / "model").mkdir(parents=True)
    assert "model: sweeps/ranked/trials/0001/model" in best(study)


def test_what_scoring_test_cost_is_in_the_total() -> None:
    study = study_of(0.5, 0.7)
    cost = replace(COST, co2eq_kg=0.0005, energy_kwh=0.001, duration_s=75.0)
    study.set_test_scores(TestScores(1, {"test/spearman_cosine": 0.6}, {}, {}, 2, cost))
    assert best(study)[-1] == f"cost of all trials and of scoring test (1m15s): 1m17s, 4.5 g CO2eq, 21 Wh {MEASURED}"


def test_what_a_budget_was_expected_to_buy_stands_beside_what_it_bought() -> None:
    sweep = pass_sweep(("study.name=bought", "optimizer.lr=interval(1e-4,1e-3)", "study.budget_hours=8"))
    quote = {"n_trials": 3, "workers": 2, "pruned_seconds": 90.0, "energy_kwh": 0.0045, "co2eq_kg": 0.0012}
    study = open_study(sweep, {"budget_hours": 8.0, **quote})
    longer = replace(result(0.7), emissions=replace(COST, duration_s=100.0))
    finish(study, [longer, longer])
    spent = "quoted for 3 trials by 2 workers: 1m30s, 1.2 g CO2eq, 4.5 Wh; spent on 2 trials: 1m40s, 4 g CO2eq, 20 Wh"
    assert " ".join(best(study)).endswith(f"20 Wh {MEASURED} {spent}")
    assert tree_of(study_results(study))["quote"] == {"budget_hours": 8.0, **quote}
    assert tree_of(study_results(study_of(0.5)))["quote"] is None


def test_gpu_hours_are_a_column_and_a_total_if_a_trial_ran_on_a_gpu() -> None:
    on_gpu = [
        replace(result(value), emissions=replace(COST, gpu_h=hours)) for value, hours in ((0.7, 0.0016), (0.6, 0.25))
    ]
    study = study_of(0.5, *on_gpu, name="on_gpus", words=("study.n_trials=4",), rates=4)
    failed = study.ask()
    assert failed is not None
    study.fail(failed, "no", replace(COST, gpu_h=0.5))
    _, _, _, head, *lines = ranking(study)
    assert head.split()[2:] == ["training", "g", "CO2eq", "Wh", "GPU", "h", "values"]
    assert [line.split()[2:7] for line in lines[:3]] == [
        ["0.7000", "1s", "2", "10", "0.0016"],
        ["0.6000", "1s", "2", "10", "0.25"],
        ["0.5000", "1s", "2", "10", "-"],
    ]
    assert best(study)[-1] == f"cost of all trials: 3s (3 of 4), 8 g CO2eq, 40 Wh, 0.752 GPU h {MEASURED}"


def test_a_study_of_an_older_version_is_reported_without_what_it_lacks() -> None:
    study = study_of(name="older", words=("study.n_trials=3",), rates=3)
    for value in (0.7, 0.6):
        trial = study.ask()
        assert trial is not None
        study._open[trial.number].set_user_attr("emissions_kg", 0.002)
        study._study.tell(trial.number, value)
    _, _, _, head, *lines = ranking(study)
    assert head.split() == ["trial", "dev/spearman_cosine", "g", "CO2eq", "values"]
    assert lines[0].split() == ["1", "0", "0.7000", "2", "lr=0.0001"]
    assert best(study)[-1] == "cost of all trials: 4 g CO2eq"
    assert any(line.startswith("trial 0 is not compared with trial 1: ") for line in best(study))
    finish(study, [0.5])
    assert ranking(study)[4].split() == ["1", "0", "0.7000", "-", "2", "-", "lr=0.0001"]
    assert best(study)[-1] == f"cost of all trials: 1s (1 of 3), 6 g CO2eq, 10 Wh (1 of 3) {MEASURED}"


def test_estimated_energy_is_marked() -> None:
    for how, is_marked in (("estimated (load x", True), ("assumed (half of", True), ("", False)):
        words = (f"cpu power {how} TDP of 8 W, no RAPL)",) if how else ("ram power estimated (not measured)",)
        done = replace(result(0.7), emissions=replace(COST, unmeasured=words))
        study = study_of(done, name=f"estimated{len(how)}")
        power = "estimated" if is_marked else "measured"
        assert best(study)[-1].endswith(f" Wh (the machine's energy, CPU power {power}; electricity: {COST.country})")


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
    print_single(to, done, Path("sweeps/single/abc"), SINGLE)
    assert output.getvalue().splitlines() == [
        "",
        "pearson_cosine: dev 0.5000, test 0.2500",
        "spearman_cosine: dev 0.5000, test 0.2500",
        "spearman_max: dev 0.5000, test 0.2500",
        f"emissions: 2 g CO2eq, 10 Wh {MEASURED}",
        "model: sweeps/single/abc/model",
        "log: sweeps/single/abc/train.log",
    ]
    cost = replace(COST, gpu_h=0.125, unmeasured=("cpu power assumed (half of a TDP of 8 W, no RAPL)",))
    print_single(to, replace(done, emissions=cost), Path("sweeps/single/abc"), SINGLE)
    assert "95 % interval" not in output.getvalue()
    print_single(to, replace(done, interval=(0.4, 0.5556)), Path("sweeps/single/abc"), SINGLE)
    line = "dev/spearman_cosine: 95 % interval over dev items 0.4000 to 0.5556, one seed"
    assert line in output.getvalue().splitlines()
    note = MEASURED.replace("measured", "estimated")
    assert f"emissions: 2 g CO2eq, 10 Wh, 0.125 GPU h {note}" in output.getvalue()


def test_a_single_run_is_printed_by_the_metrics_of_its_family() -> None:
    words = ["loss=mnrl", "data=demo_retrieval", "evaluation=retrieval", "evaluation.benchmarks=[demo-test]"]
    config = pass_single([*words, "evaluation.watch=[demo-dev]", "evaluation.similarities=[dot]"]).config
    metrics = config.evaluation.metrics
    dev = {f"{split}/{name}": value for split, value in (("dev", 0.5), ("dev-64", 0.4)) for name in metrics}
    test = {f"{split}/{name}": 0.25 for split in ("test", "test-64") for name in metrics}
    benchmarks = {"demo-test/spearman_cosine": 0.3}
    dev["dev/demo-dev/spearman_cosine"] = 0.6
    done = TrialResult(0.5, dev, test, {}, benchmarks, 1, 1, COST, False, None, None)
    to, output = console()
    print_single(to, done, Path("x"), config)
    assert output.getvalue().splitlines()[1:8] == [
        "ndcg_at_10_dot: dev 0.5000, test 0.2500",
        "mrr_at_10_dot: dev 0.5000, test 0.2500",
        "recall_at_10_dot: dev 0.5000, test 0.2500",
        "accuracy_at_1_dot: dev 0.5000, test 0.2500",
        "ndcg_at_10_dot of 64 dimensions: dev 0.4000, test 0.2500",
        "spearman_cosine on demo-dev: 0.6000",
        "spearman_cosine on demo-test: 0.3000",
    ]


@pytest.mark.parametrize(("before", "is_printed"), [(0.6, True), (0.5, True), (0.49, False), (None, False)])
def test_a_result_that_is_not_better_than_the_untrained_model_is_named(before: float | None, is_printed: bool) -> None:
    untrained = {} if before is None else {"dev/spearman_cosine": before}
    done = replace(result(0.5), before=untrained)
    lines = best(study_of(done))
    warning = "the best trial is not better than the untrained model: dev/spearman_cosine was"
    assert any(warning in line for line in lines) is is_printed
    line = "untrained model: dev/spearman_cosine 0.4900; the best trial is 0.0100 above it"
    assert (line in lines) is (before == 0.49)
    to, output = console()
    test = {name.replace("dev/", "test/"): 0.25 for name in DEV_METRICS}
    scores = {name: before for name in (*DEV_METRICS, *test) if before is not None}
    single = replace(done, dev=dict.fromkeys(DEV_METRICS, 0.5), test=test, before=scores)
    print_single(to, single, Path("x"), SINGLE)
    assert ("the model is not better than the untrained model" in output.getvalue()) is is_printed


def test_a_single_run_of_another_family_is_printed_by_its_own_metrics_and_those_of_each_benchmark() -> None:
    to, output = console()
    words = ["data=demo_retrieval", "loss=mnrl", "evaluation=retrieval", "study.objective=dev/mrr_at_10_dot"]
    further = ["evaluation.watch=[demo-dev]", "evaluation.benchmarks=[demo-test,demo-dev]", "evaluation.dims=[64]"]
    config = pass_single([*words, *further]).config
    metrics = config.evaluation.metrics
    dev = {f"dev/{name}": 0.5 for name in metrics} | {"dev-64/ndcg_at_10_cosine": 0.4, "dev/demo-dev/pearson_dot": 0.1}
    dev |= {"dev/demo-dev/spearman_cosine": 0.3}
    test = {name.replace("dev", "test", 1): value for name, value in dev.items() if "demo-dev" not in name}
    before = {"dev/ndcg_at_10_cosine": 0.25, "dev/demo-dev/spearman_cosine": 0.35}
    benchmarks = {"demo-test/spearman_cosine": 0.2, "demo-dev/spearman_cosine": 0.3}
    done = TrialResult(0.5, dev, test, before, benchmarks, 1, 1, COST, False, None, None)
    print_single(to, done, Path("sweeps/single/abc"), config)
    assert output.getvalue().splitlines()[1:-3] == [
        "ndcg_at_10_cosine: dev 0.2500 -> 0.5000, test 0.5000",
        "mrr_at_10_cosine: dev 0.5000, test 0.5000",
        "recall_at_10_cosine: dev 0.5000, test 0.5000",
        "accuracy_at_1_cosine: dev 0.5000, test 0.5000",
        "ndcg_at_10_cosine of 64 dimensions: dev 0.4000, test 0.4000",
        "spearman_cosine on demo-dev: 0.3500 -> 0.3000",
        "spearman_cosine on demo-test: 0.2000",
    ]
