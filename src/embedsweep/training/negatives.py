"""Mine hard negatives by sentence-transformers, once for all trials that share them.

What was found is cached by content: the miner's files, the texts, the settings. The cache and the embeddings beside it
are in the user's cache folder, and may be deleted at any time.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedsweep.config.identity import digest
from embedsweep.config.negatives import NegativesConfig
from embedsweep.config.trial import DataConfig, TrialConfig
from embedsweep.data.examples import Examples
from embedsweep.data.negatives import Candidates, Negatives, with_negatives
from embedsweep.errors import TrialError, first_line
from embedsweep.files import cache_folder, write_atomically
from embedsweep.hub import local_model
from embedsweep.machine import free_memory, is_out_of_memory
from embedsweep.models.digest import folder_content

if TYPE_CHECKING:
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer

_log = logging.getLogger(__name__)

LAYOUT = 1
"""Increase it when the code below finds other negatives by the same settings."""

FARTHEST = 1000
"""How many ranks from range_min on are searched for questions without any negative in their range."""

SCORES = 2**26
"""Similarity scores in memory at once: a quarter of a gigabyte."""

WAIT_S = 5.0
"""Seconds between the signs of life of a process that waits for another to mine."""

QUESTION, POSITIVE = "anchor", "positive"
MODEL_KEYS = ("name", "path", "revision", "parts", "static_dim", "pooling", "dense", "dense_activation")
TEXT_KEYS = ("max_seq_length", "prompts", "default_prompt", "prompt_rule")
"""Keys of a base model that decide its embeddings."""


def add_negatives(
    pairs: Examples, candidates: Candidates, data: DataConfig, config: TrialConfig, alive: Callable[[], None]
) -> Examples:
    """Return positive pairs with hard negatives, without the questions that are dropped.

    Args:
        pairs: the pairs of one dataset.
        candidates: what their negatives are chosen from.
        data: its configuration.
        config: the trial, for the base model.
        alive: is called after each batch that is embedded, and while another process mines.

    Raises:
        ConfigError: too few pairs are left.
        TrialError: memory is too small to embed one text.
    """
    settings = data.negatives
    miner = Miner(config, data, alive)
    dropped: list[str] = []
    if (strictest := settings.dropping) is not None:
        most = miner.mined(candidates, strictest)
        dropped = [text for text in candidates.relevant if len(most.get(text, ())) < strictest.count]
    found: dict[str, Any] = {}
    if settings.count:
        found = {**miner.mined(candidates, settings)}
        kept = candidates.of_questions(candidates.relevant.keys() - {*dropped})
        # What lies beyond the range may still keep the margins.
        if without := [text for text in kept.relevant if text not in found]:
            last = settings.range_min + max(FARTHEST, settings.count)
            farther = replace(settings, range_max=max(last, settings.range_max or 0))
            found |= miner.mined(candidates.of_questions(without), farther)
    return with_negatives(pairs, candidates, found, dropped, settings)


@dataclass(frozen=True)
class Miner:
    """Finds negatives by the base model of a trial, or by the model that its data names.

    Attributes:
        config: the trial.
        data: the dataset that gets negatives.
        alive: is called after each batch that is embedded, and while another process mines.
    """

    config: TrialConfig
    data: DataConfig
    alive: Callable[[], None]

    def mined(self, candidates: Candidates, settings: NegativesConfig) -> Negatives:
        """Return the negatives that the library finds, at most ``count`` for each question; cached.

        Of several processes one mines and the others wait. Global random states stay as they are.
        """
        identity = self._identity(settings)
        folder = cache_folder() / "negatives" / digest(identity)
        asked = {key: getattr(settings, key) for key in _ASKED}
        seed = settings.seed if settings.sampling == "random" else None
        cached = folder / f"{digest([candidates.digest, asked, seed, settings.use_faiss])}.json"
        folder.mkdir(parents=True, exist_ok=True)
        with self._alone(folder):
            numbers = _read(cached, candidates)
            if numbers is None:
                _log.info("mining hard negatives of %d questions", len(candidates.relevant))
                _delete_torn(folder)
                numbers = self._search(candidates, settings, folder)
                write_atomically(cached, json.dumps({"miner": identity, "settings": asked, "found": numbers}) + "\n")
        texts = candidates.documents
        questions = zip(candidates.relevant, numbers, strict=True)
        return {
            question: [texts[number] for number in of_question] for question, of_question in questions if of_question
        }

    def _alone(self, folder: Path) -> contextlib.AbstractContextManager[object]:
        """Wait until no other process mines; return the lock on the folder."""
        from filelock import FileLock, Timeout

        while True:
            try:
                return FileLock(folder / ".lock").acquire(timeout=WAIT_S)
            except Timeout:
                self.alive()

    def _identity(self, settings: NegativesConfig) -> list[object]:
        """Return all that decides the embeddings: the model with its files, prompts, and the library."""
        model, name = self.config.model, settings.miner
        folder = _base_folder(self.config) if name is None else local_model(name, None)
        files = None if folder is None else folder_content(folder).digest
        own: object = name
        if name is None:
            tree = asdict(model)
            # New layers are drawn by the seed.
            own = [{key: tree[key] for key in (*MODEL_KEYS, *TEXT_KEYS)}, self.data.shape, settings.seed]
        return [LAYOUT, version("sentence-transformers"), own, files]

    def _search(self, candidates: Candidates, settings: NegativesConfig, folder: Path) -> list[list[int]]:
        """Return the numbers of the negatives among the documents, a list for each question in order."""
        from datasets import Dataset

        from embedsweep.evaluation.encoding import signs_of_life

        rows = [(question, text) for question, texts in candidates.relevant.items() for text in texts]
        questions, positives = map(list, zip(*rows, strict=True))
        relevant = Dataset.from_dict({QUESTION: questions, POSITIVE: positives})
        with _seeded(settings.seed):
            model = self._load(settings)
            prompts = self._prompts(model) if settings.miner is None else {}
            size = self.config.evaluation.batch_size
            with signs_of_life(model, self.alive), contextlib.redirect_stderr(_ProgressBars(self.alive)):
                mined = _mine(relevant, model, candidates, settings, prompts, folder, size)
        del model
        free_memory()
        numbers = {text: number for number, text in enumerate(candidates.documents)}
        found = {row[QUESTION]: [numbers[text] for text in row[POSITIVE][1:]] for row in mined}
        return [found.get(question, []) for question in candidates.relevant]

    def _load(self, settings: NegativesConfig) -> SentenceTransformer:
        from embedsweep.models.build import build_model, torch_device
        from embedsweep.models.loading import load_model

        device = torch_device(self.config.trainer.device)
        if settings.miner is not None:
            source = str(local_model(settings.miner, None) or settings.miner)
            model = load_model(source, device=device, trust_remote_code=False)
        else:
            base = self.config.model  # new adapters change nothing before they are trained
            model = build_model(replace(base, lora=replace(base.lora, rank=None)), device)
        model.similarity_fn_name = "cosine"  # which margins and scores are of
        return model

    def _prompts(self, model: SentenceTransformer) -> dict[str, str]:
        """Return the prompts of questions and documents, as in training; without them the library would use its own."""
        from embedsweep.models.prompts import training_prompts

        prompts = training_prompts(model, self.config.model, self.data.shape, (QUESTION, POSITIVE))
        return {"query_prompt": prompts.get(QUESTION, ""), "corpus_prompt": prompts.get(POSITIVE, "")}


class _ProgressBars(io.TextIOBase):
    """Takes the library's progress bars, which show that it is searching."""

    def __init__(self, alive: Callable[[], None]) -> None:
        self._alive = alive

    def write(self, text: str) -> int:
        self._alive()
        return len(text)


