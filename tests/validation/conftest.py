"""Fixtures of the validation of whole commands."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from embedsweep import machine as devices_module
from embedsweep.config.compose import Composer, open_composer, user_conf


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
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forget_data: Callable[[], None], unreachable_hub: None
) -> Iterator[None]:
    """An empty working directory and cache, no GPU, and a hub that refuses connections."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(devices_module, "cuda_device_count", lambda: 0)
    monkeypatch.setattr(devices_module, "has_metal", lambda: False)
    forget_data()
    yield
    forget_data()
