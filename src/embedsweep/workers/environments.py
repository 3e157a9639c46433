"""The environment variables of each worker process: its GPUs, its threads, and MPS where workers share a GPU.

Through CUDA's Multi-Process Service (MPS) processes use a GPU at the same time instead of in turn. A command finds a
running daemon or starts its own, and ends that. No setting of a GPU is changed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Self

from embedsweep.config.workers import WorkersConfig
from embedsweep.errors import ConfigError
from embedsweep.machine import are_shared, cuda_devices_of, deal, find_mps_control, worker_count
from embedsweep.signals import shielded
from embedsweep.workers.probe import Probed, find_per_device

PIPE, LOG = "CUDA_MPS_PIPE_DIRECTORY", "CUDA_MPS_LOG_DIRECTORY"

LONGEST_TEMPORARY = 60
"""Characters of the temporary folder's path: the system limits the paths of the daemon's sockets in it to 107."""

CONTROL_S, START_S, CLIENT_S, STOP_S = 10.0, 10.0, 60.0, 20.0
"""Seconds that a command to the daemon, its start, a client's first use of the GPU, and the daemon's end may take."""

KEEPER = 'cat >/dev/null; echo quit | "$1" >/dev/null 2>&1; rm -rf "$2" || { sleep 1; rm -rf "$2"; }'
"""Waits for the end of its stdin, which comes with the end of this process at the latest, and then ends the daemon."""

CLIENT = """if True:
    import ctypes, sys
    cuda = ctypes.CDLL("libcuda.so.1")
    device, context, name = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_char_p()
    calls = (
        (cuda.cuInit, 0),
        (cuda.cuDeviceGet, ctypes.byref(device), 0),
        (cuda.cuDevicePrimaryCtxRetain, ctypes.byref(context), device),
    )
    for call, *arguments in calls:
        if (code := call(*arguments)) != 0:
            cuda.cuGetErrorName(code, ctypes.byref(name))
            sys.exit(f"{call.__name__} failed with {(name.value or b'').decode() or code}")
