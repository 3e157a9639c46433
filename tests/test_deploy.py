"""The manifests for Kubernetes are valid and fit each other and the command; the image is built from what is there."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import kubernetes_validate
import pytest
import yaml

from embedsweep.errors import ConfigError, Interrupted
from embedsweep.validation.sweep import pass_sweep

ROOT = Path(__file__).parents[1]
MANIFESTS = sorted((ROOT / "deploy" / "kubernetes").glob("*.yaml"))
VERSIONS = ("1.33", kubernetes_validate.latest_version())
"""The first in which each field that is used is stable, and the newest that is known here."""


def resources(kind: str = "") -> list[dict[str, Any]]:
    """Return the resources of all manifests, or those of one kind."""
    found = [tree for path in MANIFESTS for tree in yaml.safe_load_all(path.read_text("utf-8"))]
    return [tree for tree in found if kind in ("", tree["kind"])]


def pods() -> list[dict[str, Any]]:
    """Return the pods' specifications."""
    return [template["spec"] for template in templates()]


def templates() -> list[dict[str, Any]]:
    """Return the templates of all pods."""
    return [tree["spec"]["template"] for tree in resources() if "template" in tree.get("spec", {})]


def walk(tree: Any) -> Iterator[Mapping[str, Any]]:
    """Yield each mapping of a tree."""
    if isinstance(tree, Mapping):
        yield tree
    for inner in tree.values() if isinstance(tree, Mapping) else tree if isinstance(tree, list) else ():
        yield from walk(inner)


JOBS = {path.stem: yaml.safe_load(path.read_text("utf-8")) for path in MANIFESTS if "job" in path.stem}
WORDS = next(iter(JOBS.values()))["spec"]["template"]["spec"]["containers"][0]["args"]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_a_manifest_is_valid(path: Path, version: str) -> None:
    for tree in yaml.safe_load_all(path.read_text("utf-8")):
        kubernetes_validate.validate(tree, version, strict=True)


def test_a_key_that_kubernetes_does_not_know_is_found() -> None:
    job = next(yaml.safe_load_all((ROOT / "deploy" / "kubernetes" / "job.yaml").read_text("utf-8")))
    job["spec"]["template"]["spec"]["terminationGracePeriod"] = 120
    with pytest.raises(kubernetes_validate.ValidationError, match="terminationGracePeriod"):
        kubernetes_validate.validate(job, VERSIONS[0], strict=True)


def test_all_jobs_run_one_command_which_passes_validation() -> None:
    assert set(JOBS) == {"job", "indexed-job", "indexed-job-gpu"}
    for job in JOBS.values():
        assert job["spec"]["template"]["spec"]["containers"][0]["args"] == WORDS
    assert WORDS[:2] == ["train", "-m"]
    sweep = pass_sweep(WORDS[2:])
    assert (sweep.study.name, sweep.n_trials) == ("night", 40)


def test_a_pod_with_a_wrong_configuration_does_not_come_again_nor_a_stopped_one_and_an_interrupted_one_does() -> None:
    interrupted, stopped = Interrupted(15).exit_code, Interrupted(2).exit_code  # stopped by embedsweep stop
    for name, job in JOBS.items():
        spec = job["spec"]
        pod = spec["template"]["spec"]
        (container,) = pod["containers"]
        rules = spec["podFailurePolicy"]["rules"]
        of_codes = [rule for rule in rules if "onExitCodes" in rule]
        codes = {code: rule["action"] for rule in of_codes for code in rule["onExitCodes"]["values"]}
        failed_trials = "FailJob" if name == "job" else "FailIndex"
        assert codes == {
            ConfigError.exit_code: "FailJob",
            3: failed_trials,
            stopped: failed_trials,
            interrupted: "Ignore",
        }
        assert {rule["onExitCodes"]["containerName"] for rule in of_codes} == {container["name"]}
        # The API refuses a policy with another restartPolicy, and FailIndex without a limit of each index.
        assert pod["restartPolicy"] == "Never"
        assert ("backoffLimitPerIndex" in spec) == (spec.get("completionMode") == "Indexed") == (name != "job")
        # Each index has to end well: the study is over when no worker has a trial.
        assert spec.get("completions", 1) == spec.get("parallelism", 1)
        assert pod["terminationGracePeriodSeconds"] >= 90  # 40 s for MLflow, and a checkpoint


