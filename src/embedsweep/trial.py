"""One trial, from its configuration to its result.

Owns the story and the trial's folder. Knows neither Optuna nor Hydra: it is given a configuration, a folder, a run to
record itself in and somebody to report to. A trial that cannot record itself has failed.

    config.yaml  train.log  emissions.csv  scores/dev.parquet  checkpoints/  model/  result.json
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from embedsweep.card import write_card
from embedsweep.checkpoints import CHECKPOINTS, Checkpoints
from embedsweep.data import load_splits
from embedsweep.data.pairs import Splits
from embedsweep.emissions import EmissionsMeter
from embedsweep.losses import InBatch, in_batch
from embedsweep.schema import Decision, Emissions, EmissionsConfig, TrialConfig, TrialResult
from embedsweep.secrets import redact_tree
from embedsweep.tracking import TrialTracker
from embedsweep.train_log import train_log
from embedsweep.training_data import conversion_of, data_warnings, training_parts

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from embedsweep.group import Group
    from embedsweep.training import Outcome

RESULT = "result.json"
MODEL = "model"

Report = Callable[[int, Mapping[str, float]], Decision]
Progress = Callable[[int, int], None]


def run_trial(
    config: TrialConfig,
    folder: Path,
    run: TrialTracker,
    report: Report,
    progress: Progress,
    emissions: EmissionsConfig,
    *,
    single: bool,
    group: Group | None = None,
) -> TrialResult:
    """Trains, selects, scores and records one trial; goes on where an earlier attempt in ``folder`` was cut off.

    Args:
        config: all that decides the result.
        folder: the trial's own.
        run: its MLflow run.
        report: is told dev metrics at each evaluation and says how to go on.
        progress: is told how many optimizer steps of how many are done.
        emissions: whose electricity is used.
        single: whether this is a run by itself, which is scored on test and whose model is recorded at once.
        group: the processes that train it together; None trains it in this one.

    Raises:
        TrialError: no result can be had (a loss or score that is not a number).
        TrackingError: MLflow does not take it.
    """
    done = read_result(folder)
    if done is not None:
        return done
    folder.mkdir(parents=True, exist_ok=True)
    with train_log(folder / "train.log"):
        try:
            with EmissionsMeter(emissions, folder / "emissions.csv") as meter:
                return _run(config, folder, run, report, progress, meter, single=single, group=group)
        except Exception:
            logging.getLogger(__name__).exception("the trial failed")
            raise


def _run(
    config: TrialConfig,
    folder: Path,
    run: TrialTracker,
    report: Report,
    progress: Progress,
    meter: EmissionsMeter,
    *,
    single: bool,
    group: Group | None,
) -> TrialResult:
    from transformers import set_seed

    from embedsweep.evaluation import write_scores
    from embedsweep.models import build_model, count_tokens, merge_adapters, torch_device
    from embedsweep.scoring import dev_evaluator, score_dev, score_further, score_test
    from embedsweep.tasks import build_task
    from embedsweep.training import train

    _write_config(folder / "config.yaml", config)
    splits = load_splits(config.data, config.evaluation)
    set_seed(config.trainer.seed)  # of layers the base model lacks; the trainer sets it again for what it does
    model = build_model(config.model, torch_device(config.trainer.device))
    parts = training_parts(config, splits, lambda texts: count_tokens(model, texts))
    _record_data(run, config, splits, conversion_of(parts), group)
    before: dict[str, float] = {}
    if config.evaluation.before:
        reports = {**score_test(config, model), **score_further(config, model)} if single else {}
        before = {**score_dev(config, model), **reports}
        run.log_metrics(0, before)

    tasks = {name: build_task(config, part, model, processes=1) for name, part in parts.items()}
    evaluator = dev_evaluator(config, model)
    watcher = _Recorder(run, report, progress, meter)
    outcome = train(config, model, tasks, evaluator, Checkpoints(folder / CHECKPOINTS), watcher, group)
    merge_adapters(model)

    write_scores(folder / "scores" / "dev.parquet", splits.dev, evaluator)
    result = TrialResult(
        objective=outcome.dev[config.objective],
        dev=dict(outcome.dev),
        test=score_test(config, model) if single else {},
        before=before,
        benchmarks=score_further(config, model) if single else {},
        best_step=outcome.best_step,
        steps=outcome.steps,
        emissions=meter.stop(),
        pruned=outcome.pruned,
        conversion=conversion_of(parts),
    )
    _save_model(model, folder / MODEL, outcome)
    selection = "It was run once, by itself." if single else "It is one trial of a study."
    main, *also = parts.items()
    trained = replace(splits, train=main[1].examples)
    further = {name: part.examples for name, part in also}
    write_card(folder / MODEL, config, result, trained, further, selection, folder / "emissions.csv")
    _record_files(run, folder, single=single)
    figures = _figures(config, outcome, result.emissions)
    run.log_metrics(outcome.steps, {**result.dev, **result.test, **result.benchmarks, **figures})
    _write_result(folder, result)
    return result


class _Recorder:
    """Passes what a training tells on to MLflow and to whoever runs the trial."""

    def __init__(self, run: TrialTracker, report: Report, progress: Progress, meter: EmissionsMeter) -> None:
        self._run = run
        self._report = report
        self._meter = meter
        self.progressed = progress

    def trained(self, points: Sequence[tuple[int, Mapping[str, float]]]) -> None:
        self._run.log_history(points)

    def evaluated(self, step: int, metrics: Mapping[str, float], *, last: bool) -> Decision:
        decision = self._report(step, metrics)
        # What stands at the final step is the result, that of the best checkpoint; it is logged when it is known.
        if not last and decision is Decision.GO_ON:
            self._run.log_metrics(step, metrics)
        self._meter.flush()
        return decision


def _write_config(path: Path, config: TrialConfig) -> None:
    # The JSON round trip turns tuples into lists, which YAML can write plainly.
    tree = redact_tree(json.loads(json.dumps(asdict(config))))
    path.write_text(yaml.safe_dump(tree, sort_keys=False, allow_unicode=True), encoding="utf-8")


def _record_data(
    run: TrialTracker, config: TrialConfig, splits: Splits, conversion: str | None, group: Group | None
) -> None:
    for context, split in (("train", splits.train), ("dev", splits.dev), ("test", splits.test)):
        run.log_dataset(f"{config.data.name}-{context}", splits.digest, split.origin, context)
    from embedsweep.training_arguments import cached_micro_batch

    loader = config.dataloader
    micro_batch_size = loader.micro_batch_size or loader.batch_size
    losses = (config.loss, *(also.loss for also in config.data.also.values()))
    independent = all(in_batch(loss) is InBatch.INDEPENDENT for loss in losses)
    whole = independent or cached_micro_batch(config) is not None
    run.set_tags(
        {
            "embedsweep.conversion": conversion or "none",
            "embedsweep.audit": "; ".join(data_warnings(config)) or "none",
            "embedsweep.processes": str(group.size if group is not None else 1),
            "embedsweep.micro_batch_size": str(micro_batch_size),
            "embedsweep.loss_batch_size": str(loader.batch_size if whole else micro_batch_size),
        }
    )


def _figures(config: TrialConfig, outcome: Outcome, cost: Emissions) -> dict[str, float]:
    return {
        "emissions/co2eq_kg": cost.co2eq_kg,
        "emissions/energy_kwh": cost.energy_kwh,
        "emissions/duration_s": cost.duration_s,
        "time/train_s": outcome.train_s,
        "time/eval_s": outcome.eval_s,
        "throughput/examples_per_s": outcome.steps * config.dataloader.batch_size / outcome.train_s,
    }


def _save_model(model: SentenceTransformer, folder: Path, outcome: Outcome) -> None:
    """Saves safetensors weights and the library's card, with the training log of all attempts in it."""
    model.model_card_data.training_logs = _card_log(outcome.log)
    model.model_card_data.set_best_model_step(outcome.best_step)
    model.save_pretrained(str(folder), safe_serialization=True)


