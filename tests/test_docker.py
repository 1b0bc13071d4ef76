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
from headrace.engine.settings import Settings
from headrace.engine.store.elastic.place import read_place
from headrace.engine.variables import PREFIX

ROOT = Path(__file__).resolve().parent.parent
DOCKERFILE = ROOT / "docker/Dockerfile"
COMPOSE = ROOT / "docker/compose.yaml"
WITH_CLUSTER = ROOT / "docker/compose.elasticsearch.yaml"
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


def composed(file: Path) -> dict[str, Any]:
    return dict(yaml.safe_load(file.read_text(encoding="utf-8")))


@pytest.fixture(scope="module", params=[COMPOSE, WITH_CLUSTER], ids=lambda file: file.name)
def service(request: pytest.FixtureRequest) -> dict[str, Any]:
    return dict(composed(request.param)["services"]["headrace"])


@pytest.fixture(scope="module")
def node() -> dict[str, Any]:
    return dict(composed(WITH_CLUSTER)["services"]["elasticsearch"])


def test_hadolint_finds_nothing() -> None:
    command = [str(TOOLS / "hadolint"), "--failure-threshold", "style", str(DOCKERFILE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("file", [COMPOSE, WITH_CLUSTER], ids=lambda file: file.name)
def test_yamllint_finds_nothing(file: Path) -> None:
    rules = "{extends: default, rules: {document-start: disable, line-length: {max: 130}}}"
    command = [str(TOOLS / "yamllint"), "--strict", "-d", rules, str(file)]
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
    asked = ["--require-hashes", "--requirements", "pyproject.toml", "--extra", "elasticsearch"]
    asked += ["--constraints", "requirements.lock"]
    assert " ".join(asked) in run
    uv = [sys.executable, "-m", "uv"]
    subprocess.run([*uv, "venv", "--quiet", "--python", sys.executable, str(tmp_path / "v")], check=True)
    dry = [*uv, "pip", "install", "--python", str(tmp_path / "v"), "--dry-run", *asked]
    for network in (["--offline"], []):
        done = subprocess.run([*dry, *network], cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            break
    assert done.returncode == 0, done.stderr
    for name in ("starlette", "elasticsearch", "aiohttp"):
        assert f" + {name}==" in done.stderr
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


def test_each_file_has_the_services_that_it_says() -> None:
    assert list(composed(COMPOSE)["services"]) == ["headrace"]
    assert list(composed(WITH_CLUSTER)["services"]) == ["elasticsearch", "headrace"]
    assert composed(COMPOSE)["name"] != composed(WITH_CLUSTER)["name"]


@pytest.mark.parametrize("file", [COMPOSE, WITH_CLUSTER], ids=lambda file: file.name)
def test_every_volume_and_network_is_declared(file: Path) -> None:
    whole = composed(file)
    for service in whole["services"].values():
        volumes = {volume.partition(":")[0] for volume in service["volumes"] if volume[0] not in "$./"}
        assert volumes <= set(whole["volumes"])
        assert set(service.get("networks", [])) <= set(whole.get("networks", {}))
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["restart"] == "unless-stopped"


def test_the_node_is_safe_and_bounded(node: dict[str, Any]) -> None:
    environ = node["environment"]
    assert environ["xpack.security.enabled"] == "true"
    assert environ["ELASTIC_PASSWORD"].startswith("${ELASTIC_PASSWORD:?")
    assert re.fullmatch(r"docker\.elastic\.co/elasticsearch/elasticsearch:9\.\d+\.\d+", node["image"])
    # Reached by Headrace only, over a network that leads nowhere else.
    assert "ports" not in node
    assert node["networks"] == ["store"]
    assert composed(WITH_CLUSTER)["networks"]["store"] == {"internal": True}
    assert int(node["user"].partition(":")[0]) > 0
    assert node["ulimits"]["memlock"] == {"soft": -1, "hard": -1}
    assert node["ulimits"]["nofile"]["soft"] >= 65_535
    heap, memory = (
        int(re.search(rf"{name}:-(\d+)g", text)[1])  # type: ignore[index]
        for name, text in (("ELASTIC_HEAP", environ["ES_JAVA_OPTS"]), ("ELASTIC_MEMORY", node["mem_limit"]))
    )
    assert memory == 2 * heap


def test_headrace_waits_for_a_healthy_node_and_names_it(node: dict[str, Any]) -> None:
    headrace_service = composed(WITH_CLUSTER)["services"]["headrace"]
    assert headrace_service["depends_on"] == {"elasticsearch": {"condition": "service_healthy"}}
    password = "letters1and2digits"
    url = headrace_service["environment"]["HEADRACE_STORE"].replace("${ELASTIC_PASSWORD}", password)
    place = read_place(Settings.load({"HEADRACE_STORE": url}).store)
    assert (place.hosts, place.user, place.password) == (("http://elasticsearch:9200",), "elastic", password)
    assert set(headrace_service["networks"]) > set(node["networks"])
    assert "mem_limit" in headrace_service


def test_the_node_s_health_check_keeps_the_password_to_itself(node: dict[str, Any], tmp_path: Path) -> None:
    kind, command = node["healthcheck"]["test"]
    assert kind == "CMD-SHELL"
    assert "wait_for_status=yellow" in command
    # What Compose makes of it, with a curl that writes down what it was told.
    told = tmp_path / "told"
    curl = tmp_path / "curl"
    curl.write_text(f'#!/bin/sh\necho "$@" > {told}; cat >> {told}\n', encoding="utf-8")
    curl.chmod(0o755)
    environ = {"PATH": f"{tmp_path}:/usr/bin:/bin", "ELASTIC_PASSWORD": "hush"}
    subprocess.run(["sh", "-c", command.replace("$$", "$")], env=environ, check=True)
    arguments, _, config = told.read_text(encoding="utf-8").partition("\n")
    assert "hush" not in arguments
    assert config == 'user = "elastic:hush"'
