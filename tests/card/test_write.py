"""Model cards as they are written after a training and completed after a study."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jinja2
import jinja2.meta
import psutil
import pytest
import torch
import yaml
from datasets import DatasetDict
from huggingface_hub import EvalResult, ModelCard
from sentence_transformers import SentenceTransformer, SentenceTransformerModelCardData
from sentence_transformers.base.model_card import get_losses
from sentence_transformers.sentence_transformer import losses
from sentence_transformers.sentence_transformer.evaluation import EmbeddingSimilarityEvaluator

from embedsweep.card.write import FOLLOWS, TEMPLATE, complete_card, write_card
from embedsweep.config.result import Emissions, TrialResult
from embedsweep.config.trial import DEV_METRICS, AlsoConfig, BenchmarkConfig, LossConfig, TrialConfig
from embedsweep.data.examples import Examples, Pairs, Splits
from embedsweep.emissions.rows import COLUMNS, write_rows
from embedsweep.losses.nesting import training_dataset
from embedsweep.losses.teachers import load_encoder
from embedsweep.models.tiny import tiny_model_path
from embedsweep.validation.single import pass_single

DEV = {name: 0.5 + index / 100 for index, name in enumerate(DEV_METRICS)}
TEST = {name.replace("dev/", "test/"): value + 0.2 for name, value in DEV.items()}
BEFORE = {name: value - 0.3 for name, value in {**DEV, **TEST}.items()}
RESULT = TrialResult(
    objective=DEV["dev/spearman_cosine"],
    dev=DEV,
    test={},
    before={},
    benchmarks={},
    best_step=40,
    steps=90,
    emissions=Emissions(0.00125, 0.0042, 360.0, "FRA", ("cpu power estimated",)),
    pruned=False,
    conversion="positive pairs: score >= 0.8",
    examples_per_s=12.5,
)
TRAIN = Examples(
    "scored_pairs",
    (("one two", "three", "a | b <i>", "four"), ("x", "yy", "zzz", "api_key=abcdef123456")),
    (0.0, 0.5, 1.0, 0.25),
    None,
    "/home/somebody/private data/train.csv",
    "pairs from nowhere",
)
PAIRS = Pairs(("a b", "c"), ("d", "e"), (0.0, 1.0), "/home/somebody/dev.csv")
SPLITS = Splits(TRAIN, PAIRS, PAIRS)
COSENT = LossConfig("cosent", {}, None)
OLD_CARD = Path(__file__).parent / "cards" / "34dd685.md"
"""Written by ``-m loss=cosent study.name=old optimizer.lr=1e-4,3e-4 data.limit=200 trainer.max_steps=4`` of 34dd685."""


@pytest.fixture(scope="module")
def config() -> TrialConfig:
    return pass_single(["loss=mnrl", "optimizer.lr=3e-4", "trainer.device=cpu"]).config


@pytest.fixture(scope="module")
def tiny() -> SentenceTransformer:
    return SentenceTransformer(str(tiny_model_path()), device="cpu")


@pytest.fixture
def model(tiny: SentenceTransformer) -> SentenceTransformer:
    """The tiny model with the card data that a training on TRAIN leaves."""
    return as_trained(tiny, {"demo": (TRAIN, losses.CoSENTLoss(tiny))})


def as_trained(
    model: SentenceTransformer, datasets: Mapping[str, tuple[Examples, torch.nn.Module]]
) -> SentenceTransformer:
    """Fill a model's card data as the library's trainer does."""
    data = SentenceTransformerModelCardData(local_files_only=True)
    data.register_model(model)
    trained = {name: training_dataset(COSENT, examples, model, seed=1) for name, (examples, _) in datasets.items()}
    several = len(datasets) > 1
    data.train_datasets = data.extract_dataset_metadata(
        DatasetDict(trained) if several else next(iter(trained.values())),
        [],
        {name: loss for name, (_, loss) in datasets.items()} if several else next(iter(datasets.values()))[1],
        "train",
    )
    data.set_losses(get_losses({name: loss for name, (_, loss) in datasets.items()}))
    data.widget = [{"source_sentence": "A man is here, password=hunter22", "sentences": ["A dog."]}]
    data.all_hyperparameters = {"max_steps": 20, "seed": 42}
    data.non_default_hyperparameters = {"max_steps": 20}
    data.training_logs = [{"Epoch": 1.0, "Step": 40, "Training Loss": 0.5}]
    data.set_best_model_step(40)
    # The library keeps the scores of its last evaluation, which are not those of the checkpoint that is kept.
    evaluator = EmbeddingSimilarityEvaluator(["a"], ["b"], [1.0], name="dev")
    data.set_evaluation_metrics(evaluator, {"dev_spearman_cosine": 0.1111})
    model.model_card_data = data
    return model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    model = tmp_path / "model"
    model.mkdir()
    row = dict.fromkeys(COLUMNS, "") | {"attempt": "1", "cpu_model": "Some CPU", "gpu_model": "1 x Some GPU"}
    write_rows(tmp_path / "emissions.csv", [row])
    return model


Write = Callable[..., str]


@pytest.fixture
def write(config: TrialConfig, folder: Path, model: SentenceTransformer) -> Write:
    """Return a function that writes the card of ``folder`` and returns its text."""

    def written(
        result: TrialResult = RESULT,
        config: TrialConfig = config,
        splits: Splits = SPLITS,
        also: dict[str, Examples] | None = None,
        selection: str = "It was run once.",
    ) -> str:
        write_card(model, folder, config, result, splits, also or {}, selection, folder.parent / "emissions.csv")
        return text_of(folder)

    return written


def front_matter(folder: Path) -> dict[str, Any]:
    _, matter, _ = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    data: dict[str, Any] = yaml.safe_load(matter)
    return data


def text_of(folder: Path) -> str:
    return (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)[2]


def metadata_scores(folder: Path) -> dict[str, float]:
    """Return the scores of the model-index under this project's names."""
    (index,) = front_matter(folder)["model-index"]
    return {
        f"{result['dataset']['split']}/{metric['type']}": metric["value"]
        for result in index["results"]
        for metric in result["metrics"]
    }


