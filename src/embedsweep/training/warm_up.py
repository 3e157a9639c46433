"""Warm up a process before its first trial, whose time and energy would otherwise be higher than the next ones'.

A worker does so while its supervisor still opens the stores.
"""

from __future__ import annotations

import functools
import gc
import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_log = logging.getLogger(__name__)


@functools.cache
def warm_up(device: str) -> None:
    """Import what trials on ``device`` (``trainer.device``) need, and load the kernels of its GPU; no score changes.

    Imports take seconds, and so does the first step on a GPU, because a kernel is loaded when it is first launched. A
    failure on the GPU is logged only: the first trial meets it again, and reports it.
    """
    import torch

    import embedsweep.card.write
    import embedsweep.training.train  # noqa: F401
    from embedsweep.emissions.tracker import import_codecarbon

    import_codecarbon()
    if device not in ("cpu", "mps") and torch.cuda.is_available():
        gpu = torch.device("cuda", torch.cuda.current_device())
        try:
            with torch.random.fork_rng([gpu.index]):  # trials draw the same random numbers as without this
                train_a_step(gpu)
            torch.cuda.empty_cache()
        except Exception:
            _log.exception("the GPU could not be warmed up")
    # Exempt imported objects from garbage collection, which trainers run often and which took most time on them.
    gc.collect()
    gc.freeze()


def train_a_step(device: torch.device) -> float:
    """Train a small encoder for a step in bfloat16, captured in a CUDA graph on a GPU, and return its loss."""
    import torch
    from transformers import BertConfig, BertModel

    from embedsweep.training.cuda_graphs import GraphMemory, StepGraphs

    config = BertConfig(
        vocab_size=128, hidden_size=384, intermediate_size=1536, num_hidden_layers=1, num_attention_heads=12
    )
    model = BertModel(config).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    batch = {"input_ids": torch.ones(4, 16, dtype=torch.long), "attention_mask": torch.ones(4, 16, dtype=torch.long)}
    batch["attention_mask"][:, 8:] = 0
    batch = {name: value.to(device) for name, value in batch.items()}

    def compute(inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        with torch.autocast(device.type, torch.bfloat16):
            embeddings: torch.Tensor = model(**inputs).last_hidden_state
        return embeddings.float().square().mean()

    if device.type == "cuda":
        loss, _ = StepGraphs(GraphMemory(tuple(model.parameters())), 1.0).step(batch, compute)
    else:
        loss = compute(batch)
        loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return loss.item()
