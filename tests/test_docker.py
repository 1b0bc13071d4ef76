"""The container files: linted and checked; no engine runs here."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

import headrace
from headrace.engine.settings import PREFIX, Settings

ROOT = Path(__file__).resolve().parent.parent
DOCKERFILE = ROOT / "docker/Dockerfile"
COMPOSE = ROOT / "docker/compose.yaml"
TOOLS = Path(sys.executable).parent


def instructions() -> list[tuple[str, str]]:
    """The instructions of the Dockerfile, each on one line, without comments."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines) if word]


def last(word: str) -> str:
    return [rest for name, rest in instructions() if name == word][-1]


def settings_in(text: str) -> dict[str, str]:
    return dict(re.findall(rf"\b({PREFIX}\w+)=(\S+)", text))


@pytest.fixture(scope="module")
def service() -> dict[str, Any]:
    services = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))["services"]
    assert list(services) == ["headrace"]
    return dict(services["headrace"])


def test_hadolint_finds_nothing() -> None:
    command = [str(TOOLS / "hadolint"), "--failure-threshold", "style", str(DOCKERFILE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_yamllint_finds_nothing() -> None:
    rules = "{extends: default, rules: {document-start: disable, line-length: {max: 130}}}"
    command = [str(TOOLS / "yamllint"), "--strict", "-d", rules, str(COMPOSE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_image_runs_as_nobody_in_particular() -> None:
    user, group = last("USER").split(":")
    assert int(user) > 0
    assert int(group) > 0
    assert f"-o {user} -g {group}" in last("RUN")


def test_the_image_says_what_it_serves() -> None:
    environ = settings_in(last("ENV"))
    settings = Settings.load(environ)
    assert settings.warnings == ()
    assert settings.host == "0.0.0.0"  # noqa: S104
    assert str(settings.data) == last("VOLUME") == "/data"
    assert str(settings.port) == last("EXPOSE")
    assert json.loads(last("ENTRYPOINT")) == ["headrace"]
    assert json.loads(last("CMD")) == ["serve", str(settings.workspace)]


def test_the_health_check_of_the_image_is_a_python_program() -> None:
    program = json.loads(last("HEALTHCHECK").partition(" CMD ")[2])
    assert program[:2] == ["python", "-c"]
    compile(program[2], "HEALTHCHECK", "exec")
    assert "/healthz" in program[2]


def test_what_is_copied_exists_and_is_not_ignored() -> None:
    ignore = DOCKERFILE.with_name("Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    copied = {
        name
        for word, rest in instructions()
        if word == "COPY" and not rest.startswith("--from")
        for name in rest.split()[:-1]
    }
    assert {"engine", "api", "plugins", "headrace", "requirements.lock"} <= copied
    assert not {name for name in copied if not (ROOT / name).exists()}
    assert {f"!{name}" for name in copied} == {line for line in ignore if line.startswith("!")}


def test_the_image_installs_the_locked_versions_without_the_tools_of_development(tmp_path: Path) -> None:
    run = next(rest for word, rest in instructions() if word == "RUN")
    asked = ["--require-hashes", "--requirements", "pyproject.toml", "--constraints", "requirements.lock"]
    assert " ".join(asked) in run
    uv = [sys.executable, "-m", "uv"]
    subprocess.run([*uv, "venv", "--quiet", "--python", sys.executable, str(tmp_path / "v")], check=True)
    dry = [*uv, "pip", "install", "--python", str(tmp_path / "v"), "--dry-run", *asked]
    for network in (["--offline"], []):
        done = subprocess.run([*dry, *network], cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            break
    assert done.returncode == 0, done.stderr
    assert " + starlette==" in done.stderr
    assert " + pytest==" not in done.stderr


def test_compose_names_settings_that_exist(service: dict[str, Any]) -> None:
    names = {name.removeprefix(PREFIX).lower() for name in service["environment"]}
    assert names <= set(Settings.model_fields)
    assert service["environment"]["HEADRACE_ADMIN_TOKEN"].startswith("${HEADRACE_ADMIN_TOKEN:?")
    assert service["image"] == f"headrace:{headrace.__version__}"


def test_compose_builds_keeps_and_watches(service: dict[str, Any]) -> None:
    build = service["build"]
    assert (COMPOSE.parent / build["context"] / build["dockerfile"]).resolve() == DOCKERFILE
    assert "data:/data" in service["volumes"]
    assert service["ports"] == ["127.0.0.1:8080:8080"]
    assert service["healthcheck"]["test"][:3] == ["CMD", "python", "-c"]
    compile(service["healthcheck"]["test"][3], "healthcheck", "exec")
    assert int(service["stop_grace_period"].rstrip("s")) > Settings.load({}).stop_grace_seconds
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
