"""Several workers, one machine: what each is given of its energy, and that nothing is lost or counted twice."""

from __future__ import annotations

import csv
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from embedsweep.emissions import EmissionsMeter, SharedEmissions, portion, share, share_path, shared, usage
from embedsweep.emissions.share import Energy, ask_share, read_share
from embedsweep.emissions.shared import cpu_parts, gpu_parts
from embedsweep.emissions.tracker import Reading
from embedsweep.emissions.usage import Usage, Use
from embedsweep.schema import EmissionsConfig

WORLD = EmissionsConfig(name="world", country_iso_code=None)
KG_PER_KWH = 0.5


@dataclass
class FakeTracker:
    """Tells the energy that a test says was drawn."""

    cpu: float = 0.0
    gpu: float = 0.0
    ram: float = 0.0
    failure: str | None = None

    def draw(self, cpu: float, gpu: float = 0.0, ram: float = 0.0) -> None:
        self.cpu, self.gpu, self.ram = self.cpu + cpu, self.gpu + gpu, self.ram + ram

    def start(self) -> None: ...

    def stop(self) -> Reading:
        return self.read()

    def read(self) -> Reading:
        energy = self.cpu + self.gpu + self.ram
        if self.failure is not None and not energy:
            return Reading(9.0, (self.failure,))
        remarks = ("ram power estimated", *([self.failure] if self.failure else []))
        return Reading(9.0, remarks, energy, energy * KG_PER_KWH, self.cpu, self.gpu, self.ram, "a cpu", "a gpu")


@dataclass
class FakeUsage:
    """Tells the CPU time that a test says a worker used since the last reading."""

    cpu_s: dict[int, float] = field(default_factory=dict)

    @property
    def workers(self) -> list[int]:
        return list(self.cpu_s)

    def add(self, worker: int, pid: int) -> None:  # noqa: ARG002
        self.cpu_s[worker] = 0.0

    def remove(self, worker: int) -> None:
        del self.cpu_s[worker]

    def read(self) -> dict[int, Use]:
        uses = {worker: Use(cpu_s, gpu=0.0, holds_gpu=False) for worker, cpu_s in self.cpu_s.items()}
        self.cpu_s = dict.fromkeys(self.cpu_s, 0.0)
        return uses

    def close(self) -> None: ...


@dataclass
class Machine:
    """A supervisor's sharing, over fakes."""

    shared: SharedEmissions
    tracker: FakeTracker
    usage: FakeUsage
    folder: Path

    def draw(self, cpu: float, *, gpu: float = 0.0, ram: float = 0.0, **cpu_s: float) -> None:
        """So much energy is drawn while workers (``w0=2.0``) use so much CPU time."""
        for worker, used in cpu_s.items():
            self.usage.cpu_s[int(worker[1:])] += used
        self.tracker.draw(cpu, gpu, ram)

    def energy(self, worker: int) -> Energy:
        """The worker's share now, as the worker would ask for it; its last one after its end."""
        found = read_share(share_path(self.folder, worker))
        if worker in self.usage.cpu_s:
            found, is_fresh = ask_share(share_path(self.folder, worker))
            assert is_fresh
        assert found is not None
        return found.energy


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    tracker, use = FakeTracker(), FakeUsage()
    monkeypatch.setattr(shared, "Tracker", lambda *_: tracker)
    monkeypatch.setattr(shared, "Usage", lambda: use)
    monkeypatch.setattr(shared, "READ_EVERY_S", 1e9)  # it reads when it is told to, only
    monkeypatch.setattr(shared, "LOOK_EVERY_S", 0.005)
    before = set(threading.enumerate())
    with SharedEmissions(WORLD, tmp_path / "workers") as sharing:
        yield Machine(sharing, tracker, use, tmp_path / "workers")
    assert set(threading.enumerate()) - before == set()


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    ("uses", "cpu", "gpu"),
    [
        ([Use(3, 0, False), Use(1, 0, False)], [0.75, 0.25], [0.75, 0.25]),
        ([Use(0, 0, False), Use(0, 0, False)], [0.5, 0.5], [0.5, 0.5]),
        ([Use(0, 0, False)], [1, 1], [1, 1]),
        ([Use(3, 10, True), Use(1, 30, True)], [0.75, 0.25], [0.25, 0.75]),
        ([Use(3, 10, True), Use(1, 0, True)], [0.75, 0.25], [1, 0]),
        ([Use(2, 0, True), Use(1, 0, True), Use(1, 0, False)], [0.5, 0.25, 0.25], [2 / 3, 1 / 3, 0]),
        ([Use(0, 0, True), Use(0, 0, True), Use(4, 0, False)], [0, 0, 1], [0.5, 0.5, 0]),
    ],
    ids=["by CPU time", "nobody", "alone", "by GPU time", "one GPU idle", "by who holds a GPU", "holders are idle"],
)
def test_energy_goes_where_time_was_used(uses: list[Use], cpu: list[float], gpu: list[float]) -> None:
    numbered = dict(enumerate(uses))
    assert list(cpu_parts(numbered).values()) == pytest.approx(cpu[: len(uses)])
    assert list(gpu_parts(numbered).values()) == pytest.approx(gpu[: len(uses)])


