"""The card's datasets: origin, size, statistics and three samples of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from embedsweep.card.text import (
    data_name,
    data_source,
    joined,
    json_block,
    table,
    verbatim,
    without_folders,
)
from embedsweep.config.trial import DataConfig, LossConfig, ParameterValue, TrialConfig
from embedsweep.data.examples import Examples, Splits, as_examples
from embedsweep.data.load import scored_data
from embedsweep.data.scored import Retrieval, Scored
from embedsweep.losses.nesting import nest
from embedsweep.secrets import MASK, redact

SAMPLES = 3
COUNTED = 104
"""The library counts the tokens of this many examples: the first 100, rounded up to chunks of 8."""

LibraryFacts = Mapping[str, Any]
"""What the library records of a training dataset: an entry of its ``model_card_data.train_datasets``."""


def training_datasets(
    config: TrialConfig, splits: Splits, also: Mapping[str, Examples], library_facts: Sequence[LibraryFacts]
) -> list[dict[str, Any]]:
    """Describe the training data for the template.

    Args:
        config: the trial's configuration.
        splits: its data; ``train`` as the loss saw it.
        also: further training data by its name in ``data.also``, as its loss saw it.
        library_facts: one for each dataset, in the order of training.
    """
    trained = {config.data.name: splits.train, **also}
    described = []
    for (name, dataset), facts in zip(config.datasets.items(), library_facts, strict=True):
        data, examples = dataset.data, trained[name]
        title = data_name(data) if data is config.data else name
        row = _described(title, data, examples, _token_row(examples, facts))
        described.append(
            row | {"limit": data.limit, "loss": facts["loss"], "inner_losses": _inner_losses(dataset.loss)}
        )
    return described


def evaluation_datasets(config: TrialConfig, splits: Splits) -> dict[str, dict[str, Any]]:
    """Describe the data of dev and test for the template."""
    own = {"dev": config.evaluation.dev, "test": config.evaluation.test}
    pairs: tuple[tuple[Literal["dev", "test"], Scored], ...] = (("dev", splits.dev), ("test", splits.test))
    described: dict[str, dict[str, Any]] = {}
    for split, scored in pairs:
        data, _ = scored_data(config.data, config.evaluation, split)
        benchmark = own[split]
        name = benchmark.name if benchmark is not None else data_name(data)
        described[split] = _described(name, data, as_examples(scored), [])
        if isinstance(scored, Retrieval):
            size = f"{len(scored):,} questions, {len(scored.documents):,} documents"
            described[split]["searched"] = f"{size}; a sample is a question with a document that is relevant to it"
    return described


def _described(name: str, data: DataConfig, examples: Examples, token_row: list[str]) -> dict[str, Any]:
    return {
        "name": name,
        "source": data_source(data),
        "origin": verbatim(" + ".join(without_folders(part) for part in examples.origin.split(" + "))),
        "size": len(examples),
        "columns": joined([f"<code>{column}</code>" for column in examples.columns]),
        "conversion": without_folders(examples.conversion or ""),
        "statistics": _statistics(examples, token_row),
        "samples": _samples(examples),
    }


def _statistics(examples: Examples, token_row: list[str]) -> str:
    """Make a table with a column for each of the examples' own and a row for each statistic."""
    has_labels = examples.labels is not None
    blank = [""] if has_labels else []
    rows = [
        ["type", *["string"] * len(examples.texts), *([_label_type(examples)] if has_labels else [])],
        ["characters", *(_spread([len(text) for text in column]) for column in examples.texts), *blank],
        ["words", *(_spread([len(text.split()) for text in column]) for column in examples.texts), *blank],
    ]
    if token_row:
        rows.append([*token_row, *blank])
    if has_labels:
        rows.append(["values", *[""] * len(examples.texts), _label_statistics(examples)])
    return _indented(table(["", *examples.columns], rows, texts=len(rows[0])))


def _token_row(examples: Examples, facts: LibraryFacts) -> list[str]:
    """Return the row of token counts, ``min 3, mean 4.25, max 6``; empty if the loss's dataset has other columns."""
    counts = [column["data"] for column in facts["stats"].values()]
    texts = [data for data in counts if str(data.get("min")).endswith(" tokens")]
    if len(texts) != len(examples.texts):
        return []
    cells = [", ".join(f"{name} {value.removesuffix(' tokens')}" for name, value in data.items()) for data in texts]
    return ["tokens" if len(examples) <= COUNTED else f"tokens, of the first {COUNTED}", *cells]


def _label_type(examples: Examples) -> str:
    return "class" if examples.classes is not None else "0 or 1" if examples.shape == "binary_pairs" else "float"


def _label_statistics(examples: Examples) -> str:
    assert examples.labels is not None
    if examples.classes is None and examples.shape != "binary_pairs":
        return _spread(examples.labels)
    names = examples.classes or ("0", "1")
    counts = Counter(int(label) for label in examples.labels)
    return ", ".join(f"{verbatim(names[label])} {count / len(examples):.2%}" for label, count in sorted(counts.items()))


def _spread(values: Sequence[float]) -> str:
    return f"min {min(values):.4g}, mean {sum(values) / len(values):.4g}, max {max(values):.4g}"


def _samples(examples: Examples) -> str:
    rows = []
    for index in range(min(SAMPLES, len(examples))):
        row = [_sample(column[index]) for column in examples.texts]
        if examples.labels is not None:
            label = examples.labels[index]
            row.append(verbatim(examples.classes[int(label)] if examples.classes is not None else f"{label:.4g}"))
        rows.append(row)
    columns = examples.columns
    return _indented(table(columns, rows, texts=len(columns)))


def _sample(text: str) -> str:
    """Return a text as a cell; secrets are redacted before escaping, which would hide them from redaction."""
    safe = redact(text)
    cell = verbatim(safe)
    # The whole card is redacted at the end, which must not take the escaped mask and the end of the cell for a secret.
    return cell.replace("=", "&#61;").replace(":", "&#58;") if MASK in safe else cell


def _inner_losses(config: LossConfig) -> list[tuple[str, str]]:
    """Return the name and the parameters, in JSON, of each loss inside, of which the library's facts say less."""
    return [
        (inner.name, json_block(_without_folders(inner.parameters)) if inner.parameters else "")
        for inner in nest(config)[1:]
    ]


def _without_folders(parameters: Mapping[str, ParameterValue]) -> dict[str, ParameterValue]:
    return {key: without_folders(value) if isinstance(value, str) else value for key, value in parameters.items()}


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())
