"""What a process is told before torch is imported: one GPU of those it may see, and no chatter."""

from __future__ import annotations

import os

import pytest

from embedsweep.gate import devices
from embedsweep.launch import LIBRARIES, prepare_process


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    # Set before deleted, so that the fixture takes away what the test will have set.
    for name in (*LIBRARIES, "CUDA_VISIBLE_DEVICES"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setattr(devices, "cuda_device_count", lambda: 4)


@pytest.mark.parametrize(
    ("device", "visible", "seen"),
    [
        ("auto", None, "0"),
        ("cuda", None, "0"),
        ("cuda:0", None, "0"),
        ("cuda:3", None, "3"),
        ("cuda:7", None, None),
        ("auto", "2,3", "2"),
        ("auto", "", ""),
        ("cuda:1", "2,3", "3"),
        ("cuda:0", "GPU-5ea6", "GPU-5ea6"),
        ("cpu", None, None),
        ("cpu", "2,3", "2,3"),
        ("mps", None, None),
    ],
)
def test_a_process_sees_the_one_gpu_it_trains_on(
    monkeypatch: pytest.MonkeyPatch, device: str, visible: str | None, seen: str | None
) -> None:
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    prepare_process(device)
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == seen


def test_a_machine_without_gpus_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "cuda_device_count", lambda: 0)
    prepare_process("auto")
    assert "CUDA_VISIBLE_DEVICES" not in os.environ


def test_libraries_are_kept_quiet_unless_the_user_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "true")
    prepare_process("cpu")
    assert {name: os.environ[name] for name in LIBRARIES} == {
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TOKENIZERS_PARALLELISM": "true",
    }
