from __future__ import annotations

import csv
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from importlib import resources
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from embedsweep.config.study import EmissionsConfig
from embedsweep.emissions import tracker
from embedsweep.emissions.meter import EmissionsMeter
from embedsweep.emissions.rows import COLUMNS, WORLD_AVERAGE_G_PER_KWH, country_problem

WORLD = EmissionsConfig(name="world", country_iso_code=None)
FRANCE = EmissionsConfig(name="fra", country_iso_code="FRA")

# Longer than CodeCarbon's own shortest interval, 0.05 s.
MEASURABLE_S = 0.2


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def write_by_hand(path: Path, *rows: dict[str, object]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="")
        writer.writeheader()
        writer.writerows(rows)


def new_threads(before: set[threading.Thread]) -> list[threading.Thread]:
    """Threads that are still there a moment later; a cancelled timer needs that moment to end."""
    until = time.monotonic() + 20
    while (left := [thread for thread in threading.enumerate() if thread not in before]) and time.monotonic() < until:
        time.sleep(0.02)
    return left


def data_of_codecarbon(name: str) -> Any:
    return json.loads(resources.files("codecarbon").joinpath("data/private_infra", name).read_text())


def test_an_attempt_is_measured_and_recorded(tmp_path: Path) -> None:
    path = tmp_path / "trials" / "0000" / "emissions.csv"
    with EmissionsMeter(WORLD, path) as meter:
        time.sleep(MEASURABLE_S)
    total = meter.total()
    (row,) = rows_of(path)
    assert tuple(row) == COLUMNS
    assert row["attempt"] == "1"
    assert row["started_at"].endswith("+00:00")
    assert MEASURABLE_S <= total.duration_s < 30
    assert float(row["energy_kwh"]) == total.energy_kwh > 0
    parts = [float(row[f"{part}_energy_kwh"]) for part in ("cpu", "gpu", "ram")]
    assert sum(parts) == pytest.approx(total.energy_kwh)
    # Between a watt and ten kilowatts, so neither milli nor kilo was mixed up.
    assert 1 < total.energy_kwh * 1000 * 3600 / total.duration_s < 10_000
    assert row["cpu_model"]
    assert not list(path.parent.glob("*.part"))


def test_estimated_figures_are_reported(tmp_path: Path) -> None:
    with EmissionsMeter(WORLD, tmp_path / "emissions.csv") as meter:
        time.sleep(MEASURABLE_S)
    words = meter.total().unmeasured
    assert "ram power estimated (not measured)" in words
    rapl = any(Path("/sys/class/powercap").glob("intel-rapl:*/energy_uj"))
    assert rapl or any(word.startswith("cpu power") and "no RAPL" in word for word in words)
    assert not any("attempt" in word for word in words)


@pytest.mark.parametrize(
    ("config", "country", "g_per_kwh"),
    [(WORLD, "world average", 475.0), (FRANCE, "FRA", data_of_codecarbon("global_energy_mix.json")["FRA"])],
    ids=["world", "FRA"],
)
def test_co2_is_energy_times_the_countrys_intensity(
    tmp_path: Path, config: EmissionsConfig, country: str, g_per_kwh: Any
) -> None:
    intensity = g_per_kwh if isinstance(g_per_kwh, float) else g_per_kwh["carbon_intensity"]
    with EmissionsMeter(config, tmp_path / "emissions.csv") as meter:
        time.sleep(MEASURABLE_S)
    total = meter.total()
    assert total.country == country
    assert total.co2eq_kg == pytest.approx(total.energy_kwh * intensity / 1000)


def test_the_world_average_is_codecarbons() -> None:
    assert data_of_codecarbon("carbon_intensity_per_source.json")["world_average"] == WORLD_AVERAGE_G_PER_KWH
    assert data_of_codecarbon("global_energy_mix.json")["FRA"]["carbon_intensity"] < WORLD_AVERAGE_G_PER_KWH / 2


