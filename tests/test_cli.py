"""The command line: exit codes, what is printed where, and how little is imported before an error is reported."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import hydra
import pytest
import yaml

from embedsweep.cli import VERBS, main
from embedsweep.errors import Interrupted

ROOT = Path(__file__).parents[1]
LOSSES = sorted(path.stem for path in (ROOT / "conf" / "loss").glob("*.yaml"))
HEAVY = (
    "torch",
    "transformers",
    "sentence_transformers",
    "optuna",
    "mlflow",
    "codecarbon",
    "datasets",
    "sklearn",
    "pandas",
)


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(sys, "argv", ["embedsweep"])
    yield
    files = sorted(path.name for path in tmp_path.iterdir() if path.name != "conf")
    assert files == [], "no command here trains, so none leaves anything behind"


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(words)
    output = capsys.readouterr()
    return code, output.out, output.err


def _own(path: str, text: str) -> None:
    file = Path("conf") / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def test_a_dry_run_previews_the_study_and_leaves_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("loss=mnrl,cosent", "optimizer.lr=tag(log,interval(1e-5,1e-3))", "study.n_trials=7", "loss.scale=30")
    code, out, err = run(capsys, "train", "-m", *words, "study.name=dry", "study.dry_run=true", "trainer.device=cpu")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "study dry: 7 trials (tpe) of dev/spearman_cosine; would be created, in sweeps/dry",
        "  loss: mnrl,cosent",
        "  optimizer.lr: log 1e-05 to 0.001",
        "  the same for all: loss.scale=30 trainer.device=cpu",
        "  pruner: none; duplicates: reuse",
        "example, as a single run: embedsweep train loss.scale=30 trainer.device=cpu loss=mnrl optimizer.lr=1e-05",
        "study.dry_run: nothing was created or trained",
    ]


def test_a_dry_run_shows_conditional_keys_and_enqueued_trials(capsys: pytest.CaptureFixture[str]) -> None:
    objective = "study.objective=[dev/spearman_cosine,emissions/co2eq_kg]"
    words = (
        "loss=mnrl,contrastive",
        "search=full",
        "study.n_trials=9",
        objective,
        "study.enqueue={loss:contrastive,loss.margin:0.5}",
        'search.constraints=["dataloader.batch_size <= 48"]',
    )
    code, out, err = run(capsys, "train", "-m", *words, "study.name=dry", "study.dry_run=true")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "study dry: 9 trials (tpe) of dev/spearman_cosine and emissions/co2eq_kg; would be created, in sweeps/dry",
        "  loss: mnrl,contrastive",
        "  optimizer.warmup: 0 to 0.2",
        "  dataloader.batch_size: 16,32,64",
        "  optimizer.lr: log 0.0001 to 0.01",
        "  loss.scale [loss=mnrl]: log 5 to 100",
        "  dataloader.batch_sampler [loss=mnrl]: batch_sampler,no_duplicates",
        "  loss.margin [loss=contrastive]: 0.1 to 1",
        f"  the same for all: {objective}",
        "  pruner: none; duplicates: reuse",
        "  constraint: dataloader.batch_size <= 48",
        "  tried first: loss=contrastive loss.margin=0.5",
        f"example, as a single run: embedsweep train '{objective}' loss=mnrl optimizer.warmup=0.0 "
        "dataloader.batch_size=16 optimizer.lr=0.0001 loss.scale=5.0 dataloader.batch_sampler=batch_sampler",
        "study.dry_run: nothing was created or trained",
    ]


def test_a_dry_run_of_an_unknown_study_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "train", "-m", "study.name=nobodys", "study.dry_run=true")
    assert code == 2
    assert "no study nobodys" in err


@pytest.mark.parametrize("dry_run", ["true", "quote"])
def test_a_dry_run_refuses_what_the_study_would_refuse(capsys: pytest.CaptureFixture[str], dry_run: str) -> None:
    words = ("loss=mnrl,cosent", "study.warm_start=nosuch", f"study.dry_run={dry_run}")
    code, _, err = run(capsys, "train", "-m", *words)
    assert code == 2
    assert "study.warm_start: no study nosuch; there are: none in" in err


@pytest.mark.parametrize("words", [("--help",), ("-h",)])
def test_help_of_the_program_names_its_verbs(capsys: pytest.CaptureFixture[str], words: tuple[str, ...]) -> None:
    code, out, err = run(capsys, *words)
    assert (code, err) == (0, "")
    verbs = ("train [", "train -m", "train --help", *VERBS)
    assert len(verbs) == 3 + 14
    assert [verb for verb in verbs if f"embedsweep {verb}" not in out] == []
    assert max(map(len, out.splitlines())) <= 120


@pytest.mark.parametrize("words", [(), ("trian",), ("loss=mnrl",)])
def test_an_unknown_verb_is_answered_with_the_usage_on_stderr(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    code, out, err = run(capsys, *words)
    assert (code, out) == (2, "")
    assert "embedsweep train [key=value ...]" in err
    assert ("did you mean train?" in err) == (words == ("trian",))


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_has_help_of_its_own(capsys: pytest.CaptureFixture[str], verb: str) -> None:
    code, out, err = run(capsys, verb, "--help")
    assert (code, err) == (0, "")
    assert f"embedsweep {verb}" in out
    assert "train.py" not in out


def test_the_version_is_this_programs_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "train", "--version") == (0, "embedsweep 0.1.0\n", "")
    assert run(capsys, "train", "loss=mnrl", "--version") == (0, "embedsweep 0.1.0\n", "")
    assert run(capsys, "--version") == (0, "embedsweep 0.1.0\n", "")


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_of_ui_shows_its_options_and_the_port_of_the_users_own_file(
    capsys: pytest.CaptureFixture[str], flag: str
) -> None:
    code, out, err = run(capsys, "ui", flag)
    assert (code, err) == (0, "")
    words = ("embedsweep ui", "--port N", "(default: 5000)", "--tracking-uri URI")
    assert [word for word in words if word not in out] == []
    _own("commands.yaml", "ui: {port: 6006}\n")
    assert "(default: 6006)" in run(capsys, "ui", flag)[1]


@pytest.mark.parametrize(
    ("verb", "message"),
    [("encode", "interrupted; nothing was written\n"), ("publish", "interrupted\n"), ("train", None)],
)
def test_an_interrupt_is_reported(
    capsys: pytest.CaptureFixture[str], verb: str, message: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> int:
        raise Interrupted(signal.SIGINT)

    verbs = {name: replace(verb, run=interrupted) for name, verb in VERBS.items()}
    monkeypatch.setattr("embedsweep.cli.VERBS", verbs)
    assert run(capsys, verb) == (130, "", f"embedsweep: {message}" if message else "")


def test_problems_are_listed_on_stderr_and_end_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "train", "-m", "loss=mnrl,bogus", "trainer.epochs=0")
    assert (code, out) == (2, "")
    assert err.splitlines() == [
        "embedsweep: 2 problems; nothing was trained",
        f"  loss: no option bogus; there are: {', '.join(LOSSES)}",
        "  trainer.epochs: must be a number above 0, but got 0",
    ]


@pytest.mark.parametrize("words", [("train", "loss=bogus"), ("train", "-m"), ("ui", "port=x")])
def test_one_problem_is_reported_in_the_singular(capsys: pytest.CaptureFixture[str], words: tuple[str, ...]) -> None:
    code, out, err = run(capsys, *words)
    assert (code, out) == (2, "")
    deed = "trained" if words[0] == "train" else "done"
    assert err.startswith(f"embedsweep: 1 problem; nothing was {deed}\n  ")
    assert "Traceback" not in err
    assert len(err.splitlines()) == 2


@pytest.mark.parametrize(
    ("flag", "nearest"),
    [
        ("--multirunn", " (did you mean --multirun?)"),
        ("--hepl", " (did you mean --help?)"),
        ("-x", " (did you mean -m?)"),
    ],
)
def test_an_unknown_flag_is_refused(capsys: pytest.CaptureFixture[str], flag: str, nearest: str) -> None:
    code, _, err = run(capsys, "train", flag)
    assert code == 2
    assert f"  {flag}: no such flag{nearest}; there are: -m, --multirun, " in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--quiet", "--json-lines"), "--quiet --json-lines: one excludes the other: give one"),
        (("-m", "--json-lines", "loss=mnrl,cosent", "study.dry_run=true"), "--json-lines: study.dry_run has no events"),
        (("--json-line",), "--json-line: no such flag (did you mean --json-lines?)"),
    ],
)
def test_how_trials_are_shown_is_one_of_three_ways(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], message: str
) -> None:
    code, out, err = run(capsys, "train", *words)
    assert (code, out) == (2, "")
    assert message in err


@pytest.mark.parametrize(
    ("word", "pointer"),
    [("hydra/launcher=joblib", "this command again beside it"), ("hydra/sweeper=optuna", "study.sampler=tpe")],
)
@pytest.mark.parametrize("multirun", [(), ("-m",)])
def test_hydras_launchers_and_sweepers_are_refused_with_a_pointer(
    capsys: pytest.CaptureFixture[str], word: str, pointer: str, multirun: tuple[str, ...]
) -> None:
    code, _, err = run(capsys, "train", *multirun, word)
    assert code == 2
    assert err.splitlines()[1].startswith(f"  {word.partition('=')[0]}: ")
    assert err.splitlines()[1].endswith(pointer)


def test_secrets_in_a_problem_are_redacted(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "train", "tracking.uri=ftp://user:hunter2222@host")
    assert code == 2
    assert "ftp://user:***@host" in err
    assert "hunter2222" not in err


# What Hydra answers


def test_cfg_shows_the_composed_configuration_as_yaml(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "train", "--cfg", "job", "loss=mnrl", "trainer.seed=7")
    assert (code, err) == (0, "")
    tree = yaml.safe_load(out)
    groups = "data dataloader emissions evaluation loss model optimizer recipe search study tracking trainer workers"
    assert sorted(key for key, value in tree.items() if isinstance(value, dict)) == groups.split()
    assert (tree["loss"]["name"], tree["loss"]["scale"], tree["trainer"]["seed"]) == ("mnrl", 20.0, 7)


def test_cfg_shows_a_mapping_that_the_command_sets(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "train", "--cfg", "job", "model.prompts={query: 'query: '}")
    assert (code, err) == (0, "")
    assert yaml.safe_load(out)["model"]["prompts"] == {"query": "query: "}
    assert run(capsys, "train", "--cfg", "job", "model.prompt={query: 'query: '}")[0] == 2


def test_cfg_shows_a_part_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "train", "--cfg", "job", "-p", "loss", "-m")
    assert code == 0
    space = {"loss.scale": "tag(log, interval(5, 100))"}
    assert yaml.safe_load(out) == {"name": "cosent", "scale": 20.0, "space": space}


def test_cfg_of_several_values_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "train", "-m", "--cfg", "job", "loss=mnrl,cosent")
    assert code == 2
    assert err.splitlines()[1] == "  loss: --cfg shows one configuration: give one value"


def test_cfg_of_an_unknown_option_ends_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "train", "--cfg", "job", "loss=bogus")
    assert code == 2
    assert "bogus" in err
    assert "Traceback" not in err


@pytest.mark.parametrize("key", ["tracking.uri", "study.storage"])
def test_cfg_redacts_secrets(capsys: pytest.CaptureFixture[str], key: str) -> None:
    code, out, _ = run(capsys, "train", "--cfg", "job", f"{key}=http://user:hunter2222@host")
    assert code == 0
    assert "http://user:***@host" in out
    assert "hunter2222" not in out


@pytest.mark.parametrize(
    ("program", "command"), [("train.py", "python train.py"), ("/usr/bin/embedsweep", "embedsweep train")]
)
def test_help_names_the_command_that_was_run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, program: str, command: str
) -> None:
    monkeypatch.setattr(sys, "argv", [program])
    out = run(capsys, "train", "--help")[1]
    assert f"\n  {command} -m study.name=NAME " in out
    assert f'eval "$({command} -sc install=bash)"' in out


def test_help_is_complete_and_readable(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "train", "--help")
    assert (code, err) == (0, "")
    options = {path.parent.name: [] for path in (ROOT / "conf").glob("*/*.yaml")}  # type: dict[str, list[str]]
    for path in sorted((ROOT / "conf").glob("*/*.yaml")):
        options[path.parent.name].append(path.stem)
    lines = out.splitlines()
    missing = [group for group, names in options.items() if f"{group}: {', '.join(names)}" not in lines]
    assert missing == ["base"], "whose files only other options take"
    assert len(options) == 15
    words = (
        "-m",
        "study.name=NAME",
        "choice(",
        "range(",
        "interval(",
        "tag(log,",
        "--cfg job",
        "install=bash",
        "mnrl,cosent",
    )
    assert [word for word in words if word not in out] == []
    assert "== " not in out, "Hydra's own headings"
    lists = [f"{group}: {', '.join(names)}" for group, names in options.items()]  # Hydra breaks no line of these
    assert max(len(line) for line in lines if line not in lists) <= 120
    # The end is the whole configuration, as YAML.
    assert yaml.safe_load(out.partition("\n---\n")[2])["optimizer"]["lr"] == "${model.lr}"


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("train.py lo", ["loss.", "loss="]),
        ("train.py loss=", [f"loss={name}" for name in LOSSES]),
        ("train.py model=ti", ["model=tiny"]),
        ("train.py loss=mnrl loss.", ["loss.scale="]),
        ("train.py trainer.early_stopping.", ["trainer.early_stopping.min_delta=", "trainer.early_stopping.patience="]),
    ],
)
def test_tab_completion_offers_groups_options_and_keys(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, line: str, offered: list[str]
) -> None:
    monkeypatch.setenv("COMP_LINE", line)
    monkeypatch.setenv("COMP_POINT", str(len(line)))
    code, out, _ = run(capsys, "train", "-sc", "query=bash")
    assert code == 0
    assert sorted(out.split()) == offered


def test_completion_can_be_installed(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "train", "-sc", "install=bash")
    assert code == 0
    assert "COMP_LINE" in out


# The user's own conf/


def test_cfg_sees_the_users_own_options(capsys: pytest.CaptureFixture[str]) -> None:
    _own("loss/mnrl_sharp.yaml", "name: mnrl\nscale: 50.0\n")
    assert yaml.safe_load(run(capsys, "train", "--cfg", "job", "loss=mnrl_sharp")[1])["loss"]["scale"] == 50.0
    assert yaml.safe_load(run(capsys, "train", "--cfg", "job", "loss=mnrl")[1])["loss"]["scale"] == 20.0


def test_the_users_own_option_comes_before_the_shipped_one(capsys: pytest.CaptureFixture[str]) -> None:
    _own("loss/mnrl.yaml", "name: mnrl\nscale: 50.0\n")
    assert yaml.safe_load(run(capsys, "train", "--cfg", "job", "loss=mnrl")[1])["loss"]["scale"] == 50.0


@pytest.mark.parametrize(
    "words", [("loss=mnrl", "--help"), ("--help", "optimizer.lr=1", "loss=mnrl"), ("-m", "loss=mnrl", "-h")]
)
def test_help_beside_overrides_shows_the_configuration_with_them(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    code, out, err = run(capsys, "train", *words)
    assert (code, err) == (0, "")
    assert yaml.safe_load(out.partition("\n---\n")[2])["loss"]["name"] == "mnrl"


def test_help_lists_the_users_own_options(capsys: pytest.CaptureFixture[str]) -> None:
    _own("data/mine.yaml", "name: mine\n")
    data = sorted([*(path.stem for path in (ROOT / "conf" / "data").glob("*.yaml")), "mine"])
    assert f"data: {', '.join(data)}" in run(capsys, "train", "--help")[1].splitlines()


# In a process of its own


CHILD = """
import sys
from embedsweep.cli import main
code = main(sys.argv[2:])
print(",".join(name for name in sys.argv[1].split(",") if name in sys.modules), file=sys.stdout)
sys.exit(code)
"""

COMMANDS = [
    ("train", "los=mnrl", "trainer.epochs=0", "model.max_seq_length=999", "data.score_range=[0,3]"),
    ("train", "-m", "loss=mnrl,cosent", "search=lr_warmup_batch", "model=minilm", "trainer.precision=fp16"),
]


@pytest.mark.parametrize("command", COMMANDS, ids=["single", "study"])
def test_a_configuration_error_loads_nothing_heavy(tmp_path: Path, command: tuple[str, ...]) -> None:
    environment = {**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path / "hf")}
    environment.pop("HF_HUB_OFFLINE", None)
    child = subprocess.run(
        [sys.executable, "-c", CHILD, ",".join(HEAVY), *command],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert child.returncode == 2, child.stderr
    assert "Traceback" not in child.stderr
    assert child.stdout == "\n", "heavy modules that were loaded"


def test_the_script_and_the_module_are_the_same_program(tmp_path: Path) -> None:
    for command in ([str(ROOT / "train.py")], ["-m", "embedsweep", "train"]):
        child = subprocess.run(
            [sys.executable, *command, "loss=bogus"], capture_output=True, text=True, timeout=60, check=False
        )
        assert (child.returncode, child.stdout) == (2, "")
        assert child.stderr.splitlines()[1] == f"  loss: no option bogus; there are: {', '.join(LOSSES)}"


def test_the_installed_command_completes_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COMP_LINE", "embedsweep train loss=")
    monkeypatch.setattr(sys, "argv", ["embedsweep"])
    assert main(["-sc", "query=bash"]) == 0
    assert capsys.readouterr().out.split() == [f"loss={name}" for name in LOSSES]


@pytest.mark.parametrize(
    "words",
    [
        ("train", "optimizer.lr=-1"),
        ("train", "-m", "loss=mnrl,cosent", "study.dry_run=true"),
        ("train", "--cfg", "job"),
    ],
)
def test_a_program_with_a_hydra_of_its_own_calls_it_in_a_thread(words: tuple[str, ...]) -> None:
    codes: list[int] = []
    with hydra.initialize(version_base="1.3", config_path=None):
        thread = threading.Thread(target=lambda: codes.append(main(words)))
        thread.start()
        thread.join()
        assert hydra.compose(overrides=["+a=1"]) == {"a": 1}
    assert codes == [2 if "optimizer.lr=-1" in words else 0]


def test_another_hydra_projects_conf_is_named_and_its_primary_configuration_is_not_used(
    capsys: pytest.CaptureFixture[str],
) -> None:
    _own("train.yaml", "defaults: [model: resnet]\n")
    _own("loss/mnrl.yaml", "name: mnrl\nscale: 31.0\n")
    code, out, err = run(capsys, "train", "--cfg", "job", "-p", "loss", "loss=mnrl")
    assert (code, out) == (0, "# @package loss\nname: mnrl\nscale: 31.0\n")
    assert err.splitlines() == [
        "embedsweep: conf/train.yaml of this folder is not used: choose options in the command",
        "embedsweep: files of this folder are used instead of the shipped ones: conf/loss/mnrl.yaml",
    ]
