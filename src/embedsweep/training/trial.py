"""Run one trial from its configuration to its result; Optuna and Hydra are not needed.

A trial's folder:

    config.yaml  train.log  emissions.csv  scores/  checkpoints/  model/  result.json
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from embedsweep.card.write import write_card
from embedsweep.config.result import Decision, TrialResult
from embedsweep.config.study import EmissionsConfig
from embedsweep.config.trial import TrialConfig
from embedsweep.data.examples import Splits
from embedsweep.data.load import load_also, load_splits
from embedsweep.emissions.meter import EmissionsMeter
from embedsweep.errors import TrialError, first_line
from embedsweep.evaluation.scores import DEV_TABLE, SCORES, ItemScores, write_scores
from embedsweep.files import MODEL
from embedsweep.machine import free_memory, is_out_of_memory, others_hold_memory, peak_ram_gib, training_gpus
from embedsweep.models.layout import base_dtypes
from embedsweep.models.prompts import prompts_in_words
from embedsweep.tracking.names import best_metrics, dataset_name
from embedsweep.tracking.runs import TrialTracker
from embedsweep.training.built_models import BuiltModel, BuiltModels
from embedsweep.training.checkpoints import CHECKPOINTS, Checkpoints
from embedsweep.training.curve import card_log, curve_of, points_of
from embedsweep.training.data import Part, conversion_of, corpora, data_warnings, training_parts
from embedsweep.training.folder import read_result, train_log, write_config, write_result
from embedsweep.training.memory import Attempts, smaller_micro_batch
from embedsweep.training.micro_batches import loss_batch_size_of, with_micro_batch
from embedsweep.training.steps import training_warnings
from embedsweep.training.warm_up import warm_up

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from embedsweep.evaluation.dev import MakeEvaluator
    from embedsweep.training.group import TrainingGroup
    from embedsweep.training.train import Outcome, Training

_log = logging.getLogger(__name__)

MICRO_BATCH_SIZE = "embedsweep.micro_batch_size"
"""Tag of a run: examples in memory at once in the last attempt."""

PROMPTS = "embedsweep.prompts"
"""Tag of a run: which texts got which of the model's prompts."""

STORED_DTYPE = "embedsweep.stored_dtype"
"""Tag of a run: the precision that the base model's weights are stored in; they are trained in float32."""

CUDA_GRAPHS = "embedsweep.cuda_graphs"
"""Tag of a run: what was captured in CUDA graphs, or why nothing was."""

Report = Callable[[int, Mapping[str, float]], Decision]
"""Receives the dev metrics of an evaluation with its step, and decides how the trial continues."""

Progress = Callable[[int, int], None]
"""Receives the number of optimizer steps done, and of all."""


@dataclass(frozen=True)
class TrialSetup:
    """All that a trial needs.

    Attributes:
        config: everything that decides the result.
        folder: the trial's own folder.
        run: the trial's MLflow run.
        report: receives dev metrics at each evaluation and decides how the trial continues.
        progress: receives the number of optimizer steps done.
        emissions: where the electricity comes from.
        single: whether this is a run by itself, which is scored on test and whose model is recorded at once.
        allocation: file with the energy allocated to this worker; None measures the machine for this trial.
        group: the processes that train the trial together; None trains it in this process.
        models: keeps the model it builds for the next trial; by default nothing is kept.
        keeps_model: returns whether the model of a trial with this result is needed; a pruned trial's never is.
        on_before: receives the scores of the untrained model, if it is scored.
        alive: is called at signs of life: after each step, and each batch of texts that is encoded.
        make_evaluator: makes what scores dev in this process while it trains; None is `dev_evaluator`.
    """

    config: TrialConfig
    folder: Path
    run: TrialTracker
    report: Report
    progress: Progress
    emissions: EmissionsConfig
    single: bool
    allocation: Path | None = None
    group: TrainingGroup | None = None
    models: BuiltModels = field(default_factory=lambda: BuiltModels(keeps=False))
    keeps_model: Callable[[TrialResult], bool] = lambda _: True
    on_before: Callable[[Mapping[str, float]], None] = lambda _: None
    alive: Callable[[], None] = lambda: None
    make_evaluator: MakeEvaluator | None = None

    @property
    def processes(self) -> int:
        """How many processes train the trial."""
        return self.group.size if self.group is not None else 1

    @property
    def gpus(self) -> list[str]:
        """Names of the GPUs that the trial occupies, as in ``CUDA_VISIBLE_DEVICES``; empty on a CPU."""
        if self.group is not None:
            return self.group.gpus
        return training_gpus(self.config.trainer.device)


