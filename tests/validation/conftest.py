"""Fixtures of the validation of whole commands."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import datasets
import pytest
from huggingface_hub import constants

from embedsweep import machine as devices_module
from embedsweep.config.compose import Composer, open_composer, user_conf
from embedsweep.hub import hub_reachable


@pytest.fixture(scope="module")
def shipped_options() -> Iterator[Composer]:
    with open_composer() as composer:
        yield composer


@pytest.fixture
def composed_once(shipped_options: Composer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compose the shipped options once for all tests, which takes Hydra 80 ms; a user's own are composed anew."""

    @contextmanager
    def composer() -> Iterator[Composer]:
        if user_conf() is None:
            yield shipped_options
        else:
            with open_composer() as fresh:
                yield fresh

    monkeypatch.setattr("embedsweep.validation.single.open_composer", composer)
    monkeypatch.setattr("embedsweep.validation.sweep.open_composer", composer)


@pytest.fixture
def a_machine_without_gpu_or_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forget_data: Callable[[], None]
) -> Iterator[None]:
    """An empty working directory and cache, no GPU, and a hub that refuses connections."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(devices_module, "cuda_device_count", lambda: 0)
    monkeypatch.setattr(devices_module, "has_metal", lambda: False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    hub_reachable.cache_clear()
    forget_data()
    yield
    hub_reachable.cache_clear()
    forget_data()
