"""Encode what is scored: within memory, with the prompts of queries and documents, checked. Imports torch."""

from __future__ import annotations

import contextlib
import functools
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from embedsweep.errors import TrialError, first_line
from embedsweep.machine import free_memory, is_out_of_memory
from embedsweep.models.prompts import role_prompts

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_log = logging.getLogger(__name__)


@contextlib.contextmanager
def signs_of_life(model: SentenceTransformer, alive: Callable[[], None]) -> Iterator[None]:
    """Call ``alive`` after each batch that ``model`` encodes in the block: a large corpus may take hours."""
    hook = model.register_forward_hook(lambda *_: alive())
    try:
        yield
    finally:
        hook.remove()


class CheckedEncoding:
    """What evaluators here add to the library's: a mixin that stands before the library's class.

    Texts are encoded in smaller batches when memory is too small, queries and documents get the prompts they have in
    training, and embeddings that cannot be scored are an error instead of a score.

    Attributes:
        on_encoded: is called with the number of texts that were just encoded: of a large corpus a chunk.
    """

    name: str
    batch_size: int
    on_encoded: Callable[[int], None] | None = None
    _step = -1

    def __call__(self, model: SentenceTransformer, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Return all metrics of ``model`` by the library's names; the trainer passes its step as ``steps``."""
        self._step = kwargs.get("steps", -1)
        metrics: dict[str, float] = super().__call__(model, *args, **kwargs)  # type: ignore[misc]  # of the library
        return metrics

    def embed_inputs(self, model: SentenceTransformer, sentences: Sequence[str], **kwargs: Any) -> Any:
        """Encode sentences as the library does into ``(sentences, dim)``, an array or a tensor.

        Args:
            model: the model.
            sentences: the texts.
            kwargs: of the library's evaluator; ``encode_fn_name`` is ``query`` or ``document`` where texts have roles.

        Raises:
            TrialError: the embeddings cannot be scored, as the model has diverged; or memory is too small for one.
        """
        if role := kwargs.get("encode_fn_name"):
            kwargs["prompt"] = role_prompts(model)[role]
        encode = functools.partial(super().embed_inputs, model, sentences, **kwargs)  # type: ignore[misc]
        embeddings = self._within_memory(encode)
        check_embeddings(_as_array(embeddings), sentences, self.name, self._step)
        if self.on_encoded is not None:
            self.on_encoded(len(sentences))
        return embeddings

    def _within_memory(self, encode: Callable[[], Any]) -> Any:
        """Encode; when out of memory, encode fewer sentences at once from now on, with the same embeddings."""
        while True:
            try:
                return encode()
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                if self.batch_size == 1:
                    raise TrialError(f"out of memory encoding one {self.name} sentence: {first_line(error)}") from None
            free_memory()
            self.batch_size //= 2
            _log.warning("out of memory: evaluation continues with %d sentences at once", self.batch_size)


def _as_array(embeddings: Any) -> np.ndarray:
    """Return embeddings in main memory; those of a half precision, which NumPy may not have, in single precision."""
    if isinstance(embeddings, np.ndarray):
        return embeddings
    return np.asarray(embeddings.float().cpu().numpy())


MIN_SPREAD = math.sqrt(float(np.finfo(np.float32).eps))
"""Spread of embeddings, relative to their length, below which they count as constant: 3.5e-4. The cosine of two such
embeddings differs from 1 by the square of it, a float's last digit, so that scores would rank rounding errors. Measured
over the demo sentences: 0.22 for the untrained tiny model, 0.15 to 0.56 trained, 1e-3 at a learning rate that makes it
worse and worse; collapsed at lr=1, 3e-4 and then 5e-5."""

_ROWS = 4096  # embeddings in double precision at once


def check_embeddings(embeddings: np.ndarray, sentences: Sequence[str], where: str, step: int) -> None:
    """Check that a score can be computed from embeddings.

    Args:
        embeddings: ``(sentences, dim)``.
        sentences: the sentences they belong to.
        where: what is scored (``dev``), for the message.
        step: the optimizer step after which it is scored, for the message; -1 outside a training.

    Raises:
        TrialError: some are not finite, or those of different sentences are all alike.
    """
    after = f" after step {step}" if step >= 0 else ""
    broken = int((~np.isfinite(embeddings).all(axis=1)).sum())
    if broken:
        raise TrialError(f"the embeddings of {broken} of {len(sentences)} {where} sentences are not numbers{after}")
    if len(set(sentences)) < 2:
        return
    spread = _spread(embeddings)
    if spread < MIN_SPREAD:
        raise TrialError(
            f"the embeddings of {len(set(sentences))} different {where} sentences are constant{after}: they differ by "
            f"{spread:.1e} of their length; a lower optimizer.lr may help"
        )


def _spread(embeddings: np.ndarray) -> float:
    """Return the root mean square distance from the mean over the root mean square length; 0 if all are zero."""
    mean = embeddings.mean(axis=0, dtype=np.float64)
    length = apart = 0.0
    for start in range(0, len(embeddings), _ROWS):
        exact = embeddings[start : start + _ROWS].astype(np.float64)
        length += float(np.square(exact).sum())
        apart += float(np.square(exact - mean).sum())
    return math.sqrt(apart / length) if length else 0.0
