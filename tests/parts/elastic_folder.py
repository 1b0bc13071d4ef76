"""The folder that one Elasticsearch node runs in, and the command that starts it."""

import os
import shutil
import stat
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.parts.errors import PartError

# Elasticsearch refuses to run as root. Any id does that owns nothing else.
USER_ID = 1500
LAUNCHER = "org.elasticsearch.server.launcher.ServerLauncher"
SUBFOLDERS = ("config", "logs", "snapshots", "tmp")
MEMORY = Path("/dev/shm")  # noqa: S108
MEMORY_BYTES = 2 << 30
"""What must be free there: a node that only tests use keeps a tenth of it."""

# Of the two programs that only prepare the server's start.
SMALL_OPTIONS = ("-Xms4m", "-Xmx64m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto")
JVM_OPTIONS_LEFT_OUT = ("-Xlog:", "-XX:+HeapDump", "-XX:+Use")

SETTINGS = """\
cluster.name: headrace-tests
node.name: {name}
discovery.type: single-node
network.host: 127.0.0.1
http.port: {http_port}
transport.port: {transport_port}
path.data: {data}
path.logs: {base}/logs
path.repo: ["{base}/snapshots"]
xpack.security.enabled: false
xpack.security.autoconfiguration.enabled: false
action.destructive_requires_name: false
cluster.routing.allocation.disk.threshold_enabled: false
cluster.max_shards_per_node: 10000
"""

# The launcher passes on what the node writes; one file holds all of it.
LOGGING = """\
status = error
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = [%d{ISO8601}][%-5p][%-25c{1.}] %marker %m%n%throwable
rootLogger.level = info
rootLogger.appenderRef.console.ref = console
"""


def user_prefix() -> tuple[str, ...]:
    """Return what is put before a command so that it does not run as root; nothing for others."""
    if os.geteuid() != 0:
        return ()
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        msg = "Elasticsearch refuses to run as root. Install setpriv (part of util-linux), or run as another user."
        raise PartError(msg)
    return (setpriv, f"--reuid={USER_ID}", f"--regid={USER_ID}", "--clear-groups")


def closed_parents(folder: Path) -> list[Path]:
    """Return the folders on the way to this one that the user of the node cannot pass."""
    if os.geteuid() != 0:
        return []
    return [at for at in (folder, *folder.parents) if at.exists() and not at.stat().st_mode & stat.S_IXOTH]


def new_temporary_folder() -> Path:
    """Make an empty folder that the user of the node can reach."""
    tried = []
    for parent in (Path(tempfile.gettempdir()), Path("/var/tmp"), Path("/tmp")):  # noqa: S108
        if parent.is_dir() and not closed_parents(parent.resolve()):
            return Path(tempfile.mkdtemp(prefix="headrace-elasticsearch-", dir=parent)).resolve()
        tried.append(str(parent))
    msg = f"none of {', '.join(tried)} can be passed by the user {USER_ID}. Set TMPDIR to a folder with mode 755."
    raise PartError(msg)


def new_memory_folder() -> Path | None:
    """Make an empty folder in memory, where a write that is waited for costs nothing; None where there is little room.

    A process that is killed loses nothing there that it would keep on a disk.
    """
    try:
        room = os.statvfs(MEMORY)
        if closed_parents(MEMORY) or room.f_bavail * room.f_frsize < MEMORY_BYTES:
            return None
        return Path(tempfile.mkdtemp(prefix="headrace-elasticsearch-", dir=MEMORY))
    except OSError:
        return None


