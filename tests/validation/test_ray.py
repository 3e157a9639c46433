"""Workers on a Ray cluster: what is refused before the cluster is asked."""

from __future__ import annotations

import pytest

from embedsweep.errors import ConfigError
from embedsweep.validation import ray
from embedsweep.validation.sweep import pass_sweep

WORDS = ("loss=mnrl,cosent", "data=demo", "model=tiny", "workers=ray")


def refused(*words: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        pass_sweep([*WORDS, *words])
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize("address", ["auto", "none", "10.0.0.1:6379", "head.cluster:6379"])
def test_a_cluster_is_found_at_its_address(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    pass_sweep([*WORDS, f"workers.address={address}", "workers.gpus=0.25"])


@pytest.mark.parametrize(
    ("word", "problem"),
    [
        ("workers.address=ray://head:10001", "workers.address: ray://head:10001 is a Ray client's address"),
        ("workers.address=head", "workers.address: must be auto, none or the HOST:PORT of a cluster's head"),
        ("workers.per_device=4", "workers.per_device: Ray deals out GPUs, but got 4: workers.gpus=0.25 lets four"),
        ("workers.per_device=auto", "workers.per_device: Ray deals out GPUs, but got auto"),
        ("workers.mps=auto", "workers.mps: a daemon has to run on the nodes already"),
        ("workers.gpus=1.5", "workers.gpus: must be a fraction below 1 or a whole number, but got 1.5"),
        ("study.dry_run=quote", "study.dry_run: times trials on this machine"),
        ("study.budget_hours=3", "study.budget_hours: times trials on this machine"),
    ],
)
def test_what_ray_decides_or_cannot_do_is_refused(word: str, problem: str) -> None:
    (found,) = refused(word)
    assert found.startswith(problem)


def test_a_gpu_by_number_is_refused_as_ray_deals_them_out() -> None:
    problems = refused("trainer.device=cuda:1")
    assert "trainer.device: Ray deals out GPUs, but got cuda:1: use auto or cuda" in problems


def test_a_clients_address_in_the_environment_is_refused_where_it_would_be_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "ray://head:10001")
    (problem,) = refused("workers.address=auto")
    assert problem.startswith("RAY_ADDRESS: ray://head:10001 is a Ray client's address")
    pass_sweep([*WORDS, "workers.address=10.0.0.1:6379"])


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "find_spec", lambda _: None)
    assert refused("workers.address=none") == ["workers: workers=ray needs Ray: pip install 'embedsweep[ray]'"]
