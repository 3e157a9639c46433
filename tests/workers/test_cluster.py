"""The connection to a Ray cluster: what it leaves to the command's process."""

from __future__ import annotations

import subprocess
import sys

import pytest

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
