"""Models whose embeddings a test chooses, and settings of evaluations."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

from embedsweep.config.metrics import RetrievalScoring
from embedsweep.models.tiny import tiny_model_path

RETRIEVAL = RetrievalScoring(
    "retrieval",
    accuracy_at_k=(1, 3, 5, 10),
    precision_recall_at_k=(1, 3, 5, 10),
    mrr_at_k=(10,),
    ndcg_at_k=(10,),
    map_at_k=(100,),
    similarities=("cosine", "dot"),
    corpus_chunk_size=50000,
    corpus_size=None,
    corpus_seed=0,
)
"""The library's default values."""


class Embedder(SentenceTransformer):  # type: ignore[misc]  # the library is untyped
    """A model that calls a function for embeddings; ``texts`` are those it was given, with their prompts."""

    def __init__(self, embed: Callable[[Sequence[str]], np.ndarray]) -> None:
        super().__init__(str(tiny_model_path()), device="cpu")
        self._embed = embed
        self.texts: list[str] = []

    def encode(
        self, inputs: Sequence[str], *, prompt: str | None = None, convert_to_tensor: bool = False, **_: object
    ) -> np.ndarray | torch.Tensor:
        if prompt is None:
            prompt = self.prompts.get(self.default_prompt_name or "") or ""
        self.texts += [prompt + text for text in inputs]
        embeddings = np.asarray(self._embed(inputs), dtype=np.float32)
        return torch.from_numpy(embeddings) if convert_to_tensor else embeddings
