"""Names of params."""

from __future__ import annotations

from embedsweep.tracking.names import flatten
from tests.tracking.stores import CONFIG


def test_flatten_names_every_value_once() -> None:
    flat = flatten(CONFIG)
    expected = {
        "objective": "dev/spearman_cosine",
        "model.revision": "null",
        "model.trust_remote_code": "false",
        "loss.name": "matryoshka",
        "loss.matryoshka_dims": "[64, 32]",
        "loss.inner.name": "mnrl",
        "loss.inner.scale": "20.0",
        "model.prompts.query": "q: ",
        "model.lora.rank": "null",
        "data.where.language": "es",
        "data.language": "null",
        "data.splits.dev": '["dev"]',
        "evaluation.dev": "null",
        "evaluation.benchmarks": '["sts2017-es"]',
        "data.path": "data/é",
        "data.columns": '["sentence1", "sentence2", 2]',
        "data.delimiter": "\t",
        "data.score_range": "[0.0, 5.0]",
        "data.convert.positive_threshold": "0.8",
        "data.convert.both_directions": "true",
        "dataloader.batch_size": "16",
        "optimizer.lr": "2e-05",
        "trainer.early_stopping.patience": "null",
    }
    assert {key: flat[key] for key in expected} == expected
    assert len(flat) == 85