def part(text: str, heading: str) -> str:
    """Return the text from a heading to the next of its level or above, or to a marker."""
    level = len(heading.split(maxsplit=1)[0])
    begin = re.search(f"^{re.escape(heading)}$", text, re.MULTILINE)
    assert begin is not None, f"no {heading}"
    end = re.search(rf"^(#{{1,{level}}} |<!-- embedsweep: )", text[begin.end() :], re.MULTILINE)
    return text[begin.end() : begin.end() + end.start() if end else None]


def rows(section: str) -> list[list[str]]:
    lines = [line.strip() for line in section.splitlines()]
    return [line.strip("| ").split(" | ") for line in lines if line.startswith("|") and ":---" not in line]


def test_emissions_are_metadata_in_grams(folder: Path, write: Write) -> None:
    text = write()
    assert front_matter(folder)["co2_eq_emissions"] == {
        "emissions": pytest.approx(1.25),
        "energy_consumed": 0.0042,
        "source": "codecarbon",
        "training_type": "fine-tuning",
        "on_cloud": False,
        "cpu_model": "Some CPU",
        "ram_total_size": pytest.approx(psutil.virtual_memory().total / 2**30),
        "hours_used": pytest.approx(0.1),
        "hardware_used": "Some CPU",  # trainer.device=cpu: the machine's GPU was not used
        "geographical_location": "FRA",
    }
    cost = part(text, "### Environmental Impact")
    for words in ("0.0042 kWh", "1.25 g of CO2", "0.1 hours", "**Electricity Mix**: FRA", "cpu power estimated"):
        assert words in cost
    assert "**GPU Model**: No GPU used\n- **CPU Model**: Some CPU" in part(text, "### Training Hardware")
    assert "Training Time" not in text


