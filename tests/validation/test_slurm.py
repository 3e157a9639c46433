from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from embedsweep.validation.slurm import fill_script, seconds_of
from tests.validation.commands import errors, passed

WORDS = ("-m", "loss=mnrl,cosent", "workers=slurm")
LATE = "a job is warned two to three minutes before its limit, and would have no time to train"


@pytest.fixture(autouse=True)
def _in_a_folder_with_sbatch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("sbatch", "scontrol"):
        (programs / name).write_text("#!/bin/sh\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=":")


@pytest.mark.parametrize(
    ("limit", "seconds"),
    [
        ("90", 5400),
        ("90:30", 5430),
        ("4:00:00", 14400),
        ("04:00:30", 14430),
        ("2-12", 216_000),
        ("2-12:30", 217_800),
        ("2-12:30:15", 217_815),
        ("infinite", None),
        ("UNLIMITED", None),
        ("0", None),
    ],
)
def test_time_limits_are_read_in_all_forms_of_slurm(limit: str, seconds: int | None) -> None:
    assert seconds_of(limit) == seconds


@pytest.mark.parametrize("limit", ["", "soon", "4h", "1:2:3:4", "1-", "-5", "1-2:3:4:5", "1.5"])
def test_what_is_no_time_limit_of_slurm_is_not_read(limit: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(limit)}$"):
        seconds_of(limit)


def test_a_command_for_slurm_passes() -> None:
    asked = ("workers.slurm.time=0-04:00", "workers.slurm.gpus_per_node=4", "workers.processes_per_trial=2")
    workers = passed(*WORDS[1:], *asked, "workers.slurm.setup=[module load cuda,source env.sh]").workers
    assert (workers.name, workers.count) == ("slurm", 1)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            ("workers.slurm.mem=lots", "workers.count=0"),
            [
                "workers.count: must be a whole number of at least 1, or null, but got 0",
                "workers.slurm.mem: must be memory as Slurm writes it (16G, 500M; K, M, G or T), but got 'lots'",
            ],
        ),
        (
            ("workers.slurm.time='4:59'",),
            [f"workers.slurm.time: must be at least five minutes, but 4:59 is 299 s: {LATE}"],
        ),
        (
            ("workers.slurm.time=4h",),
            [
                "workers.slurm.time: must be a time limit as Slurm writes it (minutes, MM:SS, HH:MM:SS, D-HH, D-HH:MM "
                "or D-HH:MM:SS), but got '4h'"
            ],
        ),
        (
            ("workers.slurm.time=14400",),  # what YAML makes of 4:00:00
            ["workers.slurm.time: must be a text as 4:00:00 or 00:30:00, in quotes in a file, or null, but got 14400"],
        ),
        (
            ("workers.slurm.gpus_per_node=2", "workers.processes_per_trial=4"),
            [
                "workers.processes_per_trial: 4 processes train each trial on one node, which "
                "workers.slurm.gpus_per_node=2 gives too little: raise that to 4. A trial over several nodes is not "
                "supported: small models gain nothing by it"
            ],
        ),
        (
            ("workers.count=null", "study.dry_run=quote"),
            [
                "workers.count: must be the number of jobs of the array, but got null",
                "study.dry_run: quote measures on this machine, and trials would run on another: use workers=local in "
                "a job (srun)",
            ],
        ),
        (
            (
                "study.storage='postgresql://me:pa55word@db/studies'",
                "tracking.uri='https://me:pa55word@mlflow'",
                "workers.slurm.setup=['export API_TOKEN=abcdef123456']",
            ),
            [
                "study.storage: has a password, which would stand in the jobs' script: leave it out, and set "
                "PGPASSFILE or ~/.pgpass",
                "tracking.uri: has a password, which would stand in the jobs' script: leave it out, and set "
                "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
                "workers.slurm.setup: has a secret, which would stand in the jobs' script: export API_TOKEN=***; "
                "export it before",
            ],
        ),
    ],
)
def test_what_slurm_cannot_run_well_is_refused_all_at_once(words: tuple[str, ...], expected: list[str]) -> None:
    assert errors(*WORDS, *words) == expected


def test_a_machine_without_slurm_is_named_but_may_show_the_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    assert errors(*WORDS, "workers.slurm.time=0:3:0") == [
        "workers: slurm submits jobs with sbatch, which is not on PATH: start it on a login node, or use workers=local",
        f"workers.slurm.time: must be at least five minutes, but 0:3:0 is 180 s: {LATE}",
    ]
    assert passed(*WORDS[1:], "study.dry_run=true").workers.name == "slurm"


ACCOUNT = "allocation failure: Invalid account or account/partition combination specified"
QOS = "allocation failure: Invalid qos specification"
BUSY = "allocation failure: Required partition not available (inactive or drain)"
NAMED = ("workers.slurm.account=temas", "workers.slurm.qos=log", "workers.slurm.partition=low")


