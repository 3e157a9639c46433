from __future__ import annotations

import logging
import math

import pytest
import torch

from embedsweep.training import warm_up as module
from embedsweep.training.cuda_graphs import CaptureError
from embedsweep.training.warm_up import train_a_step, warm_up


def test_the_warm_up_step_trains() -> None:
    assert 0 < train_a_step(torch.device("cpu")) < math.inf


def test_without_a_gpu_nothing_is_warmed_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(module, "train_a_step", lambda _: pytest.fail("there is no GPU"))
    warm_up()


def test_a_failed_warm_up_is_logged_only(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def full(_: torch.device) -> float:
        raise CaptureError("CUDA error: out of memory")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(module, "train_a_step", full)
    with caplog.at_level(logging.ERROR):
        warm_up()
    assert "out of memory" in caplog.text
