"""The card's description of datasets and losses."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import losses

from embedsweep.card.data import evaluation_datasets
from embedsweep.config.trial import AlsoConfig, BenchmarkConfig, LossConfig, TrialConfig
from embedsweep.data.examples import Examples, Splits
from embedsweep.data.load import load_splits
from embedsweep.data.scored import Pairs, Retrieval
from embedsweep.losses.builders import load_encoder
from embedsweep.validation.single import pass_single
from tests.card.cases import (
    PAIRS,
    TRAIN,
    Write,
    as_trained,
    front_matter,
    part,
    rows,
)


def token_counts(model: SentenceTransformer, texts: Sequence[str]) -> str:
    counts = [len(model.tokenizer(text)["input_ids"]) for text in texts]
    return f"min {min(counts)}, mean {round(sum(counts) / len(counts), 2)}, max {max(counts)}"


def test_the_training_data_is_described_in_full(model: SentenceTransformer, write: Write) -> None:
    text = part(write(), "#### demo")
    assert "* Size: 4 training samples\n* Columns: <code>sentence1</code>, <code>sentence2</code> and" in text
    assert "* Converted: pairs from nowhere\n" in text
    assert rows(text.partition("* Samples")[0]) == [
        ["sentence1", "sentence2", "score"],
        ["type", "string", "string", "float"],
        ["characters", "min 4, mean 6.25, max 9", "min 1, mean 6.5, max 20"],
        ["words", "min 1, mean 2, max 4", "min 1, mean 1, max 1"],
        ["tokens", *(token_counts(model, column) for column in TRAIN.texts)],
        ["values", "", "", "min 0, mean 0.4375, max 1"],
    ]
    assert rows(text.partition("* Samples")[2].partition("* Loss")[0]) == [
        ["sentence1", "sentence2", "score"],
        ["<code>one two</code>", "<code>x</code>", "<code>0</code>"],
        ["<code>three</code>", "<code>yy</code>", "<code>0.5</code>"],
        ["<code>a &#124; b &lt;i&gt;</code>", "<code>zzz</code>", "<code>1</code>"],
    ]
    assert '"similarity_fct": "pairwise_cos_sim"' in text  # the library's facts about the loss


def test_tokens_are_counted_in_as_many_examples_as_the_card_says(model: SentenceTransformer, write: Write) -> None:
    texts = (*["one two"] * 103, "one two three", "one two three four"), ("x",) * 105
    train = replace(TRAIN, texts=texts, labels=(0.0,) * 105)
    as_trained(model, {"demo": (train, losses.CoSENTLoss(model))})
    table = rows(part(write(splits=Splits(train, PAIRS, PAIRS)), "#### demo").partition("* Samples")[0])
    assert table[4] == ["tokens, of the first 104", *(token_counts(model, column[:104]) for column in texts)]
    assert table[3][1].endswith("max 4")  # words of all


def test_classes_are_counted_by_name(config: TrialConfig, write: Write) -> None:
    train = Examples("class_texts", (("a", "b", "c", "d"),), (1.0, 0.0, 1.0, 1.0), ("no", "yes_no"), "x.csv", None)
    text = part(write(splits=Splits(train, PAIRS, PAIRS)), "#### demo")
    assert "<code>no</code> 25.00%, <code>yes&#95;no</code> 75.00%" in text
    assert ["<code>a</code>", "<code>yes&#95;no</code>"] in rows(text)


def test_several_datasets_are_each_described_with_their_loss(
    config: TrialConfig, folder: Path, model: SentenceTransformer, write: Write
) -> None:
    inner = LossConfig("cosent", {"scale": 7.0}, None)
    loss = LossConfig("matryoshka", {"matryoshka_dims": (64, 32)}, inner)
    more = replace(config.data, name="csv", path="/home/somebody/more", files="{split}.csv", language="en")
    data = replace(config.data, language="es", also={"more": AlsoConfig(more, loss)})
    also = {"more": Examples("positive_pairs", (("a", "b"), ("c", "d")), None, None, "more.csv", None)}
    wrapper = losses.MatryoshkaLoss(model, losses.CoSENTLoss(model, scale=7.0), [64, 32])
    as_trained(model, {"demo": (TRAIN, losses.CoSENTLoss(model)), "more": (also["more"], wrapper)})
    text = write(config=replace(config, data=data), also=also)
    described = part(text, "#### more")
    assert "local files, `more` (`{split}.csv`)" in described
    assert "* Size: 2 training samples\n* Columns: <code>anchor</code> and <code>positive</code>" in described
    blocks = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", described, re.DOTALL)]
    assert [block.get("matryoshka_dims") for block in blocks] == [[64, 32], None]
    assert blocks[1] == {"scale": 7.0}
    assert "* Loss: [<code>MatryoshkaLoss</code>](https://sbert.net/" in described
    assert "* Inside that loss: `cosent`" in described
    assert front_matter(folder)["language"] == ["es", "en"]
    assert "### Training Datasets\n" in text
    assert "- **Languages:** es, en\n" in text


def test_four_datasets_are_folded_and_an_inner_loss_without_parameters_says_so(
    config: TrialConfig, model: SentenceTransformer, write: Write
) -> None:
    loss = LossConfig("matryoshka", {"matryoshka_dims": (64,)}, LossConfig("cosine", {}, None))
    names = ("one", "two", "three")
    data = replace(config.data, also={name: AlsoConfig(config.data, loss) for name in names})
    wrapper = losses.MatryoshkaLoss(model, losses.CosineSimilarityLoss(model), [64])
    as_trained(model, {"demo": (TRAIN, losses.CoSENTLoss(model)), **dict.fromkeys(names, (TRAIN, wrapper))})
    text = write(config=replace(config, data=data), also=dict.fromkeys(names, TRAIN))
    described = text.partition("### Training Datasets\n")[2].partition("### Evaluation Datasets")[0]
    for name in ("demo", *names):
        assert f"<details><summary>{name}</summary>\n\n#### {name}\n\n* Dataset: generated" in described
    assert described.count("\n\n</details>\n") == 4
    assert described.count("\n* Inside that loss: `cosine`, which has no parameters\n") == 3


def test_dev_has_escaped_samples_and_test_has_none(write: Write) -> None:
    texts = ("a | <i>", "b", "c", "d"), ("password=hunter22", "y", "z", "w")
    dev = Pairs(*texts, (0.0, 1.0, 0.5, 0.25), "dev.csv")
    dev_part, test_part = part(write(splits=Splits(TRAIN, dev, PAIRS)), "### Evaluation Datasets").split("#### test")
    assert rows(dev_part.partition("* Samples")[2]) == [
        ["sentence1", "sentence2", "score"],
        ["<code>a &#124; &lt;i&gt;</code>", "<code>password&#61;&#42;&#42;&#42;</code>", "<code>0</code>"],
        ["<code>b</code>", "<code>y</code>", "<code>1</code>"],
        ["<code>c</code>", "<code>z</code>", "<code>0.5</code>"],
    ]
    assert "* Samples" not in test_part


def test_benchmarks_are_described_as_they_were_read(config: TrialConfig, folder: Path, write: Write) -> None:
    semeval = replace(config.data, name="sts2012", format="semeval", files="STS.input.*.txt", hub=None)
    on_hub = replace(config.data, name="stsb", format="delimited", files="{split}.csv", hub="ORG/STS", revision="abc")
    dev = BenchmarkConfig("sts2012-en", "sts2012_en", "test", semeval, "sts", None)
    test = BenchmarkConfig("stsb-es-test", "stsb", "test", on_hub, "sts", None)
    evaluation = replace(config.evaluation, dev=dev, test=test, path="/home/somebody/benchmarks")
    text = part(write(config=replace(config, evaluation=evaluation)), "### Evaluation Datasets")
    assert "* Dataset: local files, `sts2012_en` (`STS.input.*.txt`)" in text
    assert "* Dataset: local files, `stsb` (`{split}.csv`)" in text
    assert "huggingface.co" not in text
    assert "generated" not in text
    text = part(write(config=replace(config, evaluation=replace(evaluation, path=None))), "#### test: stsb-es-test")
    assert "* Dataset: [ORG/STS](https://huggingface.co/datasets/ORG/STS) at [abc]" in text


def test_warnings_about_the_data_are_in_the_card_without_folders(write: Write) -> None:
    line = "1 of 2 test pairs also occur in dev (/home/somebody/test.csv, line 3); a <b> `c`"
    text = part(write(warnings=[line, "another"]), "### Warnings About the Data")
    assert "- <code>1 of 2 test pairs also occur in dev (test.csv, line 3); a &lt;b&gt; &#96;c&#96;</code>\n" in text
    assert "- <code>another</code>\n" in text
    assert "Warnings" not in write()


def test_a_guide_is_called_by_its_name(tmp_path: Path, model: SentenceTransformer, write: Write) -> None:
    model.save_pretrained(str(tmp_path / "mine"), create_model_card=False)
    as_trained(
        model, {"demo": (TRAIN, losses.GISTEmbedLoss(model, load_encoder(str(tmp_path / "mine"), model.device)))}
    )
    text = write()
    assert """"guide": "SentenceTransformer('mine')",\n""" in text
    assert str(tmp_path) not in text


def test_questions_and_documents_of_what_is_searched_are_counted() -> None:
    config = pass_single(["data=demo_retrieval", "loss=mnrl", "evaluation=retrieval"]).config
    splits = load_splits(config.data, config.evaluation)
    described = evaluation_datasets(config, splits)
    assert isinstance(splits.dev, Retrieval)
    size = f"{len(splits.dev.query_ids)} questions, 60 documents"
    assert described["dev"]["searched"] == f"{size}; a sample is a question with a document that is relevant to it"
    assert described["dev"]["size"] == len(splits.dev.relevant_pairs)