def test_attempts_are_summed(tmp_path: Path) -> None:
    path = tmp_path / "emissions.csv"
    write_by_hand(
        path,
        {"attempt": 1, "duration_s": 10.5, "energy_kwh": 0.25, "co2eq_kg": 0.1, "country": "FRA", "unmeasured": "a; b"},
        {"attempt": 2, "duration_s": 2, "energy_kwh": 1e-3, "co2eq_kg": 2e-3, "country": "FRA", "unmeasured": "b"},
        {"attempt": 3, "duration_s": 4, "gpu_h": 0.5, "country": "DEU", "unmeasured": "codecarbon did not start"},
        {"attempt": 4, "energy_kwh": 0, "co2eq_kg": 0, "gpu_h": 0.25},
    )
    total = EmissionsMeter(FRANCE, path).total()
    assert total.duration_s == pytest.approx(16.5)
    assert total.energy_kwh == pytest.approx(0.251)
    assert total.co2eq_kg == pytest.approx(0.102)
    assert total.gpu_h == pytest.approx(0.75)
    assert total.country == "FRA, DEU"
    assert total.unmeasured == ("a", "b", "attempt 3 not measured", "codecarbon did not start")


def test_the_file_of_an_earlier_version_is_continued(tmp_path: Path) -> None:
    path = tmp_path / "emissions.csv"
    path.write_text(
        "attempt,started_at,duration_s,energy_kwh,co2eq_kg,country,cpu_energy_kwh,gpu_energy_kwh,ram_energy_kwh,"
        "cpu_model,gpu_model,unmeasured\n"
        "1,2025-01-01T00:00:00+00:00,9.5,0.002,0.001,FRA,0.0015,,0.0005,a cpu,,a; b\n"
    )
    total = EmissionsMeter(FRANCE, path).total()
    assert (total.energy_kwh, total.co2eq_kg, total.duration_s, total.gpu_h) == (0.002, 0.001, 9.5, None)
    assert total.unmeasured == ("a", "b")
    with EmissionsMeter(FRANCE, path) as second:
        time.sleep(MEASURABLE_S)
    rows = rows_of(path)
    assert [tuple(row) for row in rows] == [COLUMNS] * 2
    assert (rows[0]["cpu_model"], rows[0]["gpu_h"], rows[1]["attempt"]) == ("a cpu", "", "2")
    assert second.total().energy_kwh > 0.002


def test_a_trial_without_a_supervisor_holds_its_gpus_all_the_time(tmp_path: Path) -> None:
    path = tmp_path / "emissions.csv"
    with EmissionsMeter(WORLD, path, gpus=["0", "1"]) as meter:
        time.sleep(MEASURABLE_S)
        meter.flush()
        flushed = meter.total()
        assert flushed.gpu_h == pytest.approx(2 * flushed.duration_s / 3600)
    total = meter.total()
    assert total.gpu_h == pytest.approx(2 * total.duration_s / 3600)
    assert total.duration_s > flushed.duration_s
    assert not any("approximate" in word for word in total.unmeasured)
    with EmissionsMeter(WORLD, tmp_path / "cpu.csv") as meter:
        time.sleep(MEASURABLE_S)
    assert meter.total().gpu_h is None


def test_a_missing_file_sums_to_nothing(tmp_path: Path) -> None:
    total = EmissionsMeter(FRANCE, tmp_path / "emissions.csv").total()
    assert (total.energy_kwh, total.duration_s, total.country, total.unmeasured) == (0, 0, "FRA", ())