def _card_log(log: Sequence[Mapping[str, float]]) -> list[dict[str, float]]:
    """The trainer's whole log in the form of the library's card; its own holds the last attempt only."""
    rows: dict[int, dict[str, float]] = {}
    for entry in log:
        row = rows.setdefault(int(entry["step"]), {"Epoch": entry.get("epoch", 0.0), "Step": entry["step"]})
        if "loss" in entry:
            row["Training Loss"] = entry["loss"]
        row |= {key.removeprefix("eval_"): entry[key] for key in entry if key.startswith("eval_dev_spearman_cosine")}
    return [row for row in rows.values() if len(row) > 2]


def _record_files(run: TrialTracker, folder: Path, *, single: bool) -> None:
    for name in ("config.yaml", "train.log", "emissions.csv"):
        run.log_artifact(folder / name)
    run.log_artifacts(folder / "scores", "scores")
    if single:
        run.log_artifacts(folder / MODEL, MODEL)


def _write_result(folder: Path, result: TrialResult) -> None:
    """Written last: a trial with a result is done and recorded."""
    temporary = folder / f"{RESULT}.part"
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(asdict(result), file, indent=1)
        file.flush()
        os.fsync(file.fileno())  # a power cut must not leave the name without the content
    temporary.replace(folder / RESULT)


def read_result(folder: Path) -> TrialResult | None:
    """The result of a trial that was run to its end in ``folder``; None if it was not."""
    path = folder / RESULT
    if not path.is_file():
        return None
    tree = json.loads(path.read_text(encoding="utf-8"))
    cost = tree.pop("emissions")
    return TrialResult(**tree, emissions=Emissions(**{**cost, "unmeasured": tuple(cost["unmeasured"])}))
