"""The image, as far as its recipe tells: nothing to install with in it, and nobody's root (acceptance E3, G1)."""

import json
import re
import subprocess
import sysconfig
from pathlib import Path

from packaging.requirements import Requirement

from tests.test_dependencies import required

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "Dockerfile").read_text()
HADOLINT = Path(sysconfig.get_path("scripts")) / "hadolint"


def _instructions(stage):
    """(word, rest) of each instruction of a stage, continuation lines joined and comments left out."""
    lines = [line for line in stage.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [(word, rest) for line in joined.splitlines() if line.strip() for word, _, rest in [line.partition(" ")]]


STAGES = [_instructions("FROM " + stage) for stage in re.split(r"^FROM ", TEXT, flags=re.MULTILINE)[1:]]
FINAL = STAGES[-1]


def _of(word, stage=FINAL):
    return [rest for each, rest in stage if each == word]


def _lint(text):
    done = subprocess.run([HADOLINT, "--format", "json", "-"], input=text, capture_output=True, text=True)
    return [finding["code"] for finding in json.loads(done.stdout)]


def test_hadolint_finds_nothing():
    assert _lint("FROM debian\nRUN cd /tmp\n") != []
    assert _lint(TEXT) == []


def test_every_stage_is_the_same_python():
    assert {stage[0][1].split(" AS ")[0] for stage in STAGES} == {"python:3.13-slim"}


def test_runs_as_a_numeric_user_that_is_not_root():
    (user,) = _of("USER")
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)
    assert [word for word, _ in FINAL].index("USER") > max(i for i, (word, _) in enumerate(FINAL) if word == "RUN")


def test_G1_the_final_stage_loses_pip_and_installs_nothing():
    (run,) = _of("RUN")
    assert "pip uninstall" in run
    removed = re.findall(r"rm -rf ([^&]*)", run)[0].split()
    assert {path.rsplit("/", 1)[-1] for path in removed} == {"pip*", "ensurepip", "*"}
    assert not re.search(r"\b(pip|apt-get|apt|apk) install\b", run)
    (copied,) = _of("COPY")
    assert copied == "--from=builder /opt/sidecar /opt/sidecar"
    assert "python -m venv --without-pip /opt/sidecar" in _of("RUN", STAGES[0])


def test_G1_dependencies_are_installed_by_hash_and_from_wheels():
    installs = re.findall(r"pip [^&]*?\binstall\b[^&]*", " && ".join(_of("RUN", STAGES[0])))
    assert len(installs) == 3
    for install in installs:
        assert "--require-hashes" in install or "--no-deps --no-index" in install
    assert "--only-binary :all:" in installs[0]


def test_what_is_shipped_is_compiled_by_what_the_lock_file_names():
    runs = " && ".join(_of("RUN", STAGES[0]))
    assert "SIDECAR_COMPILE=1 pip wheel" in runs
    (names,) = re.findall(r"keep = /\^\((.*?)\)==/", runs)
    assert set(names.split("|")) == {"setuptools"} | required([Requirement("mypy")])
    assert not any("gcc" in rest for _, rest in FINAL)


def test_E3_byte_code_is_compiled_ahead():
    for stage in STAGES:
        assert any("compileall" in run for run in _of("RUN", stage))


def test_starts_the_server_and_asks_it_for_its_health():
    assert _of("ENTRYPOINT") == ['["sidecar"]']
    assert _of("CMD") == ['["serve"]']
    assert _of("EXPOSE") == ["8787 8788"]
    (health,) = _of("HEALTHCHECK")
    command = json.loads(health.partition("CMD ")[2])
    assert command[:2] == ["python", "-c"]
    compile(command[2], "HEALTHCHECK", "exec")
    assert "'127.0.0.1', 8788" in command[2]
    assert "/healthz" in command[2]


def test_secrets_lying_about_stay_outside():
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert rules[0] == "*"
    wanted = {rule[1:].split("/")[0] for rule in rules if rule.startswith("!")}
    copied = {name for rest in _of("COPY", STAGES[0]) for name in rest.split()[:-1]}
    assert copied == wanted


def test_both_roles_start_from_one_entry_and_the_labels_say_what_it_is():
    assert _of("ENTRYPOINT") == ['["sidecar"]']  # `serve` by itself; the manifests say `inject`
    labels = " ".join(_of("LABEL"))
    for name in ("title", "description", "version", "revision"):
        assert f"org.opencontainers.image.{name}=" in labels
    assert "HEALTHCHECK" in [word for word, _ in FINAL]


def test_nothing_ties_it_to_one_machine_type():
    assert "--platform" not in TEXT
    assert not re.search(r"amd64|x86_64|aarch64", re.sub(r"(?m)^#.*", "", TEXT))