@pytest.mark.parametrize("content", [b"", b"\x00\xff\x00", b"a,b\n1,2\n", b"attempt\n1,2\n"])
def test_an_invalid_file_is_reported_and_does_not_stop_the_attempt(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "emissions.csv"
    path.write_bytes(content)
    with EmissionsMeter(WORLD, path) as meter:
        time.sleep(MEASURABLE_S)
    assert meter.total().energy_kwh > 0
    assert any("could not be read" in word for word in meter.total().unmeasured) is bool(content)


def killed_after_flush(path: Path) -> None:
    meter = EmissionsMeter(WORLD, path)
    meter.start()
    time.sleep(MEASURABLE_S)
    meter.flush()
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_attempt_counts_up_to_its_last_flush(tmp_path: Path) -> None:
    path = tmp_path / "emissions.csv"
    child = multiprocessing.get_context("spawn").Process(target=killed_after_flush, args=(path,))
    child.start()
    child.join(60)
    assert child.exitcode == -signal.SIGKILL
    (killed,) = rows_of(path)
    assert float(killed["duration_s"]) >= MEASURABLE_S
    assert float(killed["energy_kwh"]) > 0

    with EmissionsMeter(WORLD, path) as meter:
        time.sleep(MEASURABLE_S)
    first, second = rows_of(path)
    assert first == killed
    assert second["attempt"] == "2"
    assert meter.total().energy_kwh == pytest.approx(float(killed["energy_kwh"]) + float(second["energy_kwh"]))
    assert "attempt 1 counted up to its last flush" in meter.total().unmeasured
    assert not any("attempt 2" in word for word in meter.total().unmeasured)


def test_a_second_meter_in_the_process_starts_from_zero(tmp_path: Path) -> None:
    with EmissionsMeter(WORLD, tmp_path / "a.csv") as long:
        time.sleep(1.0)
    with EmissionsMeter(WORLD, tmp_path / "b.csv") as short:
        time.sleep(MEASURABLE_S)
    assert short.total().duration_s < 0.6 < long.total().duration_s
    ram = [float(rows_of(tmp_path / name)[0]["ram_energy_kwh"]) for name in ("a.csv", "b.csv")]
    # RAM is taken as constant power, so its energies are as the times.
    assert ram[1] / ram[0] == pytest.approx(short.total().duration_s / long.total().duration_s, rel=0.2)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_exception_stops_the_tracker_and_its_threads(tmp_path: Path, error: type[BaseException]) -> None:
    before = set(threading.enumerate())

    def fail() -> None:
        assert set(threading.enumerate()) - before
        raise error

    with pytest.raises(error), EmissionsMeter(WORLD, tmp_path / "emissions.csv"):
        fail()
    assert new_threads(before) == []
    assert "last flush" not in rows_of(tmp_path / "emissions.csv")[0]["unmeasured"]


def test_an_interrupt_while_starting_leaves_no_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: EmissionsMeter) -> None:
        raise KeyboardInterrupt

    before = set(threading.enumerate())
    monkeypatch.setattr(EmissionsMeter, "flush", interrupted)
    with pytest.raises(KeyboardInterrupt):
        EmissionsMeter(WORLD, tmp_path / "emissions.csv").start()
    assert new_threads(before) == []


def test_a_tracker_that_did_not_start_is_reported_as_unmeasured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from codecarbon import OfflineEmissionsTracker

    def broken(_: object) -> None:
        raise OSError("no hardware")

    monkeypatch.setattr(OfflineEmissionsTracker, "_ensure_hardware_ready", broken)
    path = tmp_path / "emissions.csv"
    with EmissionsMeter(WORLD, path) as meter:
        time.sleep(MEASURABLE_S)
    assert meter.total().unmeasured == ("attempt 1 not measured", "codecarbon did not start")
    assert meter.total().duration_s >= MEASURABLE_S
    assert rows_of(path)[0]["energy_kwh"] == ""


def test_a_tracker_that_dies_keeps_what_it_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from codecarbon import OfflineEmissionsTracker

    def broken(_: object) -> None:
        raise OSError("card fell off the bus")

    with EmissionsMeter(WORLD, tmp_path / "emissions.csv") as meter:
        time.sleep(MEASURABLE_S)
        meter.flush()
        measured = meter.total()
        monkeypatch.setattr(OfflineEmissionsTracker, "_do_measurements", broken)
        time.sleep(MEASURABLE_S)
    assert meter.total().energy_kwh == measured.energy_kwh
    assert any(word.startswith("codecarbon stopped measuring after 0.") for word in meter.total().unmeasured)