@pytest.mark.parametrize(
    ("of_account", "of_qos", "lists", "expected"),
    [
        (
            ACCOUNT,
            QOS,
            "echo teams; echo other; echo teams",
            [
                "workers.slurm.account: Slurm refuses temas (did you mean teams?): invalid account or "
                "account/partition combination specified; there are: other, teams",
                "workers.slurm.qos: Slurm refuses log: invalid qos specification; there are: other, teams",
            ],
        ),
        (
            BUSY,
            QOS,
            "echo You are not running a supported accounting_storage plugin >&2; exit 1",
            [],  # what a job would have to wait for is no mistake, and hides the rest
        ),
        (
            "",
            QOS,
            "echo You are not running a supported accounting_storage plugin >&2; exit 1",
            ["workers.slurm.qos: Slurm refuses log: invalid qos specification"],
        ),
        ("", BUSY, "exit 1", []),
    ],
)
def test_names_that_slurm_lacks_are_told_from_a_queue_that_is_busy(
    of_account: str, of_qos: str, lists: str, expected: list[str], tmp_path: Path
) -> None:
    sbatch = f"""#!/bin/sh
case "$*" in *--account=*) if [ -n '{of_account}' ]; then echo '{of_account}' >&2; exit 1; fi;; esac
case "$*" in *--qos=*) echo '{of_qos}' >&2; exit 1;; esac
echo '{BUSY}' >&2
exit 1
"""
    for name, text in (("sbatch", sbatch), ("sacctmgr", f"#!/bin/sh\n{lists}\n")):
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    if expected:
        assert errors(*WORDS, *NAMED) == expected
    else:
        assert passed(*WORDS[1:], *NAMED).workers.name == "slurm"


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("echo 'Slurmctld(primary) at node1 is DOWN'; exit 1", "Slurmctld(primary) at node1 is DOWN"),
        ("echo 'scontrol: fatal: no configuration source' >&2; exit 1", "scontrol: fatal: no configuration source"),
        ("exit 1", "scontrol ping fails"),
    ],
)
def test_a_machine_on_which_slurm_does_not_answer_is_refused_but_for_a_dry_run(
    said: str, why: str, tmp_path: Path
) -> None:
    (tmp_path / "bin" / "scontrol").write_text(f"#!/bin/sh\n{said}\n")
    assert errors(*WORDS) == [f"workers: Slurm does not answer on this machine ({why}): start it where squeue does"]
    assert passed(*WORDS[1:], "study.dry_run=true").workers.name == "slurm"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "#!/bin/bash\n#SBATCH --nodes=2\n#SBATCH -n 4\nexec {{command}}\n",
            [
                f"mine.sh, line {line}: {key} {count} asks for several nodes or tasks, and each job is one command on "
                "one node: a trial over several nodes is not supported. More jobs: workers.count"
                for line, key, count in ((2, "--nodes", 2), (3, "-n", 4))
            ],
        ),
        (
            "#!/bin/bash\n#SBATCH\n#SBATCH --comment='\n#SBATCH -t 2\n#SBATCH --array=0-7\nexec {{command}}\n",
            [
                "mine.sh, line 3: cannot be read: No closing quotation",
                f"mine.sh, line 4: must be at least five minutes, but 2 is 120 s: {LATE}",
                "mine.sh, line 5: --array is decided by workers.count and workers.slurm.array_parallelism: leave it "
                "out",
            ],
        ),
        (
            "sleep 1\n{{comand}}\n",
            [
                "workers.slurm.script: mine.sh must begin with #! and a shell, as #!/bin/bash",
                "workers.slurm.script: mine.sh has {{comand}}, which stands for nothing; there are: {{command}}, "
                "{{setup}}, {{study}}",
                "workers.slurm.script: mine.sh must have {{command}} where the worker runs: exec {{command}}, which "
                "gets SIGTERM",
            ],
        ),
        (None, ["workers.slurm.script: mine.sh cannot be read: No such file or directory"]),
    ],
)
def test_a_script_of_the_users_that_cannot_serve_is_refused(text: str | None, expected: list[str]) -> None:
    if text is not None:
        Path("mine.sh").write_text(text)
    assert errors(*WORDS, "workers.slurm.script=mine.sh") == expected


def test_a_script_keeps_the_shells_own_braces() -> None:
    text = "#!/bin/bash\n#SBATCH --nodes=1 --comment=mine\n{{ setup }}\necho ${HOME} {a,b}\nexec {{command}}\n"
    Path("mine.sh").write_text(text)
    assert passed(*WORDS[1:], "workers.slurm.script=mine.sh")
    filled = fill_script(text, command="worker 'a b'", setup="module load cuda", study="night")
    assert filled.splitlines()[2:] == ["module load cuda", "echo ${HOME} {a,b}", "exec worker 'a b'"]