def test_each_interval_is_shared_by_what_was_used_in_it(machine: Machine) -> None:
    machine.shared.add(0, pid=1)
    machine.shared.add(1, pid=2)
    machine.draw(4.0, ram=8.0, w0=3.0, w1=1.0)
    assert machine.energy(0).total_kwh == pytest.approx(9.0)
    machine.draw(4.0, ram=8.0, w0=0.0, w1=5.0)
    assert machine.energy(0) == Energy(3.0, 0.0, 6.0, 0.0, 9.0 * KG_PER_KWH)
    assert machine.energy(1) == Energy(5.0, 0.0, 10.0, 0.0, 15.0 * KG_PER_KWH)


def test_what_workers_are_given_sums_to_what_was_measured(machine: Machine) -> None:
    chance = random.Random(7)
    for _ in range(60):
        worker = chance.randrange(5)
        if worker in machine.usage.workers:
            machine.shared.remove(worker)
        else:
            machine.shared.add(worker, pid=worker)
        used = {f"w{number}": chance.choice([0.0, chance.random()]) for number in machine.usage.workers}
        machine.draw(chance.random(), gpu=chance.random(), ram=chance.random(), **used)
    for worker in machine.usage.workers:
        machine.shared.remove(worker)
    parts = [machine.energy(worker) for worker in range(5)]
    assert all(part.total_kwh > 0 for part in parts)
    assert machine.shared.unshared.total_kwh > 0
    whole = sum(parts, machine.shared.unshared)
    tracker = machine.tracker
    assert (whole.cpu_kwh, whole.gpu_kwh, whole.ram_kwh) == pytest.approx(
        (tracker.cpu, tracker.gpu, tracker.ram), rel=1e-12
    )
    assert whole.co2eq_kg == pytest.approx(KG_PER_KWH * (tracker.cpu + tracker.gpu + tracker.ram), rel=1e-12)


def test_what_is_drawn_while_there_is_no_worker_is_nobodys(machine: Machine) -> None:
    machine.draw(1.0)
    machine.shared.add(0, pid=1)
    machine.draw(2.0, w0=1.0)
    machine.shared.remove(0)
    machine.draw(4.0)
    machine.shared.add(0, pid=2)
    assert machine.energy(0).cpu_kwh == pytest.approx(2.0)
    assert machine.shared.unshared.cpu_kwh == pytest.approx(5.0)


def test_a_worker_started_again_goes_on_with_its_sums(machine: Machine) -> None:
    machine.shared.add(0, pid=1)
    machine.shared.add(1, pid=2)
    machine.draw(4.0, w0=1.0, w1=1.0)
    machine.shared.remove(0)
    machine.draw(10.0, w1=1.0)
    machine.shared.add(0, pid=3)
    assert machine.energy(0).cpu_kwh == pytest.approx(2.0)
    machine.draw(4.0, w0=3.0, w1=1.0)
    assert machine.energy(0).cpu_kwh == pytest.approx(5.0)
    assert machine.energy(1).cpu_kwh == pytest.approx(13.0)