@pytest.mark.parametrize(
    ("counted", "energy_kwh", "visible", "remark"),
    [
        (None, 0.0, "", "no gpu measured (codecarbon found none, torch did)"),
        ([], 0.0, "GPU-12ab", "no gpu measured (codecarbon cannot match CUDA_VISIBLE_DEVICES=GPU-12ab)"),
        ([0], 0.0, "0", "no gpu measured (its energy was read as 0)"),
        ([0, 1], 0.1, "GPU-12ab", "all 2 gpus counted, though CUDA_VISIBLE_DEVICES=GPU-12ab"),
        ([0], 0.1, "0", None),
        ([0, 1], 0.1, "", None),
    ],
)
def test_a_gpu_that_was_not_counted_is_reported(
    monkeypatch: pytest.MonkeyPatch, counted: list[int] | None, energy_kwh: float, visible: str, remark: str | None
) -> None:
    class GPU:
        gpu_ids = counted

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr(tracker, "torch_has_gpu", lambda: True)
    hardware = [] if counted is None else [GPU()]
    assert tracker._gpu_remarks(hardware, energy_kwh, 10, []) == ([remark] if remark else [])


def test_the_counters_of_the_gpus_that_trials_hold_are_summed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from codecarbon.core import gpu as devices
    from codecarbon.core import gpu_nvidia, hardware_cache

    joules = {0: 0, 1: 0, 2: 0}
    names = ["GPU-aa11", "GPU-bb22", "GPU-cc33"]
    nvml = SimpleNamespace(
        NVMLError=RuntimeError,
        NVMLError_NotSupported=RuntimeError,
        nvmlInit=lambda: None,
        nvmlShutdown=lambda: None,
        nvmlDeviceGetCount=lambda: 3,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetUUID=lambda index: names[index],
        nvmlDeviceGetName=lambda _: "a gpu",
        nvmlDeviceGetMemoryInfo=lambda _: SimpleNamespace(total=1, free=1, used=0),
        nvmlDeviceGetEnforcedPowerLimit=lambda _: 700_000,
        nvmlDeviceGetPowerUsage=lambda _: 50_000,
        nvmlDeviceGetUtilizationRates=lambda _: SimpleNamespace(gpu=10),
        nvmlDeviceGetTotalEnergyConsumption=lambda index: 1000 * joules[index],
        nvmlDeviceGetProcessUtilization=lambda *_: [],
    )
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    monkeypatch.setattr(gpu_nvidia, "pynvml", nvml)
    monkeypatch.setattr(devices, "PYNVML_AVAILABLE", True)
    monkeypatch.setattr(devices, "is_nvidia_system", lambda: True)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2")
    hardware_cache.clear_cache()
    try:
        for gpus, expected in ((["GPU-bb22", "2"], 3.6e6 * 0.05), (["0"], 3.6e6 * 0.01), ([], 3.6e6 * 0.06)):
            path = tmp_path / f"{len(gpus)}.csv"
            with EmissionsMeter(WORLD, path, gpus=gpus):
                time.sleep(MEASURABLE_S)
                for index, each in enumerate((0.01, 0.02, 0.03)):
                    joules[index] += int(3.6e6 * each)
            (row,) = rows_of(path)
            assert float(row["gpu_energy_kwh"]) == pytest.approx(expected / 3.6e6)
            assert "gpu" not in row["unmeasured"]
    finally:
        hardware_cache.clear_cache()


