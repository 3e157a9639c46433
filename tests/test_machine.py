"""Memory of the machine: errors that say it ran out, a GPU that is lost, kills by the kernel."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from embedsweep import machine
from embedsweep.machine import is_device_lost, is_out_of_memory, oom_kills, others_hold_memory

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