@pytest.mark.parametrize("device", ["auto", "cuda:0"])
def test_a_gpu_that_was_used_is_named(config: TrialConfig, folder: Path, write: Write, device: str) -> None:
    text = write(config=replace(config, trainer=replace(config.trainer, device=device)))
    assert front_matter(folder)["co2_eq_emissions"]["hardware_used"] == "1 x Some GPU"
    assert "**GPU Model**: 1 x Some GPU" in text


def test_gpu_hours_and_memory_are_shown_if_a_gpu_was_used(write: Write) -> None:
    text = write()
    assert "GPU Hours" not in text
    assert "Peak GPU Memory" not in text
    emissions = replace(RESULT.emissions, gpu_h=0.01234)
    text = write(replace(RESULT, emissions=emissions, peak_memory_gib=3.456))
    assert "- **GPU Hours**: 0.01234 hours\n" in part(text, "### Environmental Impact")
    assert "- **Peak GPU Memory**: 3.46 GiB\n" in part(text, "### Training Hardware")


def test_emissions_that_were_not_measured_are_left_out_of_the_metadata(folder: Path, write: Write) -> None:
    write(replace(RESULT, emissions=Emissions(0.0, 0.0, 360.0, "world average", ("attempt 1 not measured",))))
    assert "co2_eq_emissions" not in front_matter(folder)
    write(replace(RESULT, emissions=replace(RESULT.emissions, country="world average")))
    assert "geographical_location" not in front_matter(folder)["co2_eq_emissions"]


def test_all_scores_are_metadata_and_replace_the_librarys(config: TrialConfig, folder: Path, write: Write) -> None:
    write()
    assert metadata_scores(folder) == DEV
    assert front_matter(folder)["metrics"] == [name.removeprefix("dev/") for name in DEV]
    complete_card(folder, config, replace(RESULT, test=TEST), "It is the best of 3 trials.")
    assert metadata_scores(folder) == DEV | TEST


def test_the_table_has_every_score_and_marks_the_objective(write: Write) -> None:
    head, *body = rows(part(write(replace(RESULT, test=TEST)), "## Evaluation"))
    assert head == ["similarity", "dev Pearson", "dev Spearman", "test Pearson", "test Spearman"]
    scores = DEV | TEST
    expected = [
        [name, *(f"{scores[f'{column}_{name}']:.4f}" for column in ("dev/pearson", "dev/spearman"))]
        + [f"{scores[f'{column}_{name}']:.4f}" for column in ("test/pearson", "test/spearman")]
        for name in ("cosine", "euclidean", "manhattan", "dot", "max")
    ]
    assert [[cell.strip("*") for cell in row] for row in body] == expected
    assert [cell for row in body for cell in row if cell.startswith("**")] == [f"**{DEV['dev/spearman_cosine']:.4f}**"]


def test_scores_before_training_of_truncated_embeddings_and_of_benchmarks_have_tables(
    config: TrialConfig, write: Write
) -> None:
    benchmarks = tuple(BenchmarkConfig(name, "folder", "test", config.data) for name in ("sts2017-es", "news-2024"))
    cut = {"dev-32/spearman_cosine": 0.41, "dev-64/pearson_cosine": 0.42}
    text = write(
        replace(
            RESULT,
            dev={**DEV, **cut},
            before={**BEFORE, "sts2017-es/pearson_dot": 0.33},
            benchmarks={
                "sts2017-es/pearson_dot": 0.44,
                "sts2017-es-64/pearson_dot": 0.43,
                "news-2024/spearman_dot": 0.45,
            },
        ),
        replace(config, evaluation=replace(config.evaluation, benchmarks=benchmarks)),
    )
    head, first, *_ = rows(part(text, "### Before training"))
    assert head == ["similarity", "dev Pearson", "dev Spearman", "test Pearson", "test Spearman"]
    assert first == ["cosine", "0.2000", "0.2500", "0.4000", "0.4500"]  # DEV and TEST, less 0.3
    head, *body = rows(part(text, "### Truncated embeddings"))
    assert head == ["dimensions", "similarity", "dev Pearson", "dev Spearman"]
    assert [body[0], body[5]] == [["64", "cosine", "0.4200", "-"], ["32", "cosine", "-", "0.4100"]]
    head, *body = rows(part(text, "### Other benchmarks"))
    assert head[-4:] == ["Pearson", "Spearman", "Pearson before", "Spearman before"]
    assert [row for row in body if row[2] == "dot"] == [
        ["sts2017-es", "all", "dot", "0.4400", "-", "0.3300", "-"],
        ["sts2017-es", "64", "dot", "0.4300", "-", "-", "-"],
        ["news-2024", "all", "dot", "-", "0.4500", "-", "-"],
    ]


