"""A real terminal of a given size, in which a command runs and whose screen can be read: a pane of tmux."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HAS_TMUX = shutil.which("tmux") is not None
WITHIN_S = 1200.0


@dataclass(frozen=True)
class Terminal:
    """A pane of a tmux server of its own.

    Attributes:
        socket: the name of the server's socket.
        ended: the file that gets the command's exit code.
    """

    socket: str
    ended: Path

    def tmux(self, *words: str) -> str:
        """Run a command of tmux; return what it prints."""
        command = ["tmux", "-L", self.socket, "-f", "/dev/null", *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def screen(self) -> list[str]:
        """Return the lines that are on the screen now."""
        return self.tmux("capture-pane", "-p").splitlines()

    def everything(self) -> str:
        """Return what was ever printed: the screen and what has scrolled away, folded lines as one."""
        return self.tmux("capture-pane", "-p", "-J", "-S", "-")

    def press(self, key: str) -> None:
        """Press a key, as ``C-c``."""
        self.tmux("send-keys", key)

    @property
    def exit_code(self) -> int | None:
        """The exit code of the command; None while it runs. tmux itself does not always notice that it has ended."""
        text = self.ended.read_text(encoding="ascii") if self.ended.is_file() else ""
        return int(text) if text.endswith("\n") else None

    def looks(self, every_s: float = 0.5) -> Iterator[list[str]]:
        """Yield the screen again and again until the command has ended, and once more."""
        deadline = time.monotonic() + WITHIN_S
        while self.exit_code is None:
            yield self.screen()
            time.sleep(every_s)
            assert time.monotonic() < deadline, self.everything()
        yield self.screen()


@contextmanager
def opened(
    command: Sequence[str], folder: Path, environment: Mapping[str, str], width: int, height: int
) -> Iterator[Terminal]:
    """Run a command in a terminal of ``width`` by ``height`` characters; whatever still runs at the end is killed."""
    name = f"embedsweep-{uuid.uuid4().hex[:12]}"
    terminal = Terminal(name, Path(tempfile.gettempdir(), name))
    size = ("-x", str(width), "-y", str(height))
    # The session is there before the options, and the options before the command ends.
    # Ctrl-C is for the command, and the shell lives on.
    waiting = f"trap : INT; read -r _; {shlex.join(command)}; echo $? >{terminal.ended}; sleep {WITHIN_S:g}"
    server = ["tmux", "-u", "-L", terminal.socket, "-f", "/dev/null", "new-session", "-d", *size, "sh", "-c", waiting]
    try:
        subprocess.run(server, check=True, cwd=folder, env={**os.environ, **environment, "LC_ALL": "C.UTF-8"})
        terminal.tmux("set-option", "-g", "status", "off")
        terminal.tmux("set-option", "-g", "history-limit", "100000")
        terminal.tmux("resize-window", *size)  # the line that the status took
        terminal.press("Enter")
        yield terminal
    finally:
        subprocess.run(["tmux", "-L", terminal.socket, "kill-server"], check=False, capture_output=True)
        terminal.ended.unlink(missing_ok=True)