def test_what_was_used_counts_when_its_energy_arrives(machine: Machine) -> None:
    machine.shared.add(0, pid=1)
    machine.shared.add(1, pid=2)
    machine.draw(0.0, w0=3.0)  # CodeCarbon does not measure again at once
    assert machine.energy(0).total_kwh == 0
    machine.draw(4.0, w1=1.0)
    assert machine.energy(0).total_kwh == pytest.approx(3.0)


def test_trials_are_measured_by_their_workers_share(machine: Machine, tmp_path: Path) -> None:
    machine.shared.add(0, pid=1)
    machine.shared.add(1, pid=2)
    machine.draw(100.0, w0=1.0, w1=1.0)  # before the trial
    path = tmp_path / "trial" / "emissions.csv"
    with EmissionsMeter(WORLD, path, share_path(machine.folder, 0)) as first:
        machine.draw(4.0, gpu=8.0, ram=2.0, w0=3.0, w1=1.0)
        first.flush()
    total = first.total()
    assert total.energy_kwh == pytest.approx(3.0 + 6.0 + 1.5)
    assert total.co2eq_kg == pytest.approx(KG_PER_KWH * 10.5)
    assert 0 < total.duration_s < 10
    assert total.unmeasured[0] == "approximate: this worker's part of the machine's energy, by CPU time"
    assert total.unmeasured[1] == "ram power estimated"
    (row,) = rows_of(path)
    figures = [float(row[f"{part}_energy_kwh"]) for part in ("cpu", "gpu", "ram")]
    assert figures == pytest.approx([3.0, 6.0, 1.5])
    assert (row["attempt"], row["country"], row["cpu_model"]) == ("1", "world average", "a cpu")

    machine.draw(100.0, w0=1.0)  # between attempts
    with EmissionsMeter(WORLD, path, share_path(machine.folder, 0)) as second:
        machine.draw(4.0, w0=1.0, w1=3.0)
    assert second.total().energy_kwh == pytest.approx(10.5 + 1.0)
    assert [row["attempt"] for row in rows_of(path)] == ["1", "2"]


def test_a_flush_takes_the_last_reading_without_waiting_for_another(machine: Machine, tmp_path: Path) -> None:
    machine.shared.add(0, pid=1)
    with EmissionsMeter(WORLD, tmp_path / "emissions.csv", share_path(machine.folder, 0)) as meter:
        machine.draw(2.0, w0=1.0)
        machine.energy(0)
        machine.draw(4.0, w0=1.0)
        meter.flush()
        (row,) = rows_of(tmp_path / "emissions.csv")
        assert float(row["energy_kwh"]) == pytest.approx(2.0)
        assert "attempt 1 counted up to its last flush" in row["unmeasured"]
    assert meter.total().energy_kwh == pytest.approx(6.0)


def test_the_machine_is_read_by_itself_too(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.shared.add(0, pid=1)
    machine.draw(2.0, w0=1.0)
    monkeypatch.setattr(shared, "READ_EVERY_S", 0.05)
    until = time.monotonic() + 10
    while not (found := read_share(share_path(machine.folder, 0))) or not found.energy.cpu_kwh:
        assert time.monotonic() < until
        time.sleep(0.01)
    assert found.energy.cpu_kwh == pytest.approx(2.0)


def test_a_tracker_that_is_dead_is_said_and_not_a_measured_zero(machine: Machine, tmp_path: Path) -> None:
    machine.tracker.failure = "codecarbon did not start"
    machine.shared.add(0, pid=1)
    with EmissionsMeter(WORLD, tmp_path / "emissions.csv", share_path(machine.folder, 0)) as meter:
        pass
    assert meter.total().unmeasured == ("attempt 1 not measured", "codecarbon did not start", portion.NO_ENERGY)
    assert rows_of(tmp_path / "emissions.csv")[0]["energy_kwh"] == ""


def test_a_tracker_that_dies_leaves_later_trials_unmeasured(machine: Machine, tmp_path: Path) -> None:
    machine.shared.add(0, pid=1)
    machine.draw(2.0, w0=1.0)
    machine.energy(0)
    machine.tracker.failure = "codecarbon stopped measuring after 9.0 s"
    with EmissionsMeter(WORLD, tmp_path / "emissions.csv", share_path(machine.folder, 0)) as meter:
        pass
    assert "attempt 1 not measured" in meter.total().unmeasured
    assert machine.tracker.failure in meter.total().unmeasured


@pytest.mark.parametrize("content", [None, "", "{}", '{"energy": 1}', "\x00"])
def test_without_anybody_who_measures_a_trial_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None
) -> None:
    monkeypatch.setattr(share, "ANSWERED_WITHIN_S", 0.05)
    path = share_path(tmp_path, 0)
    if content is not None:
        path.write_text(content)
    with EmissionsMeter(WORLD, tmp_path / "trial" / "emissions.csv", path) as meter:
        time.sleep(0.05)
        meter.flush()
    assert meter.total().unmeasured[:2] == ("attempt 1 not measured", portion.NO_SHARE)
    assert meter.total().duration_s >= 0.05
    assert not list(tmp_path.glob("*.ask"))