"""
"""Uses a GPU, which starts the server behind the daemon; if permissions are missing, it is only this that fails."""

CLIENT_COMMAND = (sys.executable, "-I", "-S", "-c", CLIENT)


@contextmanager
def open_environments(
    workers: WorkersConfig, device: str, trials: int, study: Probed, say: Callable[[str], None]
) -> Iterator[list[Mapping[str, str]]]:
    """Yield the variables added to the environment of each worker process; none where no trial is left.

    MPS comes first, as trials are measured with it; then the number of trials per GPU; then the distribution. A daemon
    that is started here ends with the block.

    Args:
        workers: how trials are run; ``inline`` starts no processes.
        device: ``trainer.device``.
        trials: how many are left.
        study: the study.
        say: prints a line about how GPUs are shared.

    Raises:
        ConfigError: ``workers.mps=true``, and MPS is not available.
    """
    if workers.name == "inline" or not trials:
        yield []
        return
    gpus = cuda_devices_of(device)
    with ExitStack() as stack:
        service: Mps | None = None
        per_device = 1 if workers.per_device == "auto" else workers.per_device
        is_automatic = workers.per_device == "auto" and workers.count is None and workers.processes_per_trial == 1
        if is_automatic and 0 < len(gpus) < trials:  # else it is known how many share a GPU
            if workers.mps is not False:
                service = stack.enter_context(Mps(gpus[0], say, required=workers.mps is True))
            mps = service.environment if service is not None else {}

            def environment(processes: int) -> Mapping[str, str]:
                (first, *_) = deal(workers, device, processes * len(gpus))
                return {**first, **mps, "CUDA_VISIBLE_DEVICES": gpus[0]}

            is_on = service is not None and service.is_on
            trials_per_gpu = -(-trials // len(gpus))
            per_device = find_per_device(study, device, gpus[0], trials_per_gpu, environment, say, mps=is_on)
        environments = deal(workers, device, min(worker_count(workers, device, per_device), trials))
        if workers.mps is True or (workers.mps == "auto" and are_shared(environments)):
            service = service or stack.enter_context(Mps(gpus[0], say, required=workers.mps is True))
            yield [{**each, **service.environment} for each in environments]
        else:
            stack.close()
            yield environments


class Mps:
    """The MPS daemon of a command's workers: found running, or started for the block.

    If it is not available, workers use a GPU in turn (time-slicing), as they do without MPS.

    Args:
        gpu: the name of one of the GPUs that are shared, as in ``CUDA_VISIBLE_DEVICES``.
        say: prints a line about how GPUs are shared.
        required: whether it is an error if MPS is not available.

    Attributes:
        environment: variables added to the environment of each worker; none if they find the daemon by themselves.
        is_on: whether workers use MPS.
    """

    def __init__(self, gpu: str, say: Callable[[str], None], *, required: bool) -> None:
        self.environment: Mapping[str, str] = {}
        self.is_on = False
        self._gpu = gpu
        self._say = say
        self._required = required
        self._folder: Path | None = None
        self._keeper: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        """Find or start the daemon.

        Raises:
            ConfigError: MPS is required and not available.
        """
        try:
            self._open()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def _open(self) -> None:
        try:
            running = self._find()
            if running is None:
                self._start()
        except _UnavailableError as error:
            self._stop()
            if self._required:
                message = f"MPS is not available: {error}; set it to auto or false to share GPUs by time-slicing"
                raise ConfigError.single("workers.mps", message) from None
            self._say(f"workers share a GPU by time-slicing, as MPS is not available: {error}")
            return
        self.is_on = True
        daemon = f"the MPS daemon that runs {running}" if running is not None else "an MPS daemon of this command"
        self._say(f"workers share a GPU through {daemon}")

    def _find(self) -> str | None:
        """Describe where a daemon runs that workers will use by themselves; return None if one has to be started.

        Raises:
            _UnavailableError: the environment names a daemon's folder, and no daemon answers there.
        """
        named, control = os.environ.get(PIPE), find_mps_control()
        if named is None:
            return "at the default place" if control is not None and _answers(control, os.environ) else None
        # Workers need the daemon, not the control program.
        answers = _answers(control, os.environ) if control is not None else (Path(named) / "control").exists()
        if not answers:
            raise _UnavailableError(f"no daemon answers in {PIPE}={named}")
        return f"in {named} ({PIPE})"

    def _start(self) -> None:
        """Start a daemon in its own folders, and check that a process can use the GPU through it.

        Raises:
            _UnavailableError: the daemon cannot be started or used.
        """
        control = find_mps_control()
        if control is None:
            raise _UnavailableError("nvidia-cuda-mps-control is not found")
        environment = self._make_folders(control)
        logs = Path(environment[LOG])
        # Into a file: a pipe would stay open as long as the daemon runs.
        if failure := _failure([str(control), "-d"], environment, START_S, logs / "start.log"):
            raise _UnavailableError(f"it did not start ({failure})")
        until = time.monotonic() + START_S
        while not _answers(control, environment):
            if time.monotonic() > until:
                raise _UnavailableError(f"it was started and did not answer for {START_S:g} s")
            time.sleep(0.1)
        client = {**environment, "CUDA_VISIBLE_DEVICES": self._gpu}
        if failure := _failure(CLIENT_COMMAND, client, CLIENT_S, logs / "client.log"):
            raise _UnavailableError(f"a process cannot use GPU {self._gpu} through it ({failure})")
        self.environment = {PIPE: environment[PIPE], LOG: environment[LOG]}

    def _make_folders(self, control: Path) -> dict[str, str]:
        """Make the daemon's folders and start its keeper, before the daemon, so that nothing can be left behind."""
        parent = tempfile.gettempdir()
        with shielded():
            short = parent if len(parent) <= LONGEST_TEMPORARY else "/tmp"
            self._folder = Path(tempfile.mkdtemp(prefix="mps-", dir=short))
            folders = {PIPE: self._folder / "pipe", LOG: self._folder / "log"}
            for folder in folders.values():
                folder.mkdir()
            environment = {**os.environ, **{name: str(folder) for name, folder in folders.items()}}
            if self._gpu.isdigit():
                # A daemon that sees some of the GPUs numbers them from 0: workers would ask for others than they get.
                environment.pop("CUDA_VISIBLE_DEVICES", None)
            self._keeper = subprocess.Popen(
                ["/bin/sh", "-c", KEEPER, "sh", str(control), str(self._folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=environment,
                start_new_session=True,  # Ctrl-C in a terminal is not for it
            )
        return environment

    def _stop(self) -> None:
        """End the daemon, if this command started one."""
        keeper, self._keeper = self._keeper, None
        self.environment, self.is_on = {}, False
        if keeper is None:
            return
        with shielded():
            assert keeper.stdin is not None
            keeper.stdin.close()
            try:
                keeper.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self._say(f"the MPS daemon in {self._folder} did not end within {STOP_S:g} s")
                keeper.kill()
                keeper.wait()


class _UnavailableError(Exception):
    """Says why MPS is not available."""


def _answers(control: Path, environment: Mapping[str, str]) -> bool:
    """Return whether a daemon answers in the folder that an environment names."""
    try:
        answer = subprocess.run(
            [str(control)],
            input=b"get_server_list\n",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            timeout=CONTROL_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return answer.returncode == 0 and b"cannot find" not in answer.stdout.lower()


def _failure(command: Sequence[str], environment: Mapping[str, str], seconds: float, output: Path) -> str | None:
    """Run a command; return the last line it printed, or what else is known, if it failed, else None."""
    with output.open("wb") as file:
        try:
            result = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=dict(environment),
                timeout=seconds,
                check=False,
            )
        except OSError as error:
            return str(error)
        except subprocess.TimeoutExpired:
            return f"no answer for {seconds:g} s"
    if result.returncode == 0:
        return None
    lines = [line for line in output.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1].strip() if lines else f"exit code {result.returncode}"
