"""A real PostgreSQL server for tests, on a free port of this machine; it is removed when they end.

``initdb`` refuses root, so root's server runs as the Debian package's user.
"""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

MISSING = "no PostgreSQL server on this machine: apt-get install postgresql"
USERS = ("postgres", "nobody")
SETTINGS = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "shared_buffers": "16MB"}
START_WITHIN_S = 30.0


class Server:
    """A running server; every user of this machine may connect.

    Attributes:
        port: its port on 127.0.0.1.
    """

    def __init__(self, binary_folder: Path, folder: Path, data: Path, identity: dict[str, Any]) -> None:
        self.port = _free_port()
        self._numbers = itertools.count()
        own = {"listen_addresses": "127.0.0.1", "port": self.port, "unix_socket_directories": folder, **SETTINGS}
        options = [f"--{name}={value}" for name, value in own.items()]
        self._command = [str(binary_folder / "postgres"), "-D", str(data), *options]
        self._folder, self._identity = folder, identity
        self._process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        log = self._folder / "server.log"
        with log.open("ab") as output:
            process = subprocess.Popen(self._command, stdout=output, stderr=output, cwd=self._folder, **self._identity)
        deadline = time.monotonic() + START_WITHIN_S
        while not self.answers():
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                raise RuntimeError(f"PostgreSQL did not start:\n{log.read_text(errors='replace')}")
            time.sleep(0.1)
        return process

    def restart(self, down_s: float) -> None:
        """Stop it, which drops every connection, and start it again after ``down_s`` seconds, with its data."""
        self.stop(signal.SIGINT)
        time.sleep(down_s)
        self._process = self._start()

    def stop(self, signum: signal.Signals) -> None:
        """Stop it: SIGINT keeps its data, SIGQUIT stops at once without a checkpoint."""
        self._process.send_signal(signum)
        self._process.wait(30)

    def new_database(self) -> str:
        """Create an empty database and return its SQLAlchemy URL."""
        name = f"study_{next(self._numbers)}"
        with psycopg.connect(self._address("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return self._address(name)

    def add_user(self, name: str, password: str, databases: Sequence[str]) -> None:
        """Create a user who has to give a password, and databases of this user."""
        rules = self._folder / "data" / "pg_hba.conf"
        rule = f"host all {name} 127.0.0.1/32 scram-sha-256\n"
        rules.write_text(rule + rules.read_text(encoding="utf-8"), encoding="utf-8")
        with psycopg.connect(self._address("postgres"), autocommit=True) as connection:
            connection.execute("SELECT pg_reload_conf()")
            connection.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{password}'".encode())
            for database in databases:
                connection.execute(f"CREATE DATABASE {database} OWNER {name}".encode())

    def answers(self) -> bool:
        """Return whether it accepts connections."""
        try:
            psycopg.connect(self._address("postgres")).close()
        except psycopg.OperationalError:
            return False
        return True

    def _address(self, database: str) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"


def binaries() -> Path | None:
    """Return the folder of ``initdb`` and ``postgres``, from PATH or Debian's newest; None without one."""
    program = shutil.which("initdb")
    folders = [Path(program).resolve().parent] if program else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name), reverse=True)
    return next((path for path in folders if (path / "initdb").is_file() and (path / "postgres").is_file()), None)


@contextmanager
def running_server(binary_folder: Path) -> Iterator[Server]:
    """Start a server with a new, empty cluster and stop it after the block."""
    identity = _unprivileged()
    # Not below pytest's own folders, which only their owner may enter.
    folder = Path(tempfile.mkdtemp(prefix="embedsweep-postgres-"))
    try:
        if identity:
            os.chown(folder, identity["user"], identity["group"])
        data = folder / "data"
        options = ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"]
        subprocess.run(
            [binary_folder / "initdb", "--pgdata", data, *options],
            check=True,
            capture_output=True,
            cwd=folder,
            **identity,
        )
        server = Server(binary_folder, folder, data, identity)
        try:
            yield server
        finally:
            server.stop(signal.SIGQUIT)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _unprivileged() -> dict[str, Any]:
    """Return the user as whom root starts the server, as arguments of ``subprocess``; empty for other users."""
    if os.geteuid() != 0:
        return {}
    entries = {entry.pw_name: entry for entry in pwd.getpwall()}
    entry = next(entries[name] for name in USERS if name in entries)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
