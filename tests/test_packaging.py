"""Wheel and sdist: what they hold, and that they install."""

import os
import subprocess
import sys
import tarfile
import venv
from pathlib import Path
from zipfile import ZipFile

import pytest

import headrace

ROOT = Path(__file__).resolve().parent.parent
LINKS = ("engine", "api", "plugins")


def run(*command: str | Path, cwd: Path = ROOT) -> str:
    """Run a command outside of the checkout's view; its whole output is shown when it fails."""
    environ = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHONPATH", "HEADRACE_"))
    }
    done = subprocess.run(
        command,
        cwd=cwd,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}"
    return done.stdout


def build(kind: str, source: Path, out: Path) -> Path:
    """Build one archive with the build tool that the lock names, without network."""
    run(sys.executable, "-m", "build", "--no-isolation", f"--{kind}", "--outdir", out, source)
    [archive] = out.iterdir()
    return archive


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", ROOT, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("sdist", ROOT, tmp_path_factory.mktemp("sdist"))


def contents(wheel: Path) -> dict[str, bytes]:
    with ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def tree() -> set[str]:
    """Every file that belongs into the package, by its name in the wheel."""
    command = ["git", "-c", "safe.directory=*", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(
        [*command, "headrace", *LINKS], cwd=ROOT, check=True, capture_output=True, text=True
    )
    files = {name for name in listed.stdout.splitlines() if (ROOT / name).is_file()}
    return {name if name.startswith("headrace/") else f"headrace/{name}" for name in files}


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    about = f"headrace-{headrace.__version__}.dist-info/"
    names = {name for name in contents(wheel) if not name.startswith(about)}
    assert names == tree()
    assert {"headrace/py.typed", "headrace/engine/errors.py"} <= names
    assert f"{about}licenses/LICENSE" in contents(wheel)


def test_the_sdist_builds_the_same_wheel(wheel: Path, sdist: Path, tmp_path: Path) -> None:
    with tarfile.open(sdist) as archive:
        assert not [member.name for member in archive.getmembers() if member.issym() or member.islnk()]
        archive.extractall(tmp_path, filter="data")
    again = build("wheel", tmp_path / sdist.name.removesuffix(".tar.gz"), tmp_path / "out")
    assert again.name == wheel.name
    assert contents(again) == contents(wheel)


@pytest.fixture(scope="module")
def fresh(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new environment with the wheel and what it needs, in the locked versions; returns its bin folder."""
    folder = tmp_path_factory.mktemp("fresh")
    venv.create(folder, with_pip=False)
    install = (sys.executable, "-m", "uv", "pip", "install", "--python", folder / "bin/python")
    wanted = (wheel, "--constraints", ROOT / "requirements.lock")
    try:
        # What the tests' own environment was made from is mostly still cached; no network then.
        run(*install, "--offline", *wanted, cwd=folder)
    except AssertionError:
        run(*install, *wanted, cwd=folder)
    return folder / "bin"


def test_the_wheel_imports_from_where_it_is_installed(fresh: Path, tmp_path: Path) -> None:
    look = "import headrace.engine.errors as e, headrace.api, headrace.plugins; print(e.__file__)"
    assert Path(run(fresh / "python", "-c", look, cwd=tmp_path).strip()).is_relative_to(fresh.parent)


@pytest.mark.parametrize("name", LINKS)
def test_the_wheel_takes_no_common_name(fresh: Path, tmp_path: Path, name: str) -> None:
    run(
        fresh / "python",
        "-c",
        f"import importlib.util as u; assert u.find_spec({name!r}) is None",
        cwd=tmp_path,
    )


def test_the_command_runs_from_the_wheel(fresh: Path, tmp_path: Path) -> None:
    assert headrace.__version__ in run(fresh / "headrace", "--version", cwd=tmp_path)


def test_a_typed_program_sees_our_types(fresh: Path, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "from headrace.engine.errors import InputError\nreveal_type(InputError(400, 'a', 'b').status)\n"
    )
    mypy = (sys.executable, "-m", "mypy", "--strict", "--no-incremental", "--config-file=")
    shown = run(*mypy, "--python-executable", fresh / "python", program, cwd=tmp_path)
    assert 'Revealed type is "builtins.int"' in shown or 'Revealed type is "int"' in shown
