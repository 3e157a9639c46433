"""The search by hydra-optuna-sweeper over a plain training function; its best value is in optimization_results.yaml.

The search space is in hydra_search.yaml, as its users write it. https://hydra.cc/docs/plugins/optuna_sweeper
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hydra
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer
from sentence_transformers.sentence_transformer.losses import CoSENTLoss

from benchmarks.peers.task import OBJECTIVE, arguments, dev_evaluator, train_dataset


@hydra.main(version_base="1.3", config_path=".", config_name="hydra_search")  # type: ignore[untyped-decorator]
def main(config: Any) -> float:
    task = Path(config.task)
    model = SentenceTransformer(config.model)
    trainer = SentenceTransformerTrainer(
        model=model,
        args=arguments(
            config.epochs,
            learning_rate=config.learning_rate,
            warmup_steps=config.warmup,
            per_device_train_batch_size=config.batch_size,
        ),
        train_dataset=train_dataset(task),
        evaluator=dev_evaluator(task),
        loss=CoSENTLoss(model),
    )
    trainer.train()
    return float(trainer.evaluate()[OBJECTIVE])


if __name__ == "__main__":
    main()
