"""One trial, from its configuration to its result.

Owns the story and the trial's folder. Knows neither Optuna nor Hydra: it is given a configuration, a folder, a run to
record itself in and somebody to report to. A trial that cannot record itself has failed.

    config.yaml  train.log  emissions.csv  scores/dev.parquet  checkpoints/  model/  result.json
"""

from __future__ import annotations

import functools
import gc
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from embedsweep.card.write import write_card
from embedsweep.config.result import Decision, TrialResult
from embedsweep.config.study import EmissionsConfig
from embedsweep.config.trial import TrialConfig
from embedsweep.data import load_splits
from embedsweep.data.examples import Splits
from embedsweep.emissions.meter import EmissionsMeter
from embedsweep.errors import TrialError, first_line
from embedsweep.files import MODEL
from embedsweep.machine import free_memory, is_out_of_memory, others_hold_memory, visible_devices
from embedsweep.tracking.runs import TrialTracker
from embedsweep.training.built_models import BuiltModel, BuiltModels
from embedsweep.training.checkpoints import CHECKPOINTS, Checkpoints
from embedsweep.training.data import Part, conversion_of, data_warnings, training_parts
from embedsweep.training.folder import read_result, train_log, write_config, write_result
from embedsweep.training.memory import Attempts, smaller_micro_batch
from embedsweep.training.micro_batches import loss_batch_size_of, with_micro_batch

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from embedsweep.evaluation.pairs import PairEvaluator
    from embedsweep.training.callback import Watcher
    from embedsweep.training.group import Group
    from embedsweep.training.train import Outcome

_log = logging.getLogger(__name__)

MICRO_BATCH_SIZE = "embedsweep.micro_batch_size"
"""Tag of a run: examples that were in memory at once, in the end."""

CUDA_GRAPHS = "embedsweep.cuda_graphs"
"""Tag of a run: what was captured in CUDA graphs, or why nothing was."""

Report = Callable[[int, Mapping[str, float]], Decision]
Progress = Callable[[int, int], None]
KeepsModel = Callable[[float], bool]


def run_trial(
    config: TrialConfig,
    folder: Path,
    run: TrialTracker,
    report: Report,
    progress: Progress,
    emissions: EmissionsConfig,
    *,
    single: bool,
    share: Path | None = None,
    group: Group | None = None,
    models: BuiltModels | None = None,
    keeps_model: KeepsModel = lambda _: True,
) -> TrialResult:
    """Trains, selects, scores and records one trial; goes on where an earlier attempt in ``folder`` was cut off.

    A trial that is pruned, or whose model nobody needs, is recorded like any other, but leaves no model.

    Args:
        config: all that decides the result.
        folder: the trial's own.
        run: its MLflow run.
        report: is told dev metrics at each evaluation and says how to go on.
        progress: is told how many optimizer steps of how many are done.
        emissions: whose electricity is used.
        single: whether this is a run by itself, which is scored on test and whose model is recorded at once.
        share: the file with this worker's share of the machine's energy; None measures the machine for this trial.
        group: the processes that train it together; None trains it in this one.
        models: keeps what it builds for the next trial; None keeps nothing.
        keeps_model: whether anybody needs the model of a trial with such an objective; one that was pruned has none.

    Raises:
        TrialError: no result can be had (a training that diverges, a batch that memory does not do for).
        TrackingError: MLflow does not take it.
    """
    done = read_result(folder)
    if done is not None:
        return done
    folder.mkdir(parents=True, exist_ok=True)
    attempts = Attempts(folder)
    models = models or BuiltModels(keeps=False)
    with train_log(folder / "train.log"):
        try:
            with EmissionsMeter(emissions, folder / "emissions.csv", share, _gpus(config, group)) as meter:
                size = _first_size(config, folder, attempts, _processes(group))
                result = _run(
                    config,
                    folder,
                    run,
                    report,
                    progress,
                    meter,
                    attempts,
                    size,
                    models,
                    single=single,
                    group=group,
                    keeps_model=keeps_model,
                )
        except BaseException as error:
            models.drop()  # whatever was under way
            if isinstance(error, Exception):
                _log.exception("the trial failed")
            raise
        finally:
            attempts.finish()
    attempts.clear()
    return result