def test_names_lead_to_what_is_there() -> None:
    claims = {tree["metadata"]["name"] for tree in resources("PersistentVolumeClaim")}
    services = {tree["metadata"]["name"]: tree["spec"]["ports"][0]["port"] for tree in resources("Service")}
    for pod in pods():
        volumes = {volume["name"] for volume in pod["volumes"]} | {"data"}  # the StatefulSet's own
        assert {mount["name"] for each in pod["containers"] for mount in each["volumeMounts"]} <= volumes
        named = [volume.get("persistentVolumeClaim", {}).get("claimName") for volume in pod["volumes"]]
        assert {name for name in named if name} <= claims
    urls = [
        urlsplit(word.partition("=")[2])
        for pod in pods()
        for each in pod["containers"]
        for word in each.get("args", [])
        if "://" in word
    ]
    assert len(urls) == 2 * len(JOBS) + 1
    standard = {"postgresql": 5432, "http": None}
    for url in urls:
        assert services[str(url.hostname)] == (url.port or standard[url.scheme])
        assert url.password is None
    (mlflow,) = (pod for pod in pods() if pod["containers"][0]["name"] == "mlflow")
    (hosts,) = (word for word in mlflow["containers"][0]["args"] if word.startswith("--allowed-hosts="))
    (server,) = (word.partition("=")[2] for word in WORDS if word.startswith("tracking.uri="))
    assert urlsplit(server).netloc in hosts.partition("=")[2].split(",")


def test_services_select_pods_that_the_policy_lets_them_reach() -> None:
    labels = [template["metadata"]["labels"] for template in templates()]
    for service in resources("Service"):
        selected = [each for each in labels if service["spec"]["selector"].items() <= each.items()]
        assert len(selected) == 1
    (policy,) = resources("NetworkPolicy")
    (allowed,) = policy["spec"]["ingress"][0]["from"]
    for selector in (policy["spec"]["podSelector"], allowed["podSelector"]):
        assert all(selector["matchLabels"].items() <= each.items() for each in labels)


def test_passwords_come_from_a_secret_and_pods_run_as_an_unprivileged_user() -> None:
    variables = [variable for tree in resources() for each in walk(tree) for variable in each.get("env") or []]
    secret = [variable for variable in variables if re.search("PASSWORD|KEY|TOKEN", variable["name"])]
    assert len(secret) == len(pods())
    assert {tuple(variable["valueFrom"]["secretKeyRef"].values()) for variable in secret} == {
        ("embedsweep-database", "password")
    }
    for pod in pods():
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        # The variables of a service named mlflow would set the server's port.
        assert (pod["enableServiceLinks"], pod["automountServiceAccountToken"]) == (False, False)
        for container in pod["containers"]:
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["resources"]["limits"]["memory"]


def dockerfile() -> list[list[str]]:
    """Return the instructions of the Dockerfile, as words."""
    text = re.sub(r"(?m)^#.*\n", "", (ROOT / "Dockerfile").read_text("utf-8")).replace("\\\n", " ")
    return [shlex.split(line) for line in text.splitlines() if line]


def test_the_image_is_built_from_files_that_are_there_and_not_ignored() -> None:
    sources = [word for words in dockerfile() if words[0] == "COPY" for word in words[1:-1]]
    sources += [
        match[1]
        for words in dockerfile()
        for word in words
        if (match := re.match(r"--mount=type=bind,source=([^,]+)", word))
    ]
    assert sorted(sources) == [
        "LICENSE",
        "README.md",
        "conf",
        "constraints.txt",
        "hatch_build.py",
        "pyproject.toml",
        "src",
    ]
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line.startswith("!")}
    assert kept == {*sources}
    assert [name for name in sources if not (ROOT / name).exists()] == []


def test_the_image_runs_the_command_as_the_user_of_the_pods_and_has_the_extras_that_exist() -> None:
    last = {words[0]: words[1:] for words in dockerfile()}
    assert last["ENTRYPOINT"] == ["[embedsweep]"]
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    (extras,) = (words[1].partition("=")[2].split(",") for words in dockerfile() if words[1].startswith("EXTRAS="))
    assert [extra for extra in extras if not re.search(rf"^{extra} = \[", project, re.MULTILINE)] == []
    for pod in pods():
        if (image := pod["containers"][0]["image"]).startswith("embedsweep:"):
            user = pod["securityContext"]
            assert last["USER"] == [f"{user['runAsUser']}:{user['runAsGroup']}"], image
            assert image.partition(":")[2] in ("cpu", "cuda")


@pytest.mark.parametrize("line", ["FROM python", "RUN sudo pip install torch"])
def test_the_image_is_linted(line: str, tmp_path: Path) -> None:
    hadolint = [str(Path(sys.executable).with_name("hadolint"))]
    assert subprocess.run([*hadolint, ROOT / "Dockerfile"], check=False).returncode == 0
    (tmp_path / "Dockerfile").write_text(f"{(ROOT / 'Dockerfile').read_text('utf-8')}{line}\n", encoding="utf-8")
    found = subprocess.run([*hadolint, tmp_path / "Dockerfile"], capture_output=True, check=False)
    assert found.returncode == 1, found.stdout