def test_completing_a_card_gives_the_card_that_is_written_with_everything(
    config: TrialConfig, folder: Path, write: Write
) -> None:
    final = replace(RESULT, test=TEST, before=BEFORE)
    write(final, selection="It is the best of 3 trials.")
    expected = (folder / "README.md").read_text(encoding="utf-8")
    write(selection="It is one trial of a study.")
    for _ in range(2):
        complete_card(folder, config, final, "It is the best of 3 trials.")
        assert (folder / "README.md").read_text(encoding="utf-8") == expected
    write(final, selection="It is the best of 3 trials.")
    assert (folder / "README.md").read_text(encoding="utf-8") == expected


def test_every_section_is_there_once_and_in_order(write: Write) -> None:
    text = write()
    prose = re.sub(r"^```.*?^```", "", re.sub("<!--.*?-->", "", text, flags=re.DOTALL), flags=re.DOTALL | re.MULTILINE)
    assert [line for line in prose.splitlines() if line.startswith("#")] == [
        "# SentenceTransformer",
        "## Model Details",
        "### Model Description",
        "### Model Sources",
        "### Full Model Architecture",
        "## Usage",
        "### Direct Usage (Sentence Transformers)",
        "## Evaluation",
        "## Training Details",
        "### How this model was trained",
        "### Training Dataset",
        "#### demo",
        "### Evaluation Datasets",
        "#### dev: demo",
        "#### test: demo",
        "### Training Hyperparameters",
        "#### Non-Default Hyperparameters",
        "#### All Hyperparameters",
        "### Configuration of embedsweep",
        "### Training Logs",
        "### Environmental Impact",
        "### Training Hardware",
        "### Framework Versions",
        "## Additional Resources",
        "## Citation",
        "### BibTeX",
        "#### Sentence Transformers",
        "#### CoSENTLoss",
    ]
    for replaced in ("0.1111", "Evaluator", "Unnamed Dataset"):
        assert replaced not in text


def test_the_template_uses_all_variables_of_the_librarys_except_those_it_replaces(
    model: SentenceTransformer,
) -> None:
    environment = jinja2.Environment(autoescape=False)
    library, ours = (
        jinja2.meta.find_undeclared_variables(environment.parse(path.read_text(encoding="utf-8")))
        for path in (model.model_card_data.template_path, TEMPLATE)
    )
    of_training = {"co2_eq_emissions", "training_time", "evaluation_time", "total_time"}
    assert library - ours == {"base_model", "base_model_revision", "eval_metrics", *of_training} | {
        "train_datasets",
        "eval_datasets",
    }


def test_the_training_log_marks_the_checkpoint_that_was_kept(write: Write) -> None:
    assert rows(part(write(), "### Training Logs"))[1] == ["**1.0**", "**40**", "**0.5**"]


def test_completing_a_card_of_an_earlier_version_changes_scores_and_selection_alone(
    config: TrialConfig, folder: Path
) -> None:
    card = folder / "README.md"
    card.write_bytes(OLD_CARD.read_bytes())
    before = text_of(folder)
    complete_card(folder, config, replace(RESULT, test=TEST), "It is the best of 3 trials.")
    after = text_of(folder)
    for name in ("evaluation", "origin"):
        block = re.compile(f"<!-- embedsweep: {name} -->.*?<!-- embedsweep: {name}, end -->", re.DOTALL)
        assert len(block.findall(after)) == 1
        before, after = block.sub("", before), block.sub("", after)
    assert after == before
    text = text_of(folder)
    assert rows(part(text, "## Evaluation"))[1] == ["cosine", "0.5000", "**0.5500**", "0.7000", "0.7500"]
    assert "It is the best of 3 trials." in part(text, "### How this model was trained")
    assert "### How this model came about" not in text
    assert metadata_scores(folder) == DEV | TEST
    assert front_matter(folder)["model-index"][0]["name"] == "SentenceTransformer"
    assert front_matter(folder)["co2_eq_emissions"]["cpu_model"] == "AMD EPYC"