def test_a_gpu_without_an_energy_counter_is_reported_as_estimated() -> None:
    class GPU:
        gpu_ids: list[int]
        devices = SimpleNamespace(
            devices=[
                SimpleNamespace(gpu_index=0, _use_power_fallback=True),
                SimpleNamespace(gpu_index=1, _use_power_fallback=False),
            ]
        )

    gpu = GPU()
    gpu.gpu_ids = [1]
    assert tracker._gpu_remarks([gpu], 0.1, 10, [1]) == []
    gpu.gpu_ids = [0, 1]
    remark = "gpu energy estimated (power read every second, no energy counter)"
    assert tracker._gpu_remarks([gpu], 0.1, 10, [0, 1]) == [remark]


def test_a_full_disk_is_reported_and_does_not_stop_the_attempt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, target: object) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with EmissionsMeter(WORLD, tmp_path / "emissions.csv") as meter:
        time.sleep(MEASURABLE_S)
    assert meter.total().energy_kwh > 0
    assert "emissions.csv could not be written (No space left on device)" in meter.total().unmeasured


def test_a_users_codecarbon_settings_neither_break_nor_upload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import requests

    def refused(*_: object, **__: object) -> None:
        raise AssertionError("nothing may be sent")

    monkeypatch.setattr(requests.Session, "request", refused)
    monkeypatch.chdir(tmp_path)
    settings = {
        "save_to_api": "true",
        "output_methods": "api,csv,prometheus",
        "emissions_endpoint": "http://localhost:1",
        "electricitymaps_api_token": "x",
        "co2_signal_api_token": "x",
        "allow_multiple_runs": "false",
        "tracking_mode": "nonsense",
        "measure_power_secs": "never",
        "output_dir": "/nowhere",
        "force_carbon_intensity_g_co2e_kwh": "1",
        "country_iso_code": "XXX",
        "cloud_provider": "gcp",
        "cloud_region": "nowhere",
        "pue": "much",
        "wue": "much",
        "force_cpu_power": "much",
        "force_ram_power": "much",
        "log_level": "debug",
    }
    Path(".codecarbon.config").write_text("\n".join(["[codecarbon]", *(f"{k}={v}" for k, v in settings.items())]))
    for key, value in settings.items():
        monkeypatch.setenv(f"CODECARBON_{key.upper()}", value)
    with EmissionsMeter(WORLD, tmp_path / "trial" / "emissions.csv") as meter:
        time.sleep(MEASURABLE_S)
    total = meter.total()
    assert total.co2eq_kg == pytest.approx(0.475 * total.energy_kwh)
    assert total.energy_kwh > 0
    assert sorted(found.name for found in tmp_path.rglob("*")) == [".codecarbon.config", "emissions.csv", "trial"]


def test_a_meter_measures_one_attempt_only(tmp_path: Path) -> None:
    meter = EmissionsMeter(WORLD, tmp_path / "emissions.csv")
    with pytest.raises(RuntimeError, match="between start and stop"):
        meter.flush()
    meter.start()
    first = meter.stop()
    assert meter.stop() == first
    with pytest.raises(RuntimeError, match="every attempt needs its own"):
        meter.start()


@pytest.mark.parametrize(
    ("code", "suggested"),
    [
        ("FR", "FRA (France)"),
        ("fra", "FRA (France)"),
        ("FRX", "FRA (France)"),
        ("Germany", "DEU (Germany)"),
        ("US", "USA (United States)"),
    ],
)
def test_an_unknown_country_suggests_similar_ones(code: str, suggested: str) -> None:
    problem = country_problem(code)
    assert problem is not None
    assert repr(code) in problem
    assert suggested in problem


def test_every_country_of_codecarbon_is_accepted() -> None:
    codes = list(data_of_codecarbon("global_energy_mix.json"))
    assert len(codes) > 200
    assert [code for code in codes if country_problem(code)] == []
    assert country_problem("QQQ") is not None


def test_checking_a_country_does_not_import_codecarbon() -> None:
    program = """if True:
        import sys
        from embedsweep.emissions.rows import country_problem
        assert country_problem("FRA") is None
        assert "codecarbon" not in sys.modules
    """
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
