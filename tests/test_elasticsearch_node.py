"""The real node of the tests: starts, survives a kill with what it acknowledged, leaves nothing."""

import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.parts.download import cache_folder, get_elasticsearch, inside_repository
from tests.parts.elasticsearch import ElasticsearchNode, NamedNode, node_of_tests
from tests.parts.errors import PartError
from tests.parts.fixtures import delete_all
from tests.parts.java import find_java
from tests.parts.ports import free_port

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def own_node() -> Iterator[ElasticsearchNode]:
    """A node that may be killed."""
    with ElasticsearchNode() as node:
        yield node


def processes_with(text: str) -> list[int]:
    """Return the processes whose command line names `text`, zombies too."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().decode("utf-8", "replace")
        except OSError:
            continue
        if text in words and int(folder.name) != os.getpid():
            found.append(int(folder.name))
    return found


def folders_of(node: ElasticsearchNode) -> tuple[Path, Path]:
    """Return the folder that a node runs in and that of its data, from what it says itself."""
    _, said = node.ask("GET", "/_nodes/settings")
    (only,) = said["nodes"].values()
    path = only["settings"]["path"]
    return Path(path["home"]).parent, Path(path["data"])


def gone(path: Path, seconds: float = 20) -> bool:
    """Wait until no process names a folder and the folder is not there."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if not path.exists() and not processes_with(str(path)):
            return True
        time.sleep(0.05)
    return False


def test_it_is_version_9_and_keeps_a_document(elasticsearch_node: ElasticsearchNode) -> None:
    status, about = elasticsearch_node.ask("GET", "/")
    assert status == 200
    assert about["version"]["number"].startswith("9.")
    try:
        status, _ = elasticsearch_node.ask("PUT", "/test-node-a/_doc/1?refresh=true", {"name": "Kim"})
        assert status == 201
        assert elasticsearch_node.ask("GET", "/test-node-a/_doc/1")[1]["_source"] == {"name": "Kim"}
        found = elasticsearch_node.ask("GET", "/test-node-a/_search?q=name:kim")[1]
        assert found["hits"]["total"]["value"] == 1
    finally:
        delete_all(elasticsearch_node, "test-node")
    assert elasticsearch_node.ask("GET", "/test-node-a/_doc/1")[0] == 404


def test_the_url_names_a_store_of_its_own(elastic_url: str, elasticsearch_node: ElasticsearchNode) -> None:
    start, _, rest = elastic_url.partition("://")
    host, _, place = rest.partition("/")
    assert (start, host) == ("elasticsearch", elasticsearch_node.host)
    assert place.partition("?")[0].startswith("test-")


def test_a_killed_node_comes_back_with_what_it_acknowledged(own_node: ElasticsearchNode) -> None:
    url = own_node.url
    for number in range(20):
        status, _ = own_node.ask("PUT", f"/kept/_doc/{number}", {"number": number})
        assert status == 201
    before = own_node.pid
    own_node.kill()
    assert not own_node.running
    with pytest.raises(OSError, match="refused"):
        own_node.ask("GET", "/")
    own_node.restart()
    assert own_node.url == url
    assert own_node.pid != before
    for number in range(20):
        assert own_node.ask("GET", f"/kept/_doc/{number}")[1]["_source"] == {"number": number}


def test_stop_leaves_no_process_and_no_folder(own_node: ElasticsearchNode) -> None:
    base, data = folders_of(own_node)
    assert data.exists()
    assert len(processes_with(str(base))) >= 2
    own_node.stop()
    assert processes_with(str(base)) == []
    assert not base.exists()
    assert not data.exists()
    own_node.stop()
    with pytest.raises(PartError, match="does not run"):
        own_node.kill()
    with pytest.raises(PartError, match="needs its data"):
        own_node.restart()


def test_it_ends_with_a_process_that_is_killed(tmp_path: Path) -> None:
    with (tmp_path / "said").open("wb") as said:
        run = subprocess.Popen(
            [sys.executable, "-m", "tests.parts.elasticsearch", "--quick"],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=said,
        )
    assert run.stdout is not None
    try:
        url = run.stdout.readline().decode().strip()
        assert url, (tmp_path / "said").read_text()
        base, data = folders_of(NamedNode(url).start())
    finally:
        run.send_signal(signal.SIGKILL)
        run.wait()
        run.stdout.close()
    assert gone(base)
    assert gone(data)


def test_a_port_that_is_taken_is_said(elasticsearch_node: ElasticsearchNode) -> None:
    port = int(elasticsearch_node.host.partition(":")[2])
    node = ElasticsearchNode(port=port)
    with pytest.raises(PartError, match=f"port {port} is taken"):
        node.start()
    assert not node.running


