"""The card's datasets: where each came from, how large it is, what its texts and labels are like, three examples.

Must not know how data is read or converted; says what is left after it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from embedsweep.card.template import DatasetFacts, with_guide
from embedsweep.card.text import (
    data_name,
    data_source,
    folded,
    joined,
    json_block,
    last_part,
    table,
    verbatim,
    without_folders,
)
from embedsweep.config.trial import DataConfig, LossConfig, ParameterValue, TrialConfig
from embedsweep.data.examples import COLUMNS, Examples, Pairs, Splits, as_examples
from embedsweep.secrets import MASK, redact

SAMPLES = 3
FOLDED_FROM = 4
"""So many training datasets are folded, as the library does it."""


def training_data_section(
    config: TrialConfig, splits: Splits, also: Mapping[str, Examples], facts: Sequence[DatasetFacts]
) -> str:
    """What was trained on.

    Args:
        config: the trial's configuration.
        splits: its data; ``train`` as the loss saw it.
        also: what else was trained on, by its name in ``data.also``, as the losses saw it.
        facts: the library's findings, in the order of training; none where it has none.
    """
    trained = [(data_name(config.data), config.data, config.loss, splits.train)]
    for name, examples in also.items():
        further = config.data.also[name]
        trained.append((name, further.data, further.loss, examples))
    found = [*facts, *[None] * len(trained)]
    parts = [_trained_on(*each, found[index]) for index, each in enumerate(trained)]
    titles = [name for name, *_ in trained]
    if len(parts) >= FOLDED_FROM:
        parts = [folded(title, part) for title, part in zip(titles, parts, strict=True)]
    return "\n\n".join([f"### Training Dataset{'s' if len(parts) > 1 else ''}", *parts])


def evaluation_data_section(config: TrialConfig, splits: Splits) -> str:
    """What selected the model and what reports on it."""
    evaluation = config.evaluation
    parts = ["### Evaluation Datasets"]
    for split, pairs, own, purpose in (
        ("dev", splits.dev, evaluation.dev, "chooses"),
        ("test", splits.test, evaluation.test, "reports, and has no part in any choice"),
    ):
        data = own.data if own is not None else config.data
        title = f"{split}: {own.name if own is not None else data_name(data)}"
        parts.append(_scored_on(title, data, pairs, purpose, has_samples=split == "dev"))
    return "\n\n".join(parts)


def _trained_on(title: str, data: DataConfig, loss: LossConfig, examples: Examples, facts: DatasetFacts | None) -> str:
    items = [
        f"* Dataset: {data_source(data)}",
        f"* Read from: {_first_of(_places(examples.origin), data.limit)}",
        f"* Size: {len(examples):,} training samples",
        f"* Columns: {_columns(examples)}",
        *([f"* Converted: {without_folders(examples.conversion)}"] if examples.conversion else []),
        f"* Statistics of all {len(examples):,} samples:\n{_statistics(examples, facts)}",
        f"* Samples:\n{_samples(examples)}",
        *_loss(loss, facts),
    ]
    return "\n".join([f"#### {title}", "", *items])


def _scored_on(title: str, data: DataConfig, pairs: Pairs, purpose: str, *, has_samples: bool) -> str:
    examples = as_examples(pairs)
    items = [
        f"* Dataset: {data_source(data)}",
        f"* Read from: {_places(pairs.origin)}",
        f"* Size: {len(pairs):,} evaluation samples; {purpose}",
        f"* Columns: {_columns(examples)}",
        f"* Statistics of all {len(pairs):,} samples:\n{_statistics(examples, None)}",
        *([f"* Samples:\n{_samples(examples)}"] if has_samples else []),
    ]
    return "\n".join([f"#### {title}", "", *items])


def _places(origin: str) -> str:
    return verbatim(" + ".join(without_folders(part) for part in origin.split(" + ")))


def _first_of(places: str, limit: int | None) -> str:
    return places if limit is None else f"{places}, at most the first {limit:,} rows"


def _columns(examples: Examples) -> str:
    return joined([f"<code>{name}</code>" for name in COLUMNS[examples.shape]])


def _statistics(examples: Examples, facts: DatasetFacts | None) -> str:
    """A column for each of the examples' own; a row for each way to measure it."""
    labels = [] if examples.labels is None else [_label_statistics(examples)]
    blank = [""] * len(labels)
    rows = [
        ["type", *["string"] * len(examples.texts), *([] if examples.labels is None else [_label_type(examples)])],
        ["characters", *(_spread([len(text) for text in column]) for column in examples.texts), *blank],
        ["words", *(_spread([len(text.split()) for text in column]) for column in examples.texts), *blank],
    ]
    if facts is not None and len(facts.tokens) == len(examples.texts):
        tokens = [f"min {low}, mean {mean}, max {high}" for low, mean, high in facts.tokens]
        rows.append(
            ["tokens" if facts.counted >= len(examples) else f"tokens, of the first {facts.counted}", *tokens, *blank]
        )
    if labels:
        rows.append(["values", *[""] * len(examples.texts), *labels])
    return _indented(table(["", *COLUMNS[examples.shape]], rows, texts=len(rows[0])))


def _label_type(examples: Examples) -> str:
    return "class" if examples.classes is not None else "0 or 1" if examples.shape == "binary_pairs" else "float"


def _label_statistics(examples: Examples) -> str:
    assert examples.labels is not None
    if examples.classes is None and examples.shape != "binary_pairs":
        return _spread(examples.labels)
    names = examples.classes or ("0", "1")
    counts = Counter(int(label) for label in examples.labels)
    return ", ".join(
        f"{verbatim(names[number])} {count / len(examples):.2%}" for number, count in sorted(counts.items())
    )


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
    """A text as a cell, without secrets: once escaped, they are not found any more."""
    safe = redact(text)
    cell = verbatim(safe)
    # The whole card is redacted in the end, and must not take the escaped mask and the end of the cell for a secret.
    return cell.replace("=", "&#61;").replace(":", "&#58;") if MASK in safe else cell


def _loss(config: LossConfig, facts: DatasetFacts | None) -> list[str]:
    """The library's own words, which know the class and its defaults; and the losses inside, of which it says less."""
    own = facts.loss if facts is not None else None
    guide = next((each.parameters["guide"] for each in _nested(config) if "guide" in each.parameters), None)
    if own is not None and isinstance(guide, str):
        own = with_guide(own, last_part(guide))
    items = [own or _parameters(f"* Loss: `{config.name}`", config)]
    items += [_parameters(f"* Inside that loss: `{inner.name}`", inner) for inner in list(_nested(config))[1:]]
    return items


def _nested(config: LossConfig) -> Iterator[LossConfig]:
    """A loss and those inside it, from the outside."""
    loss: LossConfig | None = config
    while loss is not None:
        yield loss
        loss = loss.inner


def _parameters(words: str, config: LossConfig) -> str:
    if not config.parameters:
        return f"{words}, which has no parameters"
    shown = {name: _shown(value) for name, value in config.parameters.items()}
    return f"{words} with these parameters:\n{json_block(shown)}"


def _shown(value: ParameterValue) -> ParameterValue:
    return without_folders(value) if isinstance(value, str) else value


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())
