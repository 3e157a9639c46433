"""Warm up a GPU: its first step takes seconds, as kernels are loaded when they are first launched.

A worker does so while its supervisor still opens the stores, on a model that is thrown away.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_log = logging.getLogger(__name__)


def warm_up() -> None:
    """Train a step on the GPU that this process uses; do nothing without one.

    A failure is logged only: the first trial meets it again, and reports it.
    """
    import torch

    if not torch.cuda.is_available():
        return
    try:
        train_a_step(torch.device("cuda", torch.cuda.current_device()))
        torch.cuda.empty_cache()
    except Exception:
        _log.exception("the GPU could not be warmed up")


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
