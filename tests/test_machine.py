"""Memory of the machine, and the distribution of its cores and GPUs."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
import torch

from embedsweep import machine
from embedsweep.config.training import Switch
from embedsweep.config.workers import WorkersConfig
from embedsweep.machine import deal, is_device_lost, is_out_of_memory, oom_kills, others_hold_memory, worker_count
from embedsweep.validation.services import check_shares, check_workers

CPU_ALLOCATOR = (
    "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate "
    "4 bytes. Error code 12 (Cannot allocate memory)\nC++ stack"
)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), True),
        (RuntimeError(CPU_ALLOCATOR), True),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)"), True),
        (MemoryError(), True),
        (RuntimeError("the size of tensor a must match"), False),
        (ValueError("out of memory"), False),
        (OSError(28, "No space left on device"), False),
    ],
)
def test_out_of_memory_errors_are_recognised(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected
    outer = RuntimeError("a worker failed")
    outer.__cause__ = error
    assert is_out_of_memory(outer) is expected


ASSERT = (
    "CUDA error: device-side assert triggered\nCUDA kernel errors might be asynchronously reported at some other API"
)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RuntimeError(ASSERT), True),
        (torch.AcceleratorError("CUDA error: an illegal memory access was encountered"), True),
        (RuntimeError("CUDA error: unspecified launch failure"), True),
        (RuntimeError("CUDA driver error: misaligned address"), True),
        (RuntimeError("CUDA error: MPS client failed to connect to the MPS control daemon or the MPS server"), True),
        (RuntimeError("CUDA error: the MPS client has been terminated by the server"), True),
        (RuntimeError("CUDA error: the remote procedural call between the MPS server and the MPS client failed"), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), False),
        (RuntimeError("CUDA error: out of memory"), False),
        (RuntimeError("CUDA error: invalid argument"), False),
        (RuntimeError("CUDA error: operation not permitted when stream is capturing"), False),
        (RuntimeError("a device-side assert of another kind"), False),
        (ValueError(ASSERT), False),
    ],
)
def test_errors_after_which_a_process_cannot_use_its_gpu(error: Exception, expected: bool) -> None:
    assert is_device_lost(error) is expected
    assert not (expected and is_out_of_memory(error))
    outer = RuntimeError("a trial failed")
    outer.__cause__ = error
    assert is_device_lost(outer) is expected


@pytest.mark.parametrize(
    ("message", "expected"),
    [(None, False), ("CUDA error: an error of tomorrow", True), ("CUDA error: out of memory", False)],
)
def test_a_gpu_that_does_not_answer_is_lost_whatever_the_error(
    monkeypatch: pytest.MonkeyPatch, message: str | None, expected: bool
) -> None:
    def synchronize() -> None:
        if message is not None:
            raise RuntimeError(message)

    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", synchronize)
    assert is_device_lost(RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED")) is expected


def test_the_closest_counter_of_the_kernel_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    absent, vague, group, whole = (tmp_path / name for name in ("absent", "vague", "memory.events", "vmstat"))
    vague.write_text("low 0\noom 3\n")
    group.write_text("low 0\noom 3\noom_kill 2\noom_group_kill 0\n")
    whole.write_text("oom_kill 9\n")
    monkeypatch.setattr(machine, "_kill_counters", lambda: [absent, vague, group, whole])
    assert oom_kills() == 2
    monkeypatch.setattr(machine, "_kill_counters", lambda: [absent, vague])
    assert oom_kills() is None


def test_the_kernel_of_this_machine_counts() -> None:
    assert oom_kills() is not None


@pytest.mark.parametrize(
    ("free", "total", "reserved", "expected"), [(70, 80, 9, False), (40, 80, 9, True), (79, 80, 0, False)]
)
def test_memory_of_a_gpu_that_is_neither_free_nor_this_process_uses_is_held_by_others(
    free: int, total: int, reserved: int, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (free * 2**30, total * 2**30))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda: reserved * 2**30)
    assert others_hold_memory() == expected


def test_without_a_gpu_no_other_process_holds_its_memory() -> None:
    assert not others_hold_memory()


# --- cores and GPUs of workers

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_WAIT_POLICY")


def local(
    count: int | None = None, per_device: int | Literal["auto"] = 1, processes: int = 1, mps: Switch = "auto"
) -> WorkersConfig:
    return WorkersConfig("local", count, per_device, processes, max_restarts=10, silence=None, mps=mps)


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight cores and no GPU, in an environment that says nothing of either."""
    for name in (*THREADS, "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    set_machine(monkeypatch, cores=8, gpus=0)


def set_machine(monkeypatch: pytest.MonkeyPatch, cores: int, gpus: int, *, mps: bool = False) -> None:
    monkeypatch.setattr(machine, "visible_cores", lambda: cores)
    monkeypatch.setattr(machine, "cuda_device_count", lambda: gpus)
    monkeypatch.setattr(machine, "has_metal", lambda: mps)


@pytest.mark.parametrize(
    ("workers", "device", "cores", "gpus", "expected"),
    [
        (local(3), "auto", 8, 0, 3),
        (local(3), "auto", 8, 2, 3),
        (local(), "auto", 8, 0, 4),
        (local(), "auto", 7, 0, 3),
        (local(), "auto", 1, 0, 1),
        (local(), "auto", 8, 2, 2),
        (local(per_device=3), "auto", 8, 2, 6),
        (local(per_device=3), "cuda:1", 8, 2, 3),
        (local(), "cpu", 8, 2, 4),
        (local(processes=2), "cpu", 8, 0, 2),
        (local(processes=2), "auto", 8, 4, 2),
        (local(processes=3), "auto", 8, 2, 1),
    ],
)
def test_the_default_number_of_workers_follows_the_machine(
    monkeypatch: pytest.MonkeyPatch, workers: WorkersConfig, device: str, cores: int, gpus: int, expected: int
) -> None:
    set_machine(monkeypatch, cores, gpus)
    assert isinstance(workers.per_device, int)
    assert worker_count(workers, device, workers.per_device) == expected


def test_metal_counts_as_one_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    set_machine(monkeypatch, 8, 0, mps=True)
    assert [worker_count(local(), device, 2) for device in ("auto", "mps", "cpu")] == [2, 2, 4]
    assert "CUDA_VISIBLE_DEVICES" not in deal(local(), "auto", 1)[0]


@pytest.mark.parametrize(
    ("cores", "count", "processes", "threads", "policy"),
    [
        (8, 1, 1, "8", None),
        (8, 2, 1, "4", "PASSIVE"),
        (8, 3, 1, "2", "PASSIVE"),
        (8, 1, 2, "4", "PASSIVE"),
        (8, 2, 2, "2", "PASSIVE"),
        (2, 4, 1, "1", "PASSIVE"),
    ],
)
def test_cores_are_divided_evenly(
    monkeypatch: pytest.MonkeyPatch, cores: int, count: int, processes: int, threads: str, policy: str | None
) -> None:
    set_machine(monkeypatch, cores, 0)
    expected = {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    expected |= {"OMP_WAIT_POLICY": policy} if policy else {}
    assert deal(local(processes=processes), "cpu", count) == [expected] * count


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"OMP_NUM_THREADS": "3"}, {"OMP_WAIT_POLICY": "PASSIVE"}),
        ({"OMP_NUM_THREADS": "3", "OMP_WAIT_POLICY": "ACTIVE"}, {}),
        ({"MKL_NUM_THREADS": "3"}, {"OMP_NUM_THREADS": "4", "MKL_NUM_THREADS": "3", "OMP_WAIT_POLICY": "PASSIVE"}),
    ],
)
def test_thread_settings_of_the_user_stay(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], expected: dict[str, str]
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    assert deal(local(), "cpu", 2) == [expected] * 2


