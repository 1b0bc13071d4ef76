"""Finds a JDK that is new enough for a server of the tests."""

import os
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests.parts.errors import PartError

PLACES = (
    "/usr/lib/jvm/*",
    "/usr/java/*",
    "/opt/*",
    "/opt/*/*",
    "/Library/Java/JavaVirtualMachines/*/Contents/Home",
)
HOME_PLACES = (
    ".sdkman/candidates/java/*",
    ".jdks/*",
    ".local/share/mise/installs/java/*",
    ".asdf/installs/java/*",
)


def find_java(least: int, environ: Mapping[str, str], as_user: Sequence[str] = ()) -> Path:
    """Return the home folder of a JDK of at least this version.

    `as_user` is put before `java -version`: a JDK that this user cannot run does not count.
    Raises PartError that lists what was found.
    """
    seen: dict[Path, str] = {}
    for home in candidates(environ):
        if home in seen:
            continue
        version = java_version(home, as_user)
        if version and version >= least:
            return home
        seen[home] = f"Java {version}" if version else "does not run"
    found = "; ".join(f"{home}: {what}" for home, what in seen.items()) or "none"
    msg = (
        f"no JDK {least} or newer was found (found: {found}). "
        f"Install one (Debian, Ubuntu: apt-get install openjdk-{least}-jre-headless), or set JAVA_HOME to one."
    )
    raise PartError(msg)


def candidates(environ: Mapping[str, str]) -> Iterator[Path]:
    """Yield home folders that hold bin/java: what is named first, then the usual places, newest name first."""
    places = [Path(environ[name]) for name in ("JAVA_HOME", "ES_JAVA_HOME") if environ.get(name)]
    places += [Path(folder).parent for folder in environ.get("PATH", "").split(os.pathsep) if folder]
    for pattern in PLACES:
        places += sorted(Path("/").glob(pattern.lstrip("/")), reverse=True)
    if environ.get("HOME"):
        for pattern in HOME_PLACES:
            places += sorted(Path(environ["HOME"]).glob(pattern), reverse=True)
    for place in places:
        java = place / "bin" / "java"
        try:
            if java.is_file():
                yield java.resolve().parent.parent
        except OSError:
            continue


def java_version(home: Path, as_user: Sequence[str] = ()) -> int | None:
    """Return the feature version that `java -version` says, or None when it does not run."""
    try:
        said = subprocess.run(
            [*as_user, str(home / "bin" / "java"), "-version"],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(r'version "(?:1\.)?(\d+)', said.stderr + said.stdout)
    return int(found[1]) if found and said.returncode == 0 else None
