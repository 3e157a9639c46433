"""Memory that does not do: how that shows, what is done about it, and what is left on disk in case it kills.

Owns the signs of an exhausted memory, the smaller micro-batch that follows, the note of it in a trial's folder and the
most that a trial took of a GPU's memory.
Knows nothing of training. Needs no torch.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from embedsweep.config.trial import TrialConfig
from embedsweep.errors import TrialError
from embedsweep.files import write_atomically
from embedsweep.losses.nesting import in_batch, nest
from embedsweep.losses.rows import InBatch
from embedsweep.losses.table import LOSSES
from embedsweep.machine import peak_memory_gib, reset_peak_memory
from embedsweep.training.micro_batches import kind_of, losses_of, micro_batch_size_of

NOTE = "memory.json"


def smaller_micro_batch(config: TrialConfig, size: int, why: str, processes: int = 1) -> int:
    """Half of a micro-batch that memory does not do for, in equal shares for all processes.

    Args:
        config: the trial.
        size: examples that were in memory at once.
        why: what showed it.
        processes: how many share it.

    Raises:
        TrialError: a smaller one would change the result, or there is none.
    """
    batch, tried = config.dataloader.batch_size, f"out of memory with micro-batches of {size} ({why})"
    if size <= processes:
        raise TrialError(f"{tried}: nothing smaller is left; take a smaller model or a lower model.max_seq_length")
    if (reason := _must_stay(config, processes)) is not None:
        raise TrialError(f"{tried}, and {reason}; set dataloader.batch_size below {min(batch, size)}")
    return size // processes // 2 * processes


def _must_stay(config: TrialConfig, processes: int) -> str | None:
    """Why a smaller micro-batch would change the result; None if it would not."""
    kind = kind_of(config)
    if kind is InBatch.INDEPENDENT:
        return None
    if kind is InBatch.COMPARED:
        name = next((loss.name for loss in losses_of(config) if in_batch(loss) is InBatch.COMPARED), config.loss.name)
        return f"loss={name} compares the examples it sees at once, so that fewer would be another training"
    if config.model.static_dim is not None:
        return f"loss={config.loss.name} has no cached form for a static embedding"
    if processes > 1 and not config.dataloader.drop_last:
        return f"the cached form of loss={config.loss.name} takes equal shares only (dataloader.drop_last=true)"
    parts = [part.name for loss in losses_of(config) for part in nest(loss)[:-1]]
    unable = [name for name in parts if not LOSSES[name].bears_cached]
    return f"loss={unable[0]} cannot be put around a cached form" if unable else None


@dataclass(frozen=True)
class Attempt:
    """What is noted of an attempt at a trial when it begins, and when it has ended.

    Attributes:
        micro_batch_size: examples in memory at once.
        checkpoint: step of the last whole checkpoint when it began; None without one.
        oom_kills: processes that the kernel had ended for want of memory; None where it does not say.
        host: where that was counted.
        finished: whether it came to an end of its own: a result, an error, a signal that it could answer.
        peak_memory_gib: the most of a GPU's memory that the trial took until then, earlier attempts included; None on a
            CPU and in notes of older versions.
    """

    micro_batch_size: int
    checkpoint: int | None
    oom_kills: int | None
    host: str
    finished: bool
    peak_memory_gib: float | None = None


class Attempts:
    """The note of the last attempt in a trial's folder: one that the kernel kills cannot say so itself.

    Make it where an attempt begins: its peak of memory is counted from then on.

    Args:
        folder: the trial's.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / NOTE
        reset_peak_memory()

    def first_size(self, config: TrialConfig, checkpoint: int | None, processes: int = 1) -> tuple[int, str | None]:
        """The micro-batch to begin with, and why it is not the configuration's or what the last attempt came down to.

        It is half of the last attempt's if that one ended without a word or a new checkpoint, and the kernel has ended
        a process for want of memory since it began: most likely this one, and if not, the result is the same.

        Args:
            config: the trial.
            checkpoint: step of the last whole checkpoint.
            processes: how many share it; an earlier attempt may have had another number.

        Raises:
            TrialError: half would change the result.
        """
        last = self._read()
        came_to = None if last is None else last.micro_batch_size
        size = min(size for size in (micro_batch_size_of(config), came_to) if size is not None)
        if processes > 1:
            bound = _must_stay(config, processes) is not None
            size = micro_batch_size_of(config) if bound else max(processes, size - size % processes)
        if last is None or last.finished or last.checkpoint != checkpoint or last.host != socket.gethostname():
            return size, None
        kills = oom_kills()
        if kills is None or last.oom_kills is None or kills <= last.oom_kills or size != came_to:
            return size, None
        why = "the kernel killed the process"
        return smaller_micro_batch(config, size, why, processes), f"out of memory with micro-batches of {size} ({why})"

    def begin(self, size: int, checkpoint: int | None) -> None:
        """Notes an attempt before it needs the memory."""
        peak = self.peak_memory_gib()
        self._write(Attempt(size, checkpoint, oom_kills(), socket.gethostname(), finished=False, peak_memory_gib=peak))

    def finish(self) -> None:
        """Notes that the attempt was not killed."""
        if (last := self._read()) is not None:
            self._write(replace(last, finished=True, peak_memory_gib=self.peak_memory_gib()))

    def peak_memory_gib(self) -> float | None:
        """The most of a GPU's memory, in GiB, that the trial took, in any attempt so far; None on a CPU."""
        last = self._read()
        peaks = [peak_memory_gib(), last.peak_memory_gib if last is not None else None]
        return max((peak for peak in peaks if peak is not None), default=None)

    def clear(self) -> None:
        """Forgets: the trial is done."""
        self._path.unlink(missing_ok=True)

    def _read(self) -> Attempt | None:
        try:
            return Attempt(**json.loads(self._path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None  # none yet, or cut off while it was written

    def _write(self, attempt: Attempt) -> None:
        write_atomically(self._path, json.dumps(asdict(attempt)))


def oom_kills() -> int | None:
    """How many processes the kernel has ended for want of memory, in this control group or on this machine."""
    for path in _counters():
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except OSError:
            continue
        for line in lines:
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return None


def _counters() -> list[Path]:
    """Where the kernel may count them, the closest first: for the process's group, the container, the machine."""
    groups: Mapping[str, str] = {}
    try:
        rows = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
        groups = {kinds: path.lstrip("/") for _, kinds, path in (row.split(":", 2) for row in rows)}
    except (OSError, ValueError):
        pass
    root = Path("/sys/fs/cgroup")
    return [
        root / groups.get("", "") / "memory.events",
        root / "memory.events",
        root / "memory" / groups.get("memory", "") / "memory.oom_control",
        root / "memory" / "memory.oom_control",
        Path("/proc/vmstat"),
    ]