# What is missing is said


def test_without_a_new_enough_java_it_says_what_to_install() -> None:
    with pytest.raises(PartError, match=r"no JDK 99 or newer .*apt-get install openjdk-99.*JAVA_HOME"):
        find_java(99, os.environ)


def test_a_java_that_is_named_comes_first() -> None:
    home = find_java(11, os.environ)
    assert find_java(11, {"JAVA_HOME": str(home)}) == home


def test_without_maven_it_says_what_to_install(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path), "PATH": str(tmp_path)}
    with pytest.raises(PartError, match=r"apt-get install maven.*HEADRACE_TEST_ELASTICSEARCH="):
        get_elasticsearch(environ, lambda _: None)
    assert [path.name for path in cache_folder(environ).iterdir()] == ["lock"]


def test_what_maven_says_is_shown(tmp_path: Path) -> None:
    maven = tmp_path / "mvn"
    maven.write_text("#!/bin/sh\necho the mirror is away\nexit 7\n")
    maven.chmod(0o755)
    environ = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "HOME": str(tmp_path), "PATH": str(tmp_path)}
    with pytest.raises(PartError, match=r"(?s)exit code 7.*the mirror is away"):
        get_elasticsearch(environ, lambda _: None)
    assert [path.name for path in cache_folder(environ).iterdir()] == ["lock"]


FAKE_MAVEN = """#!/bin/sh
echo run >>"$HOME/runs"
for word; do case $word in -Dmaven.repo.local=*) repository=${word#*=};; esac; done
mkdir -p "$repository/$(dirname "$INSIDE")"
sleep 0.3
cp "$HOME/archive.zip" "$repository/$INSIDE"
"""


def test_it_is_got_once_and_only_what_a_node_needs_is_kept(tmp_path: Path) -> None:
    files = {"lib/elasticsearch-9.4.3.jar", "config/jvm.options", "modules/apm/a.jar"}
    with zipfile.ZipFile(tmp_path / "archive.zip", "w") as archive:
        for name in (*files, "bin/elasticsearch", "modules/x-pack-inference/b.jar", "../../evil"):
            archive.writestr(f"sonarqube-1/elasticsearch/{name}", name)
        archive.writestr("sonarqube-1/lib/other.jar", "other")
    (tmp_path / "mvn").write_text(FAKE_MAVEN)
    (tmp_path / "mvn").chmod(0o755)
    environ = {"HOME": str(tmp_path), "PATH": f"{tmp_path}:{os.defpath}", "INSIDE": str(inside_repository())}
    cache = cache_folder(environ)
    (cache / "partial-of-a-killed-run").mkdir(parents=True)
    with ThreadPoolExecutor(3) as pool:
        (kept,) = set(pool.map(lambda _: get_elasticsearch(environ, lambda _: None), range(3)))
    assert (tmp_path / "runs").read_text() == "run\n"
    assert {path.relative_to(kept).as_posix() for path in kept.rglob("*") if path.is_file()} == files
    assert {path.name for path in cache.iterdir()} == {"lock", kept.name}


def test_an_archive_that_is_broken_is_said(tmp_path: Path) -> None:
    archive = tmp_path / ".m2/repository" / inside_repository()
    archive.parent.mkdir(parents=True)
    archive.write_bytes(b"half of it")
    with pytest.raises(PartError, match=r"Remove it and try again"):
        get_elasticsearch({"HOME": str(tmp_path)}, lambda _: None)


def test_a_named_node_is_used_and_not_harmed(elasticsearch_node: ElasticsearchNode) -> None:
    with node_of_tests({"HEADRACE_TEST_ELASTICSEARCH": elasticsearch_node.url + "/"}) as named:
        assert named.url == elasticsearch_node.url
        with pytest.raises(PartError, match="one of their own"):
            named.kill()
        with pytest.raises(PartError, match="one of their own"):
            named.restart()
    assert elasticsearch_node.ready()


@pytest.mark.parametrize("url", ["9200", "https://127.0.0.1:9200", "http://127.0.0.1", "http://127.0.0.1:x"])
def test_a_name_that_is_no_node_is_refused(url: str) -> None:
    with pytest.raises(PartError, match="name a node such as"):
        node_of_tests({"HEADRACE_TEST_ELASTICSEARCH": url})


def test_a_named_node_that_is_away_is_said() -> None:
    node = node_of_tests({"HEADRACE_TEST_ELASTICSEARCH": f"http://127.0.0.1:{free_port()}"})
    with pytest.raises(PartError, match="no Elasticsearch answers there"):
        node.start()
