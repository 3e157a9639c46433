"""Out-of-memory handling: the next smaller micro-batch, and the note that shows when the kernel killed an attempt."""

from __future__ import annotations

import json
import socket
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from embedsweep.config.trial import TrialConfig
from embedsweep.errors import TrialError
from embedsweep.files import write_atomically
from embedsweep.losses.nesting import in_batch, nest
from embedsweep.losses.rows import InBatch
from embedsweep.losses.table import LOSSES
from embedsweep.machine import oom_kills, peak_memory_gib, reset_peak_memory
from embedsweep.training.micro_batches import kind_of, losses_of, micro_batch_size_of

NOTE = "memory.json"


def smaller_micro_batch(config: TrialConfig, size: int, reason: str, processes: int = 1) -> int:
    """Return half of a micro-batch that was too large, in equal shares for all processes.

    Args:
        config: the trial.
        size: examples that were in memory at once.
        reason: how memory ran out.
        processes: how many processes share it.

    Raises:
        TrialError: a smaller one would change the result, or there is none.
    """
    batch, tried = config.dataloader.batch_size, f"out of memory with micro-batches of {size} ({reason})"
    if size <= processes:
        raise TrialError(f"{tried}: nothing smaller is left; take a smaller model or a lower model.max_seq_length")
    if (obstacle := _why_fixed(config, processes)) is not None:
        raise TrialError(f"{tried}, and {obstacle}; set dataloader.batch_size below {min(batch, size)}")
    return size // processes // 2 * processes


def _why_fixed(config: TrialConfig, processes: int) -> str | None:
    """Return why a smaller micro-batch would change the result; None if it would not."""
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
    unable = [name for name in parts if not LOSSES[name].wraps_cached]
    return f"loss={unable[0]} cannot wrap a cached form" if unable else None


@dataclass(frozen=True)
class Attempt:
    """What is noted when an attempt at a trial starts, and when it has ended.

    Attributes:
        micro_batch_size: examples in memory at once.
        checkpoint: step of the last whole checkpoint at its start; None without one.
        oom_kills: processes that the kernel had killed for lack of memory; None if it does not count them.
        host: where that was counted.
        finished: whether it ended by itself: with a result, an error or a signal that it handled.
        peak_memory_gib: the most GPU memory that the trial used until then, earlier attempts included; None on a CPU
            and in notes of older versions.
        is_repeat: whether it repeats one that the kernel killed, in the same size, as half would change the result.
    """

    micro_batch_size: int
    checkpoint: int | None
    oom_kills: int | None
    host: str
    finished: bool
    peak_memory_gib: float | None = None
    is_repeat: bool = False


class Attempts:
    """The note of the last attempt in a trial's folder: one that the kernel kills cannot report it.

    Create it where an attempt starts: its peak memory is measured from then on.

    Args:
        folder: the trial's.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / NOTE
        self._is_repeat = False
        reset_peak_memory()

    def first_size(self, config: TrialConfig, checkpoint: int | None, processes: int = 1) -> tuple[int, str | None]:
        """Return the micro-batch size to start with, and why it is smaller than before; None if it is not.

        It is half the last attempt's if that attempt ended without a note or a new checkpoint, and the kernel has since
        killed a process for lack of memory: most likely this one, and if not, the result is the same. Where half would
        change the result, the attempt is repeated once: others may have taken the memory.

        Args:
            config: the trial.
            checkpoint: step of the last whole checkpoint.
            processes: how many processes share it; an earlier attempt may have had another number.

        Raises:
            TrialError: half would change the result, and the repeated attempt was killed, too.
        """
        last = self._read()
        last_size = None if last is None else last.micro_batch_size
        size = min(size for size in (micro_batch_size_of(config), last_size) if size is not None)
        if processes > 1:
            is_fixed = _why_fixed(config, processes) is not None
            size = micro_batch_size_of(config) if is_fixed else max(processes, size - size % processes)
        if last is None or last.finished or last.checkpoint != checkpoint or last.host != socket.gethostname():
            return size, None
        kills = oom_kills()
        if kills is None or last.oom_kills is None or kills <= last.oom_kills or size != last_size:
            return size, None
        reason = "the kernel killed the process"
        try:
            start = smaller_micro_batch(config, size, reason, processes)
        except TrialError:
            if last.is_repeat:
                raise
            start, self._is_repeat = size, True
        return start, f"out of memory with micro-batches of {size} ({reason})"

    def begin(self, size: int, checkpoint: int | None) -> None:
        """Note an attempt before it uses the memory."""
        peak = self.peak_memory_gib()
        host = socket.gethostname()
        self._write(Attempt(size, checkpoint, oom_kills(), host, False, peak, self._is_repeat))

    def finish(self) -> None:
        """Note that the attempt was not killed."""
        if (last := self._read()) is not None:
            self._write(replace(last, finished=True, peak_memory_gib=self.peak_memory_gib()))

    def peak_memory_gib(self) -> float | None:
        """Return the most GPU memory, in GiB, that the trial used in any attempt so far; None on a CPU."""
        last = self._read()
        peaks = [peak_memory_gib(), last.peak_memory_gib if last is not None else None]
        return max((peak for peak in peaks if peak is not None), default=None)

    def clear(self) -> None:
        """Delete the note: the trial is done."""
        self._path.unlink(missing_ok=True)

    def _read(self) -> Attempt | None:
        try:
            return Attempt(**json.loads(self._path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None  # none yet, or torn

    def _write(self, attempt: Attempt) -> None:
        write_atomically(self._path, json.dumps(asdict(attempt)))