def _run(
    config: TrialConfig,
    folder: Path,
    run: TrialTracker,
    report: Report,
    progress: Progress,
    meter: EmissionsMeter,
    attempts: Attempts,
    size: int,
    models: BuiltModels,
    *,
    single: bool,
    group: Group | None,
    keeps_model: KeepsModel,
) -> TrialResult:
    from embedsweep.evaluation.pairs import write_scores
    from embedsweep.models import count_tokens
    from embedsweep.models.lora import merge_adapters
    from embedsweep.training.scoring import score_further, score_test

    _settle()
    write_config(folder / "config.yaml", config)
    splits = load_splits(config.data, config.evaluation)
    built = models.get(config)
    model = built.model
    parts = training_parts(config, splits, lambda texts: count_tokens(model, texts))
    _record_data(run, config, splits, conversion_of(parts), size, _processes(group))
    before: dict[str, float] = {}
    if config.evaluation.before:
        reports = {**score_test(config, model), **score_further(config, model)} if single else {}
        before = {**_dev_before(config, built), **reports}
        run.log_metrics(0, before)

    watcher = _Recorder(run, report, progress, meter)
    outcome, model, evaluator = _train(
        config, folder, run, watcher, attempts, size, parts, models, built, group, single=single
    )
    run.set_tags({CUDA_GRAPHS: outcome.captured})
    merge_adapters(model)

    write_scores(folder / "scores" / "dev.parquet", splits.dev, evaluator)
    examples_per_s = outcome.steps * config.dataloader.batch_size / outcome.train_s
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
        examples_per_s=examples_per_s,
        # What the processes of a group took, this one cannot see.
        peak_memory_gib=attempts.peak_memory_gib() if group is None else None,
    )
    if not result.pruned and keeps_model(result.objective):
        _save_model(model, folder / MODEL, outcome)
        selection = "It was run once, by itself." if single else "It is one trial of a study."
        main, *also = parts.items()
        trained = replace(splits, train=main[1].examples)
        further = {name: part.examples for name, part in also}
        write_card(model, folder / MODEL, config, result, trained, further, selection, folder / "emissions.csv")
    _record_files(run, folder, single=single)
    figures = _figures(outcome, result, examples_per_s)
    run.log_metrics(outcome.steps, {**result.dev, **result.test, **result.benchmarks, **figures})
    write_result(folder, result)
    return result


@functools.cache
def _settle() -> None:
    """Spares Python's collector what a process loads once: each trainer runs it, and most of its time is theirs."""
    import embedsweep.training.train  # noqa: F401

    gc.collect()
    gc.freeze()


def _first_size(config: TrialConfig, folder: Path, attempts: Attempts, processes: int) -> int:
    size, why = attempts.first_size(config, Checkpoints(folder / CHECKPOINTS).last_sealed, processes)
    if why is not None:
        _log.warning("%s in the attempt before: this one begins with %d", why, size)
    return size


def _dev_before(config: TrialConfig, built: BuiltModel) -> Mapping[str, float]:
    """Dev scores of the untrained model; trials that score the same model alike need them once."""
    from embedsweep.losses.nesting import dims
    from embedsweep.training.scoring import score_dev

    key = repr((config.data, config.evaluation, dims(config.loss)))
    if key not in built.before:
        built.before[key] = score_dev(config, built.model)
    return built.before[key]