@dataclass(frozen=True)
class ElasticFolder:
    """Where a node keeps everything: program, settings, log, and data, which may stand in memory."""

    base: Path
    memory: Path | None = None

    @property
    def data(self) -> Path:
        """The indices."""
        return self.memory or self.base / "data"

    @property
    def own(self) -> list[Path]:
        """All that is removed when the node was one for a while."""
        return [self.base, self.memory] if self.memory else [self.base]

    @property
    def home(self) -> Path:
        """The program."""
        return self.base / "home"

    @property
    def log(self) -> Path:
        """All that the node wrote."""
        return self.base / "node.log"

    @property
    def pid_file(self) -> Path:
        """The process id of the server; there while it runs."""
        return self.base / "node.pid"

    def prepare(self, distribution: Path) -> None:
        """Make the folder or complete it; data that is there stays. Raises PartError."""
        closed = closed_parents(self.base.parent)
        if closed:
            msg = f"{closed[0]} cannot be passed by the user {USER_ID}, as whom the node runs. Name another folder."
            raise PartError(msg)
        folders = (self.base, *(self.base / name for name in SUBFOLDERS), self.data)
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
        if not self.home.is_dir():
            partial = self.base / "home.partial"
            shutil.rmtree(partial, ignore_errors=True)
            link_tree(distribution, partial)
            (partial / "plugins").mkdir(exist_ok=True)
            partial.rename(self.home)
        (self.base / "config/log4j2.properties").write_text(LOGGING)
        options = (self.home / "config/jvm.options").read_text(encoding="utf-8").splitlines()
        kept = [line for line in options if not line.startswith(JVM_OPTIONS_LEFT_OUT)]
        (self.base / "config/jvm.options").write_text("\n".join(kept) + "\n")
        if os.geteuid() == 0:
            for folder in folders:
                os.chown(folder, USER_ID, USER_ID)
                folder.chmod(0o755)
            for file in (self.base / "config").iterdir():
                os.chown(file, USER_ID, USER_ID)

    def configure(self, name: str, http_port: int, transport_port: int) -> None:
        """Write the settings of the next start."""
        ports = {"http_port": http_port, "transport_port": transport_port}
        text = SETTINGS.format(base=self.base, data=self.data, name=name, **ports)
        (self.base / "config/elasticsearch.yml").write_text(text)
        # Left behind by a node that was killed.
        self.pid_file.unlink(missing_ok=True)

    def command(self, java: Path) -> list[str]:
        """Return what starts the node: Elastic's launcher, whose child is the server."""
        prefix = user_prefix()
        if prefix:
            # When even the guard is killed, the launcher goes, and the server, which reads from it, follows.
            prefix = (*prefix, "--pdeathsig=KILL")
        jars = f"{self.home}/lib/tools/server-launcher/*"
        return [
            *prefix,
            str(java / "bin/java"),
            *SMALL_OPTIONS,
            "-cp",
            jars,
            LAUNCHER,
            "-p",
            str(self.pid_file),
        ]

    def environment(self, java: Path, heap: str, options: str) -> Mapping[str, str]:
        """Return the whole environment of the launcher."""
        return {
            "JAVA": str(java / "bin/java"),
            "JAVA_TYPE": "ES_JAVA_HOME",
            "ES_JAVA_HOME": str(java),
            "ES_HOME": str(self.home),
            "ES_PATH_CONF": str(self.base / "config"),
            "ES_DISTRIBUTION_TYPE": "zip",
            "ES_TMPDIR": str(self.base / "tmp"),
            "ES_JAVA_OPTS": f"-Xms{heap} -Xmx{heap} {options}",
            "CLI_JAVA_OPTS": " ".join(SMALL_OPTIONS),
            "HOSTNAME": "node",
            "HOME": str(self.base),
            "PATH": os.defpath,
        }


def link_tree(source: Path, target: Path) -> None:
    """Copy a tree by hard links, which cost nothing; by copies where they cannot be."""

    def link(file: str, copy: str) -> None:
        try:
            os.link(file, copy)
        except OSError:
            shutil.copyfile(file, copy)

    shutil.copytree(source, target, copy_function=link)
    # For the node's user, whatever the umask of the one who unpacked.
    for folder, _, _ in os.walk(target):
        Path(folder).chmod(0o755)