def test_a_card_that_somebody_rewrote_gets_the_scores_at_its_end(config: TrialConfig, folder: Path) -> None:
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# My model\n\nIt is good.\n", encoding="utf-8")
    for _ in range(2):
        complete_card(folder, config, RESULT, "It is the best of 3 trials.")
        text = text_of(folder)
        assert text.startswith("# My model\n\nIt is good.\n")
        assert text.count("## Evaluation") == text.count("It is the best of 3 trials.") == 1
    assert metadata_scores(folder) == DEV
    assert front_matter(folder)["license"] == "mit"


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


@pytest.mark.parametrize(
    ("best", "words"),
    [
        (True, "checkpoint of step 40 was kept: it has the best `dev/spearman_cosine` (0.5500) of all that"),
        (False, "The last checkpoint was kept, of step 40, with `dev/spearman_cosine` 0.5500."),
    ],
)
def test_the_card_says_how_the_model_was_chosen(config: TrialConfig, write: Write, best: bool, words: str) -> None:
    trainer = replace(config.trainer, load_best_model_at_end=best)
    text = write(config=replace(config, trainer=trainer))
    origin = part(text, "### How this model was trained")
    assert words in origin
    assert "for 90 optimizer steps" in origin


def test_the_card_warns_of_a_dev_split_that_was_trained_on(config: TrialConfig, write: Write) -> None:
    assert "cannot be trusted" not in write()
    splits = {**config.data.splits, "train": ("train", "dev")}
    assert "`dev` is part of the training data too: the dev scores cannot be trusted" in write(
        config=replace(config, data=replace(config.data, splits=splits))
    )


@pytest.mark.parametrize("path", ["/home/somebody/models/base", "~/models/base", "../base", "base"])
def test_a_local_base_model_is_named_by_its_folder_alone(
    config: TrialConfig, folder: Path, write: Write, path: str
) -> None:
    text = write(config=replace(config, model=replace(config.model, name="pretrained", path=path)))
    assert "base_model" not in front_matter(folder)
    assert "model finetuned from `base` (a local folder) on demo. It maps" in text
    assert "- **Base model:** `base` (a local folder)\n" in text
    assert "| `model.path` | `base` |" in text


def test_a_base_model_from_the_hub_is_metadata_and_a_link(
    config: TrialConfig, folder: Path, model: SentenceTransformer, write: Write
) -> None:
    model.model_card_data.base_model = "org/base"
    base = replace(config.model, name="pretrained", path="org/base", revision="main")
    text = write(config=replace(config, model=base))
    assert front_matter(folder)["base_model"] == "org/base"
    assert "finetuned from [org/base](https://huggingface.co/org/base) at [main](" in text
    assert "| `model.path` | `org/base` |" in text


@pytest.mark.parametrize(
    ("path", "language", "expected"),
    [
        (None, "es", {"datasets": ["ORG/STS"], "language": ["es"]}),
        ("some/folder", "es", {"language": ["es"]}),
        (None, "all", {"datasets": ["ORG/STS"]}),
    ],
)
def test_a_hub_dataset_and_its_language_are_metadata(
    config: TrialConfig, folder: Path, write: Write, path: str | None, language: str, expected: dict[str, list[str]]
) -> None:
    data = replace(config.data, name="sts", hub="ORG/STS", revision="abc", language=language, path=path)
    text = write(config=replace(config, data=data))
    matter = front_matter(folder)
    assert {key: matter[key] for key in ("datasets", "language") if key in matter} == expected
    (result,) = matter["model-index"][0]["results"]
    assert result["dataset"] == {
        "type": "ORG/STS" if path is None else "sts",
        "name": f"sts ({language}), dev",
        "config": language,
        "split": "dev",
        "revision": "abc",
    }
    link = "[ORG/STS](https://huggingface.co/datasets/ORG/STS) at [abc]("
    assert (link in text) == (path is None)