def _train(
    config: TrialConfig,
    folder: Path,
    run: TrialTracker,
    watcher: Watcher,
    attempts: Attempts,
    size: int,
    parts: Mapping[str, Part],
    models: BuiltModels,
    built: BuiltModel,
    group: Group | None,
    *,
    single: bool,
) -> tuple[Outcome, SentenceTransformer, PairEvaluator]:
    """Trains, with fewer examples in memory at once as often as memory does not do, each time from the last checkpoint.

    With as many once more where captured steps held memory, which are given up then, or other processes of the GPU.
    The recorded configuration stays what it is; what truly ran is a tag.
    """
    from embedsweep.training.scoring import dev_evaluator
    from embedsweep.training.train import build_task, train

    checkpoints = Checkpoints(folder / CHECKPOINTS)
    is_second = False
    while True:
        attempts.begin(size, checkpoints.last_sealed)
        running = with_micro_batch(config, size)
        model = tasks = evaluator = None
        try:
            model = built.model
            tasks = {name: build_task(running, part, model, processes=1) for name, part in parts.items()}
            evaluator = dev_evaluator(config, model)
            outcome = train(running, model, tasks, evaluator, checkpoints, watcher, group, built, may_go_on=single)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            captured = built.graphs.hold_memory
            is_shared = captured or others_hold_memory()
            is_second = is_shared and not is_second
            smaller = size if is_second else _smaller(config, size, error, group, is_shared)
        else:
            return outcome, model, evaluator
        if is_second:
            _log.warning("out of memory with micro-batches of %d: once more, without what held memory", size)
        else:
            _log.warning("out of memory with micro-batches of %d: going on with %d", size, smaller)
        built.graphs.clear()
        model = tasks = evaluator = None
        free_memory()
        built = models.get(config)
        # A captured step keeps the memory of its activations, so that what is not captured may still fit.
        built.graphs.refused = "memory did not do for captured steps" if captured else None
        size = smaller
        run.set_tags({MICRO_BATCH_SIZE: str(size)})


def _smaller(config: TrialConfig, size: int, error: Exception, group: Group | None, is_shared: bool) -> int:
    """The next smaller micro-batch; where there is none, the trial has failed for good unless memory was shared."""
    try:
        return smaller_micro_batch(config, size, first_line(error), _processes(group))
    except TrialError as final:
        final.fails_again = not is_shared
        raise


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


def _gpus(config: TrialConfig, group: Group | None) -> list[str]:
    """Names of the GPUs that a trial holds, as in ``CUDA_VISIBLE_DEVICES``; none on a CPU."""
    if group is not None:
        return group.gpus
    return visible_devices()[:1] if config.trainer.device not in ("cpu", "mps") else []


def _processes(group: Group | None) -> int:
    return group.size if group is not None else 1


def _record_data(
    run: TrialTracker, config: TrialConfig, splits: Splits, conversion: str | None, size: int, processes: int
) -> None:
    for context, split in (("train", splits.train), ("dev", splits.dev), ("test", splits.test)):
        run.log_dataset(f"{config.data.name}-{context}", splits.digest, split.origin, context)
    run.set_tags(
        {
            "embedsweep.conversion": conversion or "none",
            "embedsweep.audit": "; ".join(data_warnings(config)) or "none",
            "embedsweep.processes": str(processes),
            MICRO_BATCH_SIZE: str(size),
            "embedsweep.loss_batch_size": str(loss_batch_size_of(config)),
        }
    )


def _figures(outcome: Outcome, result: TrialResult, examples_per_s: float) -> dict[str, float]:
    cost = result.emissions
    of_gpus = {"time/gpu_h": cost.gpu_h, "memory/peak_gib": result.peak_memory_gib}  # not known without a GPU
    return {
        **{name: figure for name, figure in of_gpus.items() if figure is not None},
        "emissions/co2eq_kg": cost.co2eq_kg,
        "emissions/energy_kwh": cost.energy_kwh,
        "emissions/duration_s": cost.duration_s,
        "time/train_s": outcome.train_s,
        "time/eval_s": outcome.eval_s,
        "throughput/examples_per_s": examples_per_s,
    }


def _save_model(model: SentenceTransformer, folder: Path, outcome: Outcome) -> None:
    """Save safetensors weights; set the training log of all attempts in the data of the model's card."""
    model.model_card_data.training_logs = _card_log(outcome.log)
    model.model_card_data.set_best_model_step(outcome.best_step)
    model.save_pretrained(str(folder), safe_serialization=True, create_model_card=False)


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
