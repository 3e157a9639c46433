"""The command: ``python -m benchmarks.gpu --help``."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.gpu.benchmark import Benchmark, Limits
from benchmarks.gpu.task import BLOCK, Task, examples_by_loss, make_points, read_pairs
from benchmarks.gpu.ways import parse_ways

WAYS = "A,B8+g,B8,B8+g+p,B1"
WAYS_MPS = "A,B8+m+g,B16+m+g,B8+m+g+p,B8+m,B1+g"
LIMITS = "A=120,*=80"


def main(arguments: Sequence[str]) -> int:
    """Run the ways; 0 where any trial ended, 1 where none did. Wrong arguments exit with 2."""
    parser = _parser()
    options = parser.parse_args(arguments)
    mps = options.device == "cuda" and bool(os.environ.get("CUDA_MPS_PIPE_DIRECTORY"))
    try:
        ways = parse_ways(options.ways or (WAYS_MPS if mps else WAYS))
        limits = Limits(options.seconds, parse_limits(options.limits))
        task = _task(options)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    if left_out := [way.name for way in ways if way.mps and not mps]:
        print(f"MPS is not there (CUDA_MPS_PIPE_DIRECTORY is not set): left out {', '.join(left_out)}", flush=True)
    out = Path(options.out).resolve()
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="benchmark-gpu-", ignore_cleanup_errors=True) as folder:
        work = Path(options.work or folder).resolve()
        benchmark = Benchmark(task, options.trials_a, shlex.split(options.extra), limits, mps, work, out, vars(options))
        benchmark.run([way for way in ways if mps or not way.mps])
    return 0 if any(result.done for result in benchmark.results) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu",
        description="The same trials by sentence-transformers' own search (A) and by embedsweep with N workers "
        "on the GPU (B8), +m under CUDA MPS, +g with CUDA graphs, +p with pruning.",
    )
    parser.add_argument("--model", default=os.environ.get("GPU_MODEL"), help="folder of an encoder (GPU_MODEL)")
    parser.add_argument("--data", default=os.environ.get("GPU_DATA"), help="folder with stsb-en-*.csv (GPU_DATA)")
    parser.add_argument("--out", default=os.environ.get("OUT", "out"), help="folder for the results (OUT)")
    parser.add_argument("--work", help="folder the ways run in, kept; without it a temporary one")
    parser.add_argument("--ways", help=f"in this order; without it {WAYS_MPS} where MPS is up, else {WAYS}")
    parser.add_argument("--trials", type=int, default=48, help="of each B (%(default)s)")
    parser.add_argument(
        "--trials-a",
        type=int,
        default=12,
        help=f"of A, the first of the same (%(default)s); a multiple of {BLOCK} has all losses and batch sizes alike",
    )
    parser.add_argument("--seconds", type=float, default=450.0, help="all ways together (%(default)s)")
    parser.add_argument("--limits", default=LIMITS, help="seconds of each way (%(default)s)")
    parser.add_argument("--max-steps", type=int, help="optimizer steps of a trial; without it one epoch")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"), help="(%(default)s)")
    parser.add_argument("--extra", default="", help="overrides for embedsweep: 'trainer.merge_columns=true'")
    return parser


def parse_limits(text: str) -> dict[str, float]:
    """Return the seconds by way of ``A=120,*=80``.

    Raises:
        ValueError: the text is none such.
    """
    try:
        limits = {name: float(seconds) for name, _, seconds in (part.partition("=") for part in text.split(","))}
    except ValueError:
        limits = {}
    if not limits or min(limits.values()) <= 0:
        raise ValueError(f"--limits {text}: must be seconds by way, * for the others, such as {LIMITS}")
    return limits


def _task(options: argparse.Namespace) -> Task:
    """Return the task of the arguments.

    Raises:
        ValueError: a folder is not given or there is none, or a number is below 1.
        OSError: the data cannot be read.
    """
    for name in ("model", "data"):
        if not (folder := getattr(options, name)) or not Path(folder).is_dir():
            raise ValueError(f"--{name}: {'needs a folder' if not folder else f'no such folder: {folder}'}")
    for name in ("trials", "trials_a", "max_steps"):
        if (value := getattr(options, name)) is not None and value < 1:
            raise ValueError(f"--{name.replace('_', '-')} {value}: must be at least 1")
    model, data = Path(options.model).resolve(), Path(options.data).resolve()
    examples = examples_by_loss(read_pairs(data, "train"))
    return Task(model, data, options.device, make_points(options.trials), options.max_steps, examples)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