def test_folders_of_this_machine_are_left_out(config: TrialConfig, folder: Path, write: Write) -> None:
    data = replace(config.data, name="csv", path="/home/somebody/data", files="{split}.csv")
    evaluation = replace(config.evaluation, path="/home/somebody/sts")
    write(config=replace(config, data=data, evaluation=evaluation))
    whole = (folder / "README.md").read_text(encoding="utf-8")
    assert "somebody" not in whole
    assert "<code>train.csv</code>" in whole
    assert "private data" not in whole


def test_secrets_in_the_data_are_redacted(folder: Path, write: Write) -> None:
    texts = (("api_key=abcdef123456", "b", "c", "d"), ("a", "b", "c", "d"))
    write(splits=Splits(replace(TRAIN, texts=texts), PAIRS, PAIRS))
    whole = (folder / "README.md").read_text(encoding="utf-8")
    assert "abcdef123456" not in whole
    assert "hunter22" not in whole
    assert "password=***" in whole
    assert "<code>api&#95;key&#61;&#42;&#42;&#42;</code>" in whole


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


def test_a_guide_is_called_by_its_name(tmp_path: Path, model: SentenceTransformer, write: Write) -> None:
    model.save_pretrained(str(tmp_path / "mine"), create_model_card=False)
    as_trained(
        model, {"demo": (TRAIN, losses.GISTEmbedLoss(model, load_encoder(str(tmp_path / "mine"), model.device)))}
    )
    text = write()
    assert """"guide": "SentenceTransformer('mine')",\n""" in text
    assert str(tmp_path) not in text


def test_every_loss_is_cited_once_with_those_inside(
    model: SentenceTransformer, write: Write, config: TrialConfig
) -> None:
    nested = losses.Matryoshka2dLoss(model, losses.CoSENTLoss(model), [128, 64])
    binary = Examples("binary_pairs", (("a", "b"), ("c", "d")), (0.0, 1.0), None, "more.csv", None)
    as_trained(model, {"demo": (TRAIN, nested), "more": (binary, losses.OnlineContrastiveLoss(model))})
    data = replace(config.data, also={"more": AlsoConfig(config.data, LossConfig("online_contrastive", {}, None))})
    for _ in range(2):
        cited = write(config=replace(config, data=data), also={"more": binary}).partition("## Citation")[2]
        for paper in ("li20242d", "kusupati2024matryoshka", "10531646", "hadsell2006", "reimers-2019"):
            assert cited.count(f"{{{paper}") == 1


def test_losses_cited_here_have_no_citation_in_the_library() -> None:
    for name, follows in FOLLOWS.items():
        assert not hasattr(getattr(losses, name), "citation")
        assert all(hasattr(getattr(losses, each), "citation") for each in follows)
    assert len(FOLLOWS) == 2


@pytest.mark.parametrize(
    ("matter", "expected"),
    [
        ("license: cc-by-sa-4.0", "cc-by-sa-4.0"),
        ("license: other", None),
        ("license: [mit, apache-2.0]", None),
        ("license: Whatever I say", None),
        ("license: [", None),
        ("language: es", None),
    ],
)
def test_the_licence_is_the_base_models_own(
    config: TrialConfig, folder: Path, write: Write, tmp_path: Path, matter: str, expected: str | None
) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "README.md").write_text(f"---\n{matter}\n---\n# Base\n", encoding="utf-8")
    text = write(config=replace(config, model=replace(config.model, path=str(tmp_path / "base"))))
    assert front_matter(folder).get("license") == expected
    line = f"- **License:** {expected}\n" if expected else "<!-- - **License:** Unknown -->\n"
    assert line in text