def test_a_folder_that_is_gone_does_not_stop_the_trial(tmp_path: Path) -> None:
    with EmissionsMeter(WORLD, tmp_path / "emissions.csv", share_path(tmp_path / "nowhere", 0)) as meter:
        pass
    assert "attempt 1 not measured" in meter.total().unmeasured


def test_a_trial_whose_supervisor_dies_keeps_what_was_measured(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.shared.add(0, pid=1)
    with EmissionsMeter(WORLD, tmp_path / "emissions.csv", share_path(machine.folder, 0)) as meter:
        machine.draw(2.0, w0=1.0)
        machine.energy(0)
        monkeypatch.setattr(share, "ANSWERED_WITHIN_S", 0.05)
        machine.shared._over.set()
        machine.shared._thread.join()
    assert meter.total().energy_kwh == pytest.approx(2.0)
    assert portion.NO_ANSWER in meter.total().unmeasured


def test_files_of_an_earlier_command_are_deleted(tmp_path: Path) -> None:
    for name in ("worker-0.json", "worker-7.ask"):
        (tmp_path / name).write_text("old")
    with SharedEmissions(WORLD, tmp_path):
        assert not list(tmp_path.iterdir())


def test_a_full_disk_does_not_stop_the_sharing(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(path: Path, text: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(shared, "write_share", full)
        machine.shared.add(0, pid=1)
        machine.draw(2.0, w0=1.0)
        machine.shared.add(1, pid=2)
    assert "could not be written" in caplog.text
    assert machine.energy(0).cpu_kwh == pytest.approx(2.0)


PARENT_OF_A_BURNER = """if True:
    import subprocess, sys, time
    burn = "import time\\nwhile time.process_time() < .5: pass"
    subprocess.run([sys.executable, "-c", burn])
    print("burnt", flush=True)
    sys.stdin.read()
"""


def test_children_count_while_they_run_and_after_they_have_ended() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT_OF_A_BURNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        use = Usage()
        use.add(3, child.pid)
        assert child.stdout is not None
        assert child.stdin is not None
        used = 0.0
        for _ in range(3):
            time.sleep(0.05)
            used += use.read()[3].cpu_s
        assert child.stdout.readline() == "burnt\n"
        used += use.read()[3].cpu_s
        assert 0.45 < used < 1.0
        assert use.read()[3].cpu_s < 0.05
        child.stdin.close()
    assert use.read() == {3: Use(0.0, 0.0, holds_gpu=False)}
    use.remove(3)
    assert use.read() == {}
    use.close()


def test_a_worker_of_several_processes_uses_what_they_all_use(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = {os.getpid(): 1.0, os.getppid(): 10.0}
    monkeypatch.setattr(usage, "_with_children", lambda process: [process])
    monkeypatch.setattr(usage, "_cpu_s", lambda process: seconds[process.pid])
    use = Usage()
    for pid in seconds:
        use.add(0, pid)
    seconds.update({os.getpid(): 3.0, os.getppid(): 40.0})
    assert use.read()[0].cpu_s == pytest.approx(32.0)


class FakeNvml:
    """Two GPUs: on the first, this process and another; the second cannot tell."""

    NVMLError = RuntimeError

    def __init__(self) -> None:
        self.samples = [SimpleNamespace(pid=os.getpid(), timeStamp=10, smUtil=90)]

    def nvmlInit(self) -> None: ...  # noqa: N802

    def nvmlShutdown(self) -> None: ...  # noqa: N802

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return 2

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        return index

    def nvmlDeviceGetComputeRunningProcesses(self, gpu: int) -> list[Any]:  # noqa: N802
        return [SimpleNamespace(pid=os.getpid())] if gpu == 0 else []

    def nvmlDeviceGetProcessUtilization(self, gpu: int, since: int) -> list[Any]:  # noqa: ARG002, N802
        if gpu == 1:
            raise RuntimeError("Not Supported")
        return self.samples


def test_gpu_time_is_what_the_driver_tells_of_ones_own_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = FakeNvml()
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    use = Usage()
    use.add(0, os.getpid())
    assert use.read()[0].gpu == 0  # its only sample is of before
    mine = [SimpleNamespace(pid=os.getpid(), timeStamp=stamp, smUtil=20) for stamp in (10, 11, 12)]
    nvml.samples = [*mine, SimpleNamespace(pid=1, timeStamp=12, smUtil=70)]
    found = use.read()[0]
    assert (found.gpu, found.holds_gpu) == (40, True)
    assert use.read()[0].gpu == 0
    use.close()


TRIAL = """if True:
    import sys, time
    from pathlib import Path
    from embedsweep.emissions import EmissionsMeter
    from embedsweep.schema import EmissionsConfig
    share, path, seconds = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])
    print("ready", flush=True)
    sys.stdin.readline()
    with EmissionsMeter(EmissionsConfig("world", None), path, share) as meter:
        until = time.process_time() + seconds
        while time.process_time() < until:
            pass
        print("burnt", flush=True)
        sys.stdin.readline()
    assert "codecarbon" not in sys.modules
"""


def test_two_processes_are_given_energy_as_they_used_the_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "READ_EVERY_S", 1e9)  # one interval, whoever else keeps the cores busy
    seconds, folder = (1.5, 0.5), tmp_path / "workers"
    rows = [tmp_path / f"{worker}.csv" for worker in (0, 1)]
    with SharedEmissions(WORLD, folder) as sharing:
        words = [
            [sys.executable, "-c", TRIAL, str(share_path(folder, worker)), str(rows[worker]), str(seconds[worker])]
            for worker in (0, 1)
        ]
        children = [subprocess.Popen(word, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for word in words]

        def wait_for(word: str) -> None:
            assert [child.stdout and child.stdout.readline() for child in children] == [f"{word}\n"] * 2

        def go_on() -> None:
            for child in children:
                assert child.stdin is not None
                child.stdin.write("\n")
                child.stdin.flush()

        wait_for("ready")
        for worker, child in enumerate(children):
            sharing.add(worker, child.pid)
        go_on()
        wait_for("burnt")
        go_on()
        assert [child.wait(30) for child in children] == [0, 0]
        for worker in (0, 1):
            sharing.remove(worker)
    for child in children:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.close()
        child.stdout.close()

    trials = [EmissionsMeter(WORLD, path).total() for path in rows]
    assert all(trial.unmeasured[0].startswith("approximate") for trial in trials)
    assert trials[0].energy_kwh / trials[1].energy_kwh == pytest.approx(3.0, rel=0.2)
    shares = [read_share(share_path(folder, worker)) for worker in (0, 1)]
    energies = [found.energy for found in shares if found is not None]
    whole = sum(energies, sharing.unshared)
    assert sum(trial.energy_kwh for trial in trials) <= whole.total_kwh
    measured = sharing._tracker._tracker.final_emissions_data
    assert whole.total_kwh == pytest.approx(measured.energy_consumed, rel=1e-9)
    assert whole.co2eq_kg == pytest.approx(measured.emissions, rel=1e-9)
    # Between a watt and ten kilowatts.
    assert 1 < whole.total_kwh * 1000 * 3600 / measured.duration < 10_000
