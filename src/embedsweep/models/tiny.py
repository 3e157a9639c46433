"""Build and cache ``model=tiny``: a small BERT with random weights, so that everything runs offline and fast."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from embedsweep.data.demo import demo_examples
from embedsweep.files import cache_folder

SEED = 20240521
MAX_SEQ_LENGTH = 48
VOCABULARY = 2400
SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
SIZES: dict[str, Any] = {
    "hidden_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 256,
    "max_position_embeddings": 64,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
LIBRARIES = ("torch", "tokenizers", "transformers", "sentence-transformers")
LAYOUT = 1
"""Increase it when the code below builds another model from the same values."""


def tiny_model_path() -> Path:
    """Return the model's folder, which ``SentenceTransformer`` loads offline; built at the first call, always the same.

    It is in the cache folder. Of several processes one builds and the others wait; a killed build leaves no folder that
    could be mistaken for a model. The caller's random states are unchanged.
    """
    from filelock import FileLock

    texts = tuple(text for pair in zip(*demo_examples("demo", "train").texts, strict=True) for text in pair)
    root = cache_folder()
    path = root / f"tiny-{_fingerprint(texts)}"
    if path.is_dir():
        return path
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / f"{path.name}.lock"):
        if not path.is_dir():
            _build_into_place(path, texts)
    return path


def _fingerprint(texts: Iterable[str]) -> str:
    """Return a hash of all that determines the model: its texts, its sizes and the versions of the libraries."""
    values = [LAYOUT, SEED, MAX_SEQ_LENGTH, VOCABULARY, SIZES, {name: version(name) for name in LIBRARIES}]
    digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode())
    for text in texts:
        digest.update(b"\0" + text.encode())
    return digest.hexdigest()[:16]


def _build_into_place(path: Path, texts: Sequence[str]) -> None:
    """Build in a folder beside ``path``, then rename it, so that ``path`` is always complete."""
    for killed_build in path.parent.glob(f".{path.name}.*"):
        shutil.rmtree(killed_build, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    try:
        folder.chmod(0o755)  # mkdtemp's folders are readable by their owner only
        _build(folder, texts)
        folder.replace(path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _build(folder: Path, texts: Sequence[str]) -> None:
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from transformers import BertConfig, BertModel, BertTokenizer

    vocabulary = _vocabulary(texts)
    tokenizer = BertTokenizer(vocab=vocabulary, strip_accents=False, model_max_length=MAX_SEQ_LENGTH)
    config = BertConfig(vocab_size=len(vocabulary), **SIZES)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(SEED)
        parts = folder / "parts"
        BertModel(config).save_pretrained(parts)
        tokenizer.save_pretrained(parts)
        transformer = Transformer(str(parts), max_seq_length=MAX_SEQ_LENGTH)
        pooling = Pooling(SIZES["hidden_size"], pooling_mode="mean")
        SentenceTransformer(modules=[transformer, pooling], device="cpu").save(str(folder), create_model_card=False)
    shutil.rmtree(parts)


def _vocabulary(texts: Sequence[str]) -> dict[str, int]:
    """Return word pieces and their ids, trained on ``texts``."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordPiece
    from tokenizers.normalizers import BertNormalizer
    from tokenizers.pre_tokenizers import BertPreTokenizer
    from tokenizers.trainers import WordPieceTrainer

    letters = sorted({letter for text in texts for letter in text.lower() if not letter.isspace()})
    tokenizer = Tokenizer(WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = BertNormalizer(strip_accents=False)
    tokenizer.pre_tokenizer = BertPreTokenizer()
    # The trainer numbers letters inside words in the order of a randomly seeded hash table, and breaks ties by
    # number; as special tokens they are numbered before it starts.
    fixed = [*SPECIAL_TOKENS, *letters, *(f"##{letter}" for letter in letters)]
    trainer = WordPieceTrainer(vocab_size=VOCABULARY, special_tokens=fixed, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    return dict(sorted(tokenizer.get_vocab().items(), key=lambda item: item[1]))
