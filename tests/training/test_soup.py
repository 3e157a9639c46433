"""Averages of models: equal to the library's, kept where dev rises, made again after an interruption."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from sentence_transformers import SentenceTransformer

from embedsweep.config.trial import TrialConfig
from embedsweep.evaluation.dev import dev_evaluator
from embedsweep.evaluation.evaluator import scores_of
from embedsweep.evaluation.scores import read_scores, scores_path
from embedsweep.files import MODEL
from embedsweep.models.build import build_model, load_trained
from embedsweep.models.loading import save_model
from embedsweep.models.lora import merge_adapters
from embedsweep.models.tiny import tiny_model_path
from embedsweep.training import soup as module
from embedsweep.training.soup import Member, average_into, make_soup, score_soup
from embedsweep.validation.single import pass_single
from tests.card.cases import RESULT

METRIC = "dev/spearman_cosine"
CARD = """---
library_name: sentence-transformers
co2_eq_emissions:
  emissions: 1.25
  energy_consumed: 0.0042
  source: codecarbon
---

# A member

<!-- embedsweep: evaluation -->
<!-- embedsweep: evaluation, end -->

<!-- embedsweep: origin -->
It was trained.
<!-- embedsweep: origin, end -->
"""


def config_of(*words: str) -> TrialConfig:
    return pass_single(["loss=mnrl", "trainer.device=cpu", "evaluation.before=false", *words]).config


@pytest.fixture(scope="module")
def config() -> TrialConfig:
    return config_of()


def noise(model: SentenceTransformer, seed: int, size: float) -> None:
    """Add the same random numbers to the weights of a model at each call with this seed."""
    source = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn(weight.shape, generator=source), alpha=size)


@dataclass
class Kitchen:
    """Makes members.

    Attributes:
        folder: of their trials.
        config: theirs.
    """

    folder: Path
    config: TrialConfig

    def member(
        self,
        number: int,
        score: float,
        change: Callable[[SentenceTransformer], object],
        config: TrialConfig | None = None,
    ) -> Member:
        """Return a member whose weights are the base model's, changed."""
        config = config or self.config
        torch.manual_seed(0)
        model = build_model(config.model, "cpu")
        change(model)
        merge_adapters(model)  # as a training does
        folder = self.folder / f"{number:04d}"
        save_model(model, folder / MODEL, "float32")
        (folder / MODEL / "README.md").write_text(CARD, encoding="utf-8")
        result = replace(RESULT, objective=score, dev={**RESULT.dev, METRIC: score})
        return Member(number, folder, config, result)


@pytest.fixture
def kitchen(tmp_path: Path, config: TrialConfig) -> Kitchen:
    return Kitchen(tmp_path / "trials", config)


def three(kitchen: Kitchen) -> list[Member]:
    """Return two members whose mean is the base model, which is better than either, and one that is spoilt."""
    return [
        kitchen.member(4, 0.5, lambda model: noise(model, 2, 0.5)),
        kitchen.member(0, 0.7, lambda model: noise(model, 1, 0.04)),
        kitchen.member(2, 0.6, lambda model: noise(model, 1, -0.04)),
    ]


def scores(config: TrialConfig, model: SentenceTransformer) -> Mapping[str, float]:
    return scores_of(dev_evaluator(config, model), model)


def loaded(members: Sequence[Member]) -> list[SentenceTransformer]:
    return [SentenceTransformer(str(member.folder / MODEL), device="cpu") for member in members]


MODELS = {
    "dense": ("model.dense=12", "model.pooling=cls+mean"),
    "adapters": ("model.lora.rank=4",),
    "static": ("model=static", f"model.path={tiny_model_path()}", "model.static_dim=16"),
}


@pytest.mark.parametrize("words", MODELS.values(), ids=MODELS)
def test_an_average_equals_the_librarys(words: tuple[str, ...], kitchen: Kitchen) -> None:
    config = config_of(*words)
    members = [kitchen.member(n, 0.5, lambda model, n=n: noise(model, n, 0.1), config) for n in range(4)]  # type: ignore[misc]
    models = loaded(members)
    merged = SentenceTransformer.merge(models)
    average = models[0]
    for count, model in enumerate(models[1:], start=1):
        average_into(model, average, count)
        average = model
    expected = merged.state_dict()
    assert average.state_dict().keys() == expected.keys()
    for name, weight in average.state_dict().items():
        torch.testing.assert_close(weight, expected[name], rtol=0, atol=1e-6)


