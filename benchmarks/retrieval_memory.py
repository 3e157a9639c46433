"""Peak memory of scoring a model on retrieval over 100,000 passages on a CPU, from the files to the metrics."""

from __future__ import annotations

import json
import random
import resource
from pathlib import Path

from benchmarks.figures import Figure, print_figures
from embedsweep.data.load import load_splits
from embedsweep.evaluation.evaluator import evaluator_of, scores_of
from embedsweep.models.build import build_model
from embedsweep.validation.single import pass_single

PASSAGES, QUERIES, WORDS = 100_000, 1_000, 40


def write_data(folder: Path) -> None:
    """Write passages of random words in the layout of BEIR; each query is the beginning of one of them."""
    draw = random.Random(0)
    words = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(3, 9))) for _ in range(5_000)]
    passages = [" ".join(draw.choices(words, k=WORDS)) for _ in range(PASSAGES)]
    (folder / "qrels").mkdir()
    with (folder / "corpus.jsonl").open("w") as file:
        for number, text in enumerate(passages):
            file.write(json.dumps({"_id": f"d{number}", "title": "", "text": text}) + "\n")
    with (folder / "queries.jsonl").open("w") as file:
        for number in range(3 * QUERIES):
            file.write(json.dumps({"_id": f"q{number}", "text": " ".join(passages[number].split()[:12])}) + "\n")
    for place, split in enumerate(("train", "dev", "test")):
        rows = range(place * QUERIES, (place + 1) * QUERIES)
        table = ["query-id\tcorpus-id\tscore", *(f"q{number}\td{number}\t1" for number in rows)]
        (folder / "qrels" / f"{split}.tsv").write_text("\n".join(table) + "\n")


if __name__ == "__main__":
    data = Path("passages")
    data.mkdir()
    write_data(data)
    config = pass_single(["data=beir", f"data.path={data.resolve()}", "evaluation=retrieval", "loss=mnrl"]).config
    splits = load_splits(config.data, config.evaluation)
    model = build_model(config.model, "cpu")
    scores_of(evaluator_of(splits.dev, "dev", config.evaluation, config.evaluation.batch_size, ()), model)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print_figures(Figure(f"peak memory, retrieval over {PASSAGES:,} passages", peak, 2.0, "GiB"))