@pytest.mark.parametrize(
    ("device", "visible", "count", "processes", "expected"),
    [
        ("auto", None, 2, 1, ["0", "1"]),
        ("auto", None, 4, 1, ["0", "1", "2", "3"]),
        ("cuda", None, 6, 1, ["0", "1", "2", "3", "0", "1"]),
        ("auto", "3,1", 3, 1, ["3", "1", "3"]),
        ("auto", "", 2, 1, [None, None]),
        ("cuda:2", None, 2, 1, ["2", "2"]),
        ("cuda:1", "3,1", 2, 1, ["1", "1"]),
        ("cpu", None, 2, 1, [None, None]),
        ("auto", None, 2, 2, ["0,1", "2,3"]),
        ("auto", None, 3, 2, ["0,1", "2,3", "0,1"]),
        ("cuda:1", None, 1, 2, ["1"]),
    ],
)
def test_gpus_are_assigned_in_turn(
    monkeypatch: pytest.MonkeyPatch,
    device: str,
    visible: str | None,
    count: int,
    processes: int,
    expected: list[str | None],
) -> None:
    set_machine(monkeypatch, 8, 4)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    dealt = deal(local(processes=processes), device, count)
    assert [environment.get("CUDA_VISIBLE_DEVICES") for environment in dealt] == expected