def test_a_member_stays_if_dev_rises_with_it(kitchen: Kitchen, tmp_path: Path) -> None:
    folder, members = tmp_path / "soup", three(kitchen)
    soup = make_soup(folder, members)
    assert (soup.tried, soup.kept, soup.reason, soup.test) == ((0, 2, 4), (0, 2), None, {})
    _, best, other = members
    mean = build_model(kitchen.config.model, "cpu")  # what was added to one was taken from the other
    assert soup.scores[0] == pytest.approx(scores(kitchen.config, loaded([best])[0])[METRIC], abs=1e-9)
    assert soup.scores[1] == pytest.approx(scores(kitchen.config, mean)[METRIC], abs=1e-5)
    assert soup.scores[0] < soup.scores[1] > soup.scores[2]
    assert soup.dev[METRIC] == soup.scores[1]
    assert soup.interval is not None
    assert soup.interval[0] < soup.dev[METRIC] < soup.interval[1]
    saved = load_trained(folder / MODEL, kitchen.config.model, "cpu")
    assert scores(kitchen.config, saved) == pytest.approx(soup.dev, abs=1e-9)
    items = read_scores(folder)
    assert items is not None
    assert items.interval(METRIC) == soup.interval
    assert [path.suffix for path in (folder / MODEL).glob("*.safetensors")] == [".safetensors"]
    assert other.number in soup.kept


def test_the_card_says_what_the_model_is(kitchen: Kitchen, tmp_path: Path) -> None:
    members, said = three(kitchen), list[str]()
    soup = make_soup(tmp_path / "soup", members, said.append)
    assert said == ["soup, 2 of 3: final 2 kept", "soup, 3 of 3: final 4 left out"]
    card = (tmp_path / "soup" / MODEL / "README.md").read_text(encoding="utf-8")
    words = " ".join(card.split())
    assert "the mean of those of 2 of 3 trained models" in words
    assert "0 (0.7000), 2 (0.6000)" in words
    assert f"of the mean is {soup.dev[METRIC]:.4f} (95 % interval over the dev items" in words
    assert "It was trained." not in words
    assert "emissions: 2.5" in card, "the sum of both trainings"
    assert "0.0084 kWh and 2.5 g of CO2 equivalent" in words


def test_test_is_scored_on_request_and_kept(kitchen: Kitchen, tmp_path: Path) -> None:
    folder, members = tmp_path / "soup", three(kitchen)
    soup = make_soup(folder, members)
    assert not scores_path(folder, "test").exists()
    scored = score_soup(folder, members, soup)
    assert scored.test["test/spearman_cosine"] > 0
    assert scored == replace(soup, test=scored.test)
    assert f"{scored.test['test/spearman_cosine']:.4f}" in (folder / MODEL / "README.md").read_text(encoding="utf-8")
    assert scores_path(folder, "test").exists()
    assert make_soup(folder, members) == scored


def test_no_average_that_is_no_better_is_kept(kitchen: Kitchen, tmp_path: Path) -> None:
    members = [kitchen.member(1, 0.7, lambda _: None), kitchen.member(3, 0.2, lambda model: noise(model, 2, 0.5))]
    soup = make_soup(tmp_path / "soup", members)
    assert (soup.tried, soup.kept, soup.dev) == ((1, 3), (1,), {})
    assert soup.reason == f"no average of final 1 with another one has a better {METRIC}"
    assert not (tmp_path / "soup" / MODEL).exists()


def test_what_cannot_be_averaged_is_left_out_with_the_reason(kitchen: Kitchen, tmp_path: Path) -> None:
    members = [
        kitchen.member(0, 0.7, lambda _: None),
        kitchen.member(1, 0.6, lambda _: None, config_of("model.pooling=cls")),
        Member(2, tmp_path / "nowhere", kitchen.config, RESULT),
    ]
    soup = make_soup(tmp_path / "soup", members)
    assert soup.left_out == {
        1: "as model.pooling is cls, not mean as in final 0",
        2: "whose models were deleted once finals were decided, or are on another machine",
    }
    assert soup.reason == "fewer than two models can be averaged"
    assert make_soup(tmp_path / "soup", members) == soup


def test_an_interrupted_soup_is_made_again_and_a_whole_one_is_read(
    kitchen: Kitchen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, members = tmp_path / "soup", three(kitchen)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "_write_card", killed)
        with pytest.raises(KeyboardInterrupt):
            make_soup(folder, members)
    (folder / MODEL / "torn").touch()
    soup = make_soup(folder, members)
    assert soup.kept == (0, 2)
    assert not (folder / MODEL / "torn").exists()
    monkeypatch.setattr(module, "_averaged", killed)
    assert make_soup(folder, members) == soup
    with pytest.raises(KeyboardInterrupt):  # other members
        make_soup(folder, members[1:])