_ASKED = ("count", "range_min", "range_max", "margin", "relative_margin", "max_score", "sampling")


def _mine(
    relevant: Dataset,
    model: SentenceTransformer,
    candidates: Candidates,
    settings: NegativesConfig,
    prompts: Mapping[str, str],
    folder: Path,
    batch_size: int,
) -> Dataset:
    """Call the library; rows are a question, and a list of a positive with the negatives of the question."""
    from sentence_transformers.util import mine_hard_negatives

    while True:
        try:
            return mine_hard_negatives(
                relevant,
                model,
                corpus=list(candidates.documents),
                range_min=settings.range_min,
                range_max=settings.range_max,
                max_score=settings.max_score,
                absolute_margin=settings.margin,
                relative_margin=settings.relative_margin,
                num_negatives=settings.count,
                sampling_strategy=settings.sampling,
                output_format="labeled-list",
                batch_size=batch_size,
                faiss_batch_size=max(1, SCORES // len(candidates.documents)),
                use_faiss=settings.use_faiss,
                cache_folder=str(folder),
                verbose=False,
                **prompts,
            )
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            if batch_size == 1:
                raise TrialError(f"out of memory embedding one text for its negatives: {first_line(error)}") from None
        free_memory()
        batch_size //= 2


def _base_folder(config: TrialConfig) -> Path | None:
    from embedsweep.models.tiny import tiny_model_path

    return tiny_model_path() if config.model.name == "tiny" else local_model(config.model.path, config.model.revision)


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed the generators of Python, NumPy and torch for the duration of the block, and restore them."""
    from transformers import set_seed

    from embedsweep.training.built_models import RandomState

    state = RandomState.now()
    set_seed(seed)
    try:
        yield
    finally:
        state.restore()


def _read(cached: Path, candidates: Candidates) -> list[list[int]] | None:
    """Return what an earlier process found; None if it did not, or the file was damaged."""
    try:
        found: list[list[int]] = json.loads(cached.read_text(encoding="utf-8"))["found"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if len(found) == len(candidates.relevant) else None


def _delete_torn(folder: Path) -> None:
    """Delete embeddings that a killed process wrote in part: the library would load them."""
    import numpy as np

    for path in folder.glob("*.npy"):
        try:
            np.load(path, mmap_mode="r")
        except (OSError, ValueError):
            path.unlink()