def run_trial(setup: TrialSetup) -> TrialResult:
    """Train, select, score and record one trial; resume it if an earlier attempt in its folder was interrupted.

    A trial that is pruned, or whose model is not needed, is recorded like any other, but keeps no model.

    Raises:
        TrialError: there is no result: training diverged, or memory is too small for a batch.
        TrackingError: MLflow cannot record it.
    """
    folder = setup.folder
    if (done := read_result(folder)) is not None:
        return done
    folder.mkdir(parents=True, exist_ok=True)
    attempts = Attempts(folder)
    with train_log(folder / "train.log"):
        try:
            warm_up(setup.config.trainer.device)
            with EmissionsMeter(setup.emissions, folder / "emissions.csv", setup.allocation, setup.gpus) as meter:
                result = _TrialRun(setup, attempts, meter).run()
        except BaseException as error:
            setup.models.drop()  # its state is unknown
            if isinstance(error, Exception):
                _log.exception("the trial failed")
            raise
        finally:
            attempts.finish()
    attempts.clear()
    return result


class _TrialRun:
    """One attempt at a trial, and the listener of its training."""

    def __init__(self, setup: TrialSetup, attempts: Attempts, meter: EmissionsMeter) -> None:
        self._setup = setup
        self._config = setup.config
        self._attempts = attempts
        self._meter = meter
        self._checkpoints = Checkpoints(setup.folder / CHECKPOINTS)

    def run(self) -> TrialResult:
        from embedsweep.models.build import count_tokens
        from embedsweep.models.lora import merge_adapters

        setup, config = self._setup, self._config
        size, why = self._attempts.first_size(config, self._checkpoints.last_sealed, setup.processes)
        if why is not None:
            _log.warning("%s in the previous attempt: this one starts with %d", why, size)
        write_config(setup.folder / "config.yaml", config)
        splits = load_splits(config.data, config.evaluation)
        built = setup.models.get(config)
        model = built.model
        parts = training_parts(config, splits, lambda texts: count_tokens(model, texts), self.on_alive)
        self._record_data(splits, conversion_of(parts), size, model)
        before = self._scores_before(built)
        setup.on_before(before)
        training, outcome = self._train(built, parts, size)
        setup.run.set_tags({CUDA_GRAPHS: outcome.captured})
        merge_adapters(training.model)

        scores = training.evaluator.item_scores()
        write_scores(setup.folder, scores)
        result = self._result(outcome, training.model, scores, before, conversion_of(parts))
        if not result.pruned and setup.keeps_model(result):
            self._save_model(training.model, outcome, result, splits, parts)
        self._record_files(scores)
        # The run may lack what an earlier attempt logged: it was deleted, or another version began it.
        setup.run.log_history(points_of(outcome.log))
        log_result(setup.run, result)
        write_result(setup.folder, result)
        return result

    def on_alive(self) -> None:
        self._setup.alive()

    def on_progress(self, step: int, total: int) -> None:
        self._setup.progress(step, total)

    def on_metrics(self, points: Sequence[tuple[int, Mapping[str, float]]]) -> None:
        self._setup.run.log_history(points)

    def on_evaluation(self, step: int, metrics: Mapping[str, float]) -> Decision:
        decision = self._setup.report(step, metrics)
        self._setup.run.log_metrics(step, metrics)
        self._meter.flush()
        return decision

    def _record_data(self, splits: Splits, conversion: str | None, size: int, model: SentenceTransformer) -> None:
        config, run = self._config, self._setup.run
        for context, split in (("train", splits.train), ("dev", splits.dev), ("test", splits.test)):
            run.log_dataset(dataset_name(split.origin), splits.digest, split.origin, context)
        for examples in load_also(config.data).values():
            run.log_dataset(dataset_name(examples.origin), examples.digest, examples.origin, "train")
        for _, corpus in corpora(config.data):
            run.log_dataset(dataset_name(corpus.origin), corpus.digest, corpus.origin, "corpus")
        run.set_tags(
            {
                "embedsweep.conversion": conversion or "none",
                "embedsweep.audit": "; ".join(data_warnings(config)) or "none",
                "embedsweep.processes": str(self._setup.processes),
                MICRO_BATCH_SIZE: str(size),
                "embedsweep.loss_batch_size": str(loss_batch_size_of(config)),
                PROMPTS: prompts_in_words(model, config),
                STORED_DTYPE: " and ".join(base_dtypes(config.model)) or "none",
            }
        )

    def _scores_before(self, built: BuiltModel) -> dict[str, float]:
        """Score the untrained model and record the scores; trials that score the same model alike do so once."""
        from embedsweep.evaluation.dev import dev_evaluator
        from embedsweep.evaluation.evaluator import score_further, score_test, scores_of
        from embedsweep.losses.nesting import dims

        config = self._config
        if not config.evaluation.before:
            return {}
        further = (
            {**score_test(config, built.model), **score_further(config, built.model)} if self._setup.single else {}
        )
        key = repr((config.data, config.evaluation, dims(config.loss)))
        if key not in built.before:
            evaluator = dev_evaluator(config, built.model, self.on_alive)
            built.before[key] = scores_of(evaluator, built.model)
            write_scores(self._setup.folder, evaluator.item_scores(), "before")
        before = {**built.before[key], **further}
        # The first metric that a run has is the one that MLflow compares runs by.
        self._setup.run.log_metrics(0, {config.objective: before[config.objective], **before})
        return before

    def _train(self, built: BuiltModel, parts: Mapping[str, Part], size: int) -> tuple[Training, Outcome]:
        """Train, and after each out-of-memory error train on from the last checkpoint with a smaller micro-batch.

        If captured steps or other processes of the GPU held memory, the same size is tried again once, without captured
        steps. The recorded configuration does not change; the size that was used is a tag.
        """
        from embedsweep.training.train import Training, train

        setup = self._setup
        is_retry = False
        while True:
            self._attempts.begin(size, self._checkpoints.last_sealed)
            running = with_micro_batch(self._config, size)
            training = None
            try:
                training = Training(
                    running,
                    built.model,
                    parts,
                    self._checkpoints,
                    self,
                    is_resumable=setup.single,
                    built=built,
                    make_evaluator=setup.make_evaluator,
                )
                return training, train(training, setup.group)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                captured = built.graphs.hold_memory
                is_shared = captured or others_hold_memory()
                is_retry = is_shared and not is_retry
                smaller = size if is_retry else self._smaller(size, error, is_shared=is_shared)
            if is_retry:
                _log.warning("out of memory with micro-batches of %d: retrying after freeing memory", size)
            else:
                _log.warning("out of memory with micro-batches of %d: continuing with %d", size, smaller)
            built.graphs.clear()
            training = None
            free_memory()
            built = setup.models.get(self._config)
            # A captured step keeps the memory of its activations, so that an eager one may still fit.
            built.graphs.refused = "not enough memory for captured steps" if captured else None
            size = smaller
            setup.run.set_tags({MICRO_BATCH_SIZE: str(size)})

    def _smaller(self, size: int, error: Exception, *, is_shared: bool) -> int:
        """Return the next smaller micro-batch; without one, the trial fails for good unless memory was shared."""
        try:
            return smaller_micro_batch(self._config, size, first_line(error), self._setup.processes)
        except TrialError as final:
            final.fails_again = not is_shared
            raise

    def _result(
        self,
        outcome: Outcome,
        model: SentenceTransformer,
        scores: ItemScores,
        before: Mapping[str, float],
        conversion: str | None,
    ) -> TrialResult:
        from embedsweep.evaluation.evaluator import score_further, score_test

        config, single = self._config, self._setup.single
        return TrialResult(
            objective=outcome.dev[config.objective],
            dev=dict(outcome.dev),
            test=score_test(config, model, self._setup.folder) if single else {},
            before=before,
            benchmarks=score_further(config, model) if single else {},
            # Counted in the trial's time and emissions: a quarter of a second for 1,500 items.
            interval=None if outcome.pruned else scores.interval(config.objective),
            best_step=outcome.best_step,
            steps=outcome.steps,
            emissions=self._meter.stop(),
            pruned=outcome.pruned,
            conversion=conversion,
            examples_per_s=outcome.steps * config.dataloader.batch_size / outcome.train_s,
            # The memory that the processes of a group used is not visible to this one.
            peak_memory_gib=self._attempts.peak_memory_gib() if self._setup.group is None else None,
            peak_ram_gib=peak_ram_gib(),
            train_s=outcome.train_s,
            eval_s=outcome.eval_s,
            curve=curve_of(outcome.log),
            context=self._setup.run.context,
        )

    def _save_model(
        self,
        model: SentenceTransformer,
        outcome: Outcome,
        result: TrialResult,
        splits: Splits,
        parts: Mapping[str, Part],
    ) -> None:
        """Save safetensors weights and the card, with the training log of all attempts in it."""
        from embedsweep.models.loading import save_model

        folder = self._setup.folder
        model.model_card_data.training_logs = card_log(outcome.log, self._config)
        model.model_card_data.set_best_model_step(outcome.best_step)
        save_model(model, folder / MODEL, self._config.model.save_dtype or "float32")
        selection = "It was run once, by itself." if self._setup.single else "It is one trial of a study."
        main, *also = parts.items()
        trained = replace(splits, train=main[1].examples)
        further = {name: part.examples for name, part in also}
        emissions = folder / "emissions.csv"
        told = (*data_warnings(self._config), *training_warnings(self._config))
        write_card(model, folder / MODEL, self._config, result, trained, further, selection, emissions, told)

    def _record_files(self, scores: ItemScores) -> None:
        run, folder = self._setup.run, self._setup.folder
        for name in ("config.yaml", "train.log", "emissions.csv"):
            run.log_artifact(folder / name)
        run.log_artifact(folder / SCORES, SCORES)
        run.log_table(DEV_TABLE, scores.table())
        if self._setup.single:
            run.log_artifact(folder / MODEL, MODEL)


def log_result(run: TrialTracker, result: TrialResult) -> None:
    """Log the scores and the cost of a trial that ended by itself."""
    run.log_metrics(result.best_step, best_metrics(result.dev))
    run.log_metrics(result.steps, {**result.test, **result.benchmarks, **_figures(result)})


def _figures(result: TrialResult) -> dict[str, float]:
    cost = result.emissions
    optional = {  # unknown without a GPU, or in results of older versions
        "time/gpu_h": cost.gpu_h,
        "memory/peak_gib": result.peak_memory_gib,
        "throughput/examples_per_s": result.examples_per_s,
        "time/train_s": result.train_s,
        "time/eval_s": result.eval_s,
    }
    return {
        **{name: figure for name, figure in optional.items() if figure is not None},
        "emissions/co2eq_kg": cost.co2eq_kg,
        "emissions/energy_kwh": cost.energy_kwh,
        "emissions/duration_s": cost.duration_s,
    }
