"""The card's parts against the library's real template, markdown and paths by themselves."""

from __future__ import annotations

import html
import re

import pytest
from datasets import Dataset, DatasetDict
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.base.model_card import generate_model_card
from sentence_transformers.sentence_transformer import losses

from embedsweep.card import template
from embedsweep.card.template import MADE_OF, with_citations
from embedsweep.card.text import LONGEST_CELL, code, is_hub_id, joined, verbatim, without_folders
from embedsweep.models.tiny import tiny_model_path


@pytest.fixture(scope="module")
def real_card(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the library writes of two datasets, one with a loss around a loss around a loss."""
    model = SentenceTransformer(str(tiny_model_path()), device="cpu")
    model.model_card_data.local_files_only = True
    model.model_card_data.generate_widget_examples = False
    scored = Dataset.from_dict({"a": ["one", "one two three"], "b": ["x", "y"], "score": [0.0, 1.0]})
    binary = Dataset.from_dict({"a": ["one", "two"], "b": ["x", "y"], "label": [0, 1]})
    SentenceTransformerTrainer(
        model=model,
        args=SentenceTransformerTrainingArguments(
            output_dir=str(tmp_path_factory.mktemp("checkpoints")), use_cpu=True, report_to="none", disable_tqdm=True
        ),
        train_dataset=DatasetDict({"first": scored, "second": binary}),
        loss={
            "first": losses.Matryoshka2dLoss(model, losses.CoSENTLoss(model), [128, 64]),
            "second": losses.OnlineContrastiveLoss(model),
        },
    )
    return generate_model_card(model)


def test_the_librarys_findings_are_read_dataset_by_dataset(real_card: str) -> None:
    first, second = template.dataset_facts(real_card)
    assert first.counted == 2
    assert len(first.tokens) == len(second.tokens) == 2
    # [CLS] and [SEP] beside one and three words of the tiny tokenizer, or more pieces of them.
    low, mean, high = (float(number) for number in first.tokens[0])
    assert 3 <= low < mean < high
    assert (first.loss or "").startswith("* Loss: [<code>Matryoshka2dLoss</code>](")
    assert '"loss": "CoSENTLoss"' in (first.loss or "")
    assert (second.loss or "").startswith("* Loss: [<code>OnlineContrastiveLoss</code>](")


def test_every_pattern_finds_its_place_in_the_real_template(real_card: str) -> None:
    assert template.INTRODUCTION.search(real_card)
    data = template.TRAINING_DATA.search(real_card)
    assert data is not None
    assert "#### first" in data[0]
    assert "#### second" in data[0]
    assert "### Framework" not in data[0]
    versions = template.VERSIONS.search(real_card)
    assert versions is not None
    assert versions[0].count("\n- ") == 7
    found = {name: pattern.search(real_card) for name, pattern in template.FACTS.items()}
    assert found["Base model"] is not None
    assert found["Language"] is not None
    assert found["Training Dataset"] is not None
    assert found["Training Dataset"][0] == "- **Training Datasets:**\n    - first\n    - second"


def test_every_loss_is_cited_those_inside_too_and_once(real_card: str) -> None:
    tags = re.findall(r"^- (loss:\w+)$", real_card, re.MULTILINE)
    assert tags == ["loss:Matryoshka2dLoss", "loss:OnlineContrastiveLoss", "loss:MatryoshkaLoss", "loss:CoSENTLoss"]
    text = with_citations(real_card, tags)
    cited = text.partition("## Citation")[2]
    for paper in ("li20242d", "kusupati2024matryoshka", "10531646", "hadsell2006", "reimers-2019"):
        assert cited.count(f"{{{paper}") == 1
    assert with_citations(text, tags) == text


def test_losses_cited_here_have_no_citation_of_their_own() -> None:
    for loss, made_of in MADE_OF.items():
        assert not hasattr(getattr(losses, loss), "citation")
        assert all(hasattr(getattr(losses, name), "citation") for name in made_of)
    assert len(MADE_OF) == 2


@pytest.mark.parametrize(
    "text", ["a | b", "<script>", "*bold* _it_ `code`", "[a](b)", "R&amp;D & Co", "# no heading", "\\|", "<!-- x -->"]
)
def test_a_text_is_shown_as_it_is_and_marks_nothing_up(text: str) -> None:
    cell = verbatim(text)
    inner = cell.removeprefix("<code>").removesuffix("</code>")
    assert html.unescape(inner) == text
    assert not re.search(r"[|<>*_`\[\]\\]", inner)


def test_a_long_or_broken_text_stays_one_line() -> None:
    assert verbatim("a\nb") == "<code>a<br>b</code>"
    assert verbatim("x" * (LONGEST_CELL + 1)) == f"<code>{'x' * LONGEST_CELL}...</code>"


def test_short_values_are_plain_code() -> None:
    assert code("[0.0, 5.0]") == "`[0.0, 5.0]`"
    assert code("a|b") == "<code>a&#124;b</code>"
    assert joined(["a"]) == "a"
    assert joined(["a", "b", "c"]) == "a, b and c"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/home/me/data/train.csv", "train.csv"),
        ("/home/my own/data/train set.csv", "train set.csv"),
        ("~/data", "data"),
        ("../data/x", "x"),
        ("./x", "x"),
        ("C:\\Users\\me\\x.csv", "x.csv"),
        ("read from /home/me/x.csv, line 3", "read from x.csv, line 3"),
        ("org/name@abc[es] train", "org/name@abc[es] train"),
        ("https://huggingface.co/org/name", "https://huggingface.co/org/name"),
        ("1/2 of 0-5", "1/2 of 0-5"),
        ("/", "a folder"),
    ],
)
def test_paths_are_cut_to_their_last_part(text: str, expected: str) -> None:
    assert without_folders(text) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("org/name", True),
        ("bert-base-uncased", True),
        ("/org/name", False),
        ("~/name", False),
        ("../name", False),
        ("a/b/c", False),
        ("org/name.", False),
        ("org/na--me", False),
        (None, False),
    ],
)
def test_ids_of_the_hub_are_told_from_paths(name: str | None, expected: bool) -> None:
    assert is_hub_id(name) == expected
