"""The connection to a Ray cluster: what it leaves to the command's process."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from embedsweep.cli import main
from embedsweep.lease import Lease
from embedsweep.workers.cluster import OWNER, _remove_abandoned

INTERRUPTED = """
import os, signal, time
from embedsweep.config.workers import RayWorkersConfig
from embedsweep.errors import Interrupted
from embedsweep.signals import handled
from embedsweep.workers.cluster import Cluster

workers = RayWorkersConfig("ray", 1, 1, 1, 0, None, mps=False, address="none", gpus=None, cpus=1.0)
with handled():
    try:
        with Cluster(workers, "cpu"):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(30)
    except Interrupted as error:
        print("interrupted by", error.signum)
    time.sleep(1)  # a second signal would be raised here
print("over")
"""


@pytest.mark.slow
def test_a_signal_interrupts_a_command_once_while_it_is_connected_to_ray() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines() == ["interrupted by 15", "over"]
    assert "SIGTERM received" not in ended.stderr  # Ray's own handler prints that


def test_the_folder_of_a_local_cluster_whose_command_was_killed_is_deleted_by_the_next(tmp_path: Path) -> None:
    ended = subprocess.Popen(["true"])
    of_dead = asdict(Lease.of(ended.pid))
    ended.wait()
    leases = {"dead": of_dead, "alive": asdict(Lease.mine()), "elsewhere": {**of_dead, "system": "another"}}
    for name, lease in leases.items():
        (tmp_path / f"ray-{name}").mkdir()
        (tmp_path / f"ray-{name}" / OWNER).write_text(json.dumps(lease))
    (tmp_path / "ray-of_another_program").mkdir()
    (tmp_path / "ray-torn").mkdir()
    (tmp_path / "ray-torn" / OWNER).write_text("{")
    _remove_abandoned(tmp_path)
    left = {"ray-alive", "ray-elsewhere", "ray-of_another_program", "ray-torn"}
    assert {path.name for path in tmp_path.iterdir()} == left


def test_no_study_is_created_for_a_cluster_that_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # and nobody listens
        address = f"127.0.0.1:{closed.getsockname()[1]}"
        words = ("study.name=night", "loss=mnrl,cosent", "trainer.device=cpu", "workers=ray")
        assert main(["train", "-m", *words, f"workers.address={address}"]) == 2
    assert f"workers.address: {address} is no Ray cluster that can be used: nobody answers" in capsys.readouterr().err
    assert not Path("sweeps/night").exists()
