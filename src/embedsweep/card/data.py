"""The card's sections on data: origin, size, statistics and three samples of each dataset."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from embedsweep.card.text import (
    data_name,
    data_source,
    folded,
    joined,
    json_block,
    table,
    verbatim,
    without_folders,
)
from embedsweep.config.trial import DataConfig, LossConfig, TrialConfig
from embedsweep.data.examples import COLUMNS, Examples, Pairs, Splits, as_examples
from embedsweep.secrets import MASK, redact

SAMPLES = 3
FOLDED_FROM = 4
"""Number of training datasets from which each is folded, as in the library's own card."""

COUNTED = 104
"""The library counts the tokens of this many examples: the first 100, rounded up to chunks of 8."""

LOSSES_PAGE = "https://sbert.net/docs/package_reference/sentence_transformer/losses.html"

Findings = Mapping[str, Any]
"""What the library found out about a training dataset: an entry of its ``model_card_data.train_datasets``."""


def training_data_section(
    config: TrialConfig, splits: Splits, also: Mapping[str, Examples], findings: Sequence[Findings]
) -> str:
    """Describe the training data.

    Args:
        config: the trial's configuration.
        splits: its data; ``train`` as the loss saw it.
        also: further training data by its name in ``data.also``, as its loss saw it.
        findings: the library's, one for each dataset, in the order of training.
    """
    datasets = [(data_name(config.data), config.data, config.loss, splits.train)]
    for name, examples in also.items():
        further = config.data.also[name]
        datasets.append((name, further.data, further.loss, examples))
    parts = [_trained_on(*dataset, found) for dataset, found in zip(datasets, findings, strict=True)]
    if len(parts) >= FOLDED_FROM:
        parts = [folded(name, part) for (name, *_), part in zip(datasets, parts, strict=True)]
    return "\n\n".join([f"### Training Dataset{'s' if len(parts) > 1 else ''}", *parts])


def evaluation_data_section(config: TrialConfig, splits: Splits) -> str:
    """Describe dev, with samples, and test."""
    evaluation = config.evaluation
    parts = ["### Evaluation Datasets"]
    for split, pairs, own, use in (
        ("dev", splits.dev, evaluation.dev, "used to choose the model"),
        ("test", splits.test, evaluation.test, "used to report scores, not to choose the model"),
    ):
        data = own.data if own is not None else config.data
        examples = as_examples(pairs)
        size = f"* Size: {len(pairs):,} evaluation samples, {use}"
        samples = [f"* Samples:\n{_samples(examples)}"] if split == "dev" else []
        title = f"#### {split}: {own.name if own is not None else data_name(data)}"
        parts.append("\n".join([title, "", *_described(data, pairs, size, examples, []), *samples]))
    return "\n\n".join(parts)


def _trained_on(title: str, data: DataConfig, loss: LossConfig, examples: Examples, findings: Findings) -> str:
    size = f"* Size: {len(examples):,} training samples"
    return "\n".join(
        [
            f"#### {title}",
            "",
            *_described(data, examples, size, examples, _token_row(examples, findings), data.limit),
            f"* Samples:\n{_samples(examples)}",
            *_losses(loss, findings["loss"]),
        ]
    )


def _described(
    data: DataConfig,
    read: Examples | Pairs,
    size: str,
    examples: Examples,
    token_row: list[str],
    limit: int | None = None,
) -> list[str]:
    places = verbatim(" + ".join(without_folders(part) for part in read.origin.split(" + ")))
    first = "" if limit is None else f", at most the first {limit:,} rows"
    converted = [f"* Converted: {without_folders(examples.conversion)}"] if examples.conversion else []
    return [
        f"* Dataset: {data_source(data)}",
        f"* Read from: {places}{first}",
        size,
        f"* Columns: {joined([f'<code>{name}</code>' for name in COLUMNS[examples.shape]])}",
        *converted,
        f"* Statistics of all {len(examples):,} samples:\n{_statistics(examples, token_row)}",
    ]


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
    return _indented(table(["", *COLUMNS[examples.shape]], rows, texts=len(rows[0])))


def _token_row(examples: Examples, findings: Findings) -> list[str]:
    """Return the row of token counts, ``min 3, mean 4.25, max 6``; empty if the loss's dataset has other columns."""
    counts = [column["data"] for column in findings["stats"].values()]
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
    columns = COLUMNS[examples.shape]
    return _indented(table(columns, rows, texts=len(columns)))


def _sample(text: str) -> str:
    """Return a text as a cell; secrets are redacted before escaping, which would hide them from redaction."""
    safe = redact(text)
    cell = verbatim(safe)
    # The whole card is redacted at the end, which must not take the escaped mask and the end of the cell for a secret.
    return cell.replace("=", "&#61;").replace(":", "&#58;") if MASK in safe else cell


def _losses(config: LossConfig, findings: Mapping[str, str]) -> list[str]:
    """Describe a loss by the library's findings, which include the class's defaults, and the losses inside by ours."""
    name = findings["fullname"].rpartition(".")[2]
    is_library = findings["fullname"].startswith("sentence_transformers.")
    shown = f"[<code>{name}</code>]({LOSSES_PAGE}#{name.lower()})" if is_library else f"<code>{name}</code>"
    parameters = f" with these parameters:\n{findings['config_code']}" if "config_code" in findings else ""
    items, inner = [f"* Loss: {shown}{parameters}"], config.inner
    while inner is not None:
        values = {
            key: without_folders(value) if isinstance(value, str) else value for key, value in inner.parameters.items()
        }
        parameters = f" with these parameters:\n{json_block(values)}" if values else ", which has no parameters"
        items.append(f"* Inside that loss: `{inner.name}`{parameters}")
        inner = inner.inner
    return items


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())