def test_versions_include_optuna_codecarbon_and_embedsweep(write: Write) -> None:
    lines = part(write(), "### Framework Versions").split("\n")
    assert [line.split(":")[0] for line in lines if line.startswith("- ")] == [
        "- Python",
        "- Sentence Transformers",
        "- Transformers",
        "- PyTorch",
        "- Accelerate",
        "- Datasets",
        "- Tokenizers",
        "- Optuna",
        "- CodeCarbon",
        "- embedsweep",
    ]
    assert all(line.split(": ")[1][0].isdigit() for line in lines if line.startswith("- "))


def test_a_folder_without_a_card_is_refused(config: TrialConfig, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        complete_card(tmp_path / "nowhere", config, RESULT, "")


def test_metadata_is_unchanged_by_the_hubs_reader(config: TrialConfig, folder: Path, write: Write) -> None:
    benchmark = BenchmarkConfig("sts2017-es", "folder", "test", config.data)
    write(
        replace(RESULT, test=TEST, benchmarks={"sts2017-es/spearman_dot": 0.4, "sts2017-es-64/spearman_dot": 0.3}),
        replace(config, evaluation=replace(config.evaluation, benchmarks=(benchmark,))),
    )
    card = ModelCard.load(folder / "README.md", ignore_metadata_errors=False)
    assert len(card.data.eval_results) == 22
    assert all(isinstance(score, EvalResult) for score in card.data.eval_results)
    truncated = [score for score in card.data.eval_results if score.metric_args is not None]
    assert [(score.metric_args, score.metric_name) for score in truncated] == [
        ({"truncate_dim": 64}, "Spearman Dot, 64 dimensions")
    ]
    before = front_matter(folder)
    card.save(folder / "README.md")
    assert front_matter(folder) == before


@pytest.mark.parametrize("place", ["local", "hub", "demo"])
def test_metadata_has_the_types_that_the_hub_requires(
    config: TrialConfig, folder: Path, write: Write, place: str
) -> None:
    """Check the Hub's specification, https://github.com/huggingface/hub-docs/blob/main/modelcard.md."""
    data = {
        "local": replace(config.data, name="my data: 1+1", path="/home/somebody/data", language="pt-BR"),
        "hub": replace(config.data, name="sts", hub="ORG/STS", revision="abc", language="no"),
        "demo": config.data,
    }[place]
    write(replace(RESULT, test=TEST), replace(config, data=data))
    matter = front_matter(folder)
    allowed = {"tags", "widget", "pipeline_tag", "library_name", "metrics", "model-index", "co2_eq_emissions"}
    assert allowed <= set(matter) <= allowed | {"language", "datasets", "base_model"}
    for key in ("tags", "metrics"):
        assert matter[key]
        assert all(isinstance(value, str) and value for value in matter[key])
    assert (matter["pipeline_tag"], matter["library_name"]) == ("sentence-similarity", "sentence-transformers")
    assert matter.get("language") == (["no"] if place == "hub" else None)  # not YAML 1.1's boolean
    for example in matter["widget"]:
        assert set(example) == {"source_sentence", "sentences"}
        assert all(isinstance(sentence, str) for sentence in [example["source_sentence"], *example["sentences"]])
    cost = matter["co2_eq_emissions"]
    for key in ("emissions", "energy_consumed", "ram_total_size", "hours_used"):
        assert isinstance(cost[key], float)
        assert math.isfinite(cost[key])
    for key in ("source", "training_type", "geographical_location", "hardware_used", "cpu_model"):
        assert isinstance(cost[key], str)
    (index,) = matter["model-index"]
    assert index["name"] == "SentenceTransformer"
    assert len(index["results"]) == 2
    for result in index["results"]:
        assert result["task"]["type"] == "semantic-similarity"
        assert re.fullmatch(r"([\w-]+/)?[\w.-]+", result["dataset"]["type"])  # the Hub's own pattern
        assert all(isinstance(value, str) and value for value in result["dataset"].values())
        assert len(result["metrics"]) == 10
        for metric in result["metrics"]:
            assert isinstance(metric["type"], str)
            assert isinstance(metric["value"], float)