def inline(
    count: int | None = 1,
    per_device: int | Literal["auto"] = 1,
    max_restarts: int = 0,
    silence: float | None = None,
    mps: Switch = False,
) -> WorkersConfig:
    return WorkersConfig("inline", count, per_device, 1, max_restarts, silence, mps)


@pytest.mark.parametrize(
    ("workers", "device", "gpus", "problems"),
    [
        (inline(), "auto", 0, []),
        (inline(count=None), "auto", 1, []),
        (inline(count=4), "auto", 0, ["workers.count: inline is this process alone, but got 4: add workers=local"]),
        (
            inline(per_device=2),
            "auto",
            1,
            ["workers.per_device: inline is this process alone, but 2 are to share a GPU: add workers=local"],
        ),
        (
            inline(per_device="auto"),
            "auto",
            1,
            [
                "workers.per_device: inline is this process alone, but auto measures "
                "how many share a GPU: add workers=local"
            ],
        ),
        (
            inline(mps="auto"),
            "auto",
            1,
            ["workers.mps: inline is this process, which shares no GPU, but got auto: add workers=local"],
        ),
        (
            inline(mps=True),
            "cpu",
            0,
            ["workers.mps: inline is this process, which shares no GPU, but got true: add workers=local"],
        ),
        (
            inline(max_restarts=3),
            "auto",
            0,
            ["workers.max_restarts: inline is this process, which cannot be restarted, but got 3: add workers=local"],
        ),
        (
            inline(silence=60.0),
            "auto",
            0,
            ["workers.silence: inline is this process, which is not supervised, but got 60: add workers=local"],
        ),
        (local(4), "auto", 0, []),
        (local(4), "cpu", 1, []),
        (local(4, per_device=2), "auto", 2, []),
        (local(per_device=4), "auto", 1, []),
        (
            local(4),
            "auto",
            1,
            [
                "workers.count: 4 processes do not fit on 1 GPU with 1 process each: set workers.per_device=4 if they "
                "fit in its memory"
            ],
        ),
        (
            local(5, per_device=2),
            "auto",
            2,
            [
                "workers.count: 5 processes do not fit on 2 GPUs with 2 processes each: set workers.per_device=3 if "
                "they fit in its memory"
            ],
        ),
        (
            local(per_device=2),
            "cpu",
            1,
            [
                "workers.per_device: there is no GPU that 2 could share (trainer.device=cpu): set workers.count=N "
                "instead"
            ],
        ),
        (local(per_device="auto"), "cpu", 1, []),
        (local(8, per_device="auto"), "auto", 1, []),
        (local(mps=False), "auto", 1, []),
        (
            local(mps=True),
            "cpu",
            1,
            ["workers.mps: there is no CUDA device to share (trainer.device=cpu): set workers.mps to auto or false"],
        ),
        (
            local(per_device=2, mps=True),
            "auto",
            1,
            [
                "workers.mps: nvidia-cuda-mps-control, which comes with NVIDIA's driver, is neither on PATH nor in "
                "/usr/local/nvidia/bin, /usr/local/cuda/bin: install it, or set workers.mps to auto or false"
            ],
        ),
    ],
)
def test_what_the_machine_does_not_have_is_refused(
    monkeypatch: pytest.MonkeyPatch, workers: WorkersConfig, device: str, gpus: int, problems: list[str]
) -> None:
    set_machine(monkeypatch, 8, gpus)
    assert [str(problem) for problem in (*check_workers(workers), *check_shares(workers, device))] == problems


def test_mps_is_available_where_its_control_program_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    set_machine(monkeypatch, 8, 1)
    program = tmp_path / "nvidia-cuda-mps-control"
    program.touch(mode=0o755)
    monkeypatch.setattr(machine, "MPS_FOLDERS", (tmp_path,))
    assert machine.find_mps_control() == program
    assert list(check_shares(local(mps=True), "auto")) == []
    program.chmod(0o644)
    assert machine.find_mps_control() is None


def test_no_trial_left_means_no_worker() -> None:
    assert deal(local(), "cpu", 0) == []
