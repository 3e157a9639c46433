from __future__ import annotations

import gc
import logging
import math
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

from embedsweep.training import warm_up as module
from embedsweep.training.cuda_graphs import CaptureError
from embedsweep.training.warm_up import train_a_step, warm_up


@pytest.fixture(autouse=True)
def _first_in_this_process() -> Iterator[None]:
    warm_up.cache_clear()
    yield
    gc.unfreeze()


def test_a_trial_on_the_cpu_uses_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(module, "train_a_step", lambda _: pytest.fail("it trains on the CPU"))
    warm_up("cpu")


CHILD = """
import sys
from embedsweep.emissions.meter import EmissionsMeter
from embedsweep.cli import main

def stop(meter, *_):
    kept(meter)
    print("imported", len(set(sys.modules) - before), file=sys.__stdout__)

def start(meter):
    global before
    before = set(sys.modules)
    return meter

EmissionsMeter.__enter__ , begin = lambda meter: (begin(meter), start(meter))[1], EmissionsMeter.__enter__
EmissionsMeter.__exit__, kept = stop, EmissionsMeter.__exit__
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_hardly_anything_is_imported_while_the_first_trial_is_measured(tmp_path: Path) -> None:
    """Without the warm-up these are 3100 modules, which took five seconds of a trial's time and energy."""
    words = ["train", "loss=mnrl", "data.limit=64", "trainer.max_steps=1", "trainer.device=cpu"]
    child = subprocess.run(
        [sys.executable, "-c", CHILD, *words], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert child.returncode == 0, child.stderr
    (count,) = (int(line.split()[1]) for line in child.stdout.splitlines() if line.startswith("imported"))
    assert count < 100


def test_the_warm_up_step_trains() -> None:
    assert 0 < train_a_step(torch.device("cpu")) < math.inf


def test_without_a_gpu_nothing_is_warmed_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(module, "train_a_step", lambda _: pytest.fail("there is no GPU"))
    warm_up("auto")


def test_a_failed_warm_up_is_logged_only(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def full(_: torch.device) -> float:
        raise CaptureError("CUDA error: out of memory")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.random, "fork_rng", lambda _: nullcontext())
    monkeypatch.setattr(module, "train_a_step", full)
    with caplog.at_level(logging.ERROR):
        warm_up("auto")
    assert "out of memory" in caplog.text
