"""Further models that a loss needs: guides and teachers.

Owns how one is found and loaded. Knows nothing of what it is for.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from embedsweep.hub import cached_model_path

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer


def load_encoder(path: str, device: torch.device) -> SentenceTransformer:
    """A model that is used and never trained.

    Args:
        path: a folder or a hub id; a copy in the local cache is loaded without asking the hub.
        device: where it goes.
    """
    from sentence_transformers import SentenceTransformer

    folder = Path(path).expanduser()
    source = folder if folder.is_dir() else cached_model_path(path, None) or path
    encoder = SentenceTransformer(str(source), device=str(device), model_kwargs={"use_safetensors": True})
    # The trainer gives its optimizer every weight inside of the loss that asks for a gradient.
    return encoder.requires_grad_(False).eval()
