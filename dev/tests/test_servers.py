"""Servers of the development stack: what goes wrong is one sentence, and nothing is left behind."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from offhook_dev import kafka as kafka_module
from offhook_dev import postgres as postgres_module
from offhook_dev.errors import DevError
from offhook_dev.kafka import KafkaServer
from offhook_dev.ports import free_ports, port_is_free
from offhook_dev.postgres import PostgresServer
from offhook_dev.redis import RedisServer

_PARENT = """
import sys, time
from pathlib import Path
from offhook_dev.postgres import PostgresServer
from offhook_dev.redis import RedisServer

server = {"redis": RedisServer, "postgres": PostgresServer}[sys.argv[1]](Path(sys.argv[2]))
server.start_now()
print(server.pid, flush=True)
time.sleep(600)
"""


def test_free_ports_are_different_and_free() -> None:
    ports = free_ports(20)
    assert len(set(ports)) == 20
    assert all(port_is_free(port) for port in ports)


@pytest.mark.real
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("kind", ["redis", "postgres"])  # the second changes its user, which the kernel minds
def test_a_server_ends_with_its_parent_however_that_ends(
    servers_directory: Path, kind: str, how: signal.Signals
) -> None:
    directory = servers_directory / f"orphan-{kind}-{how.name}"
    with subprocess.Popen(
        [sys.executable, "-c", _PARENT, kind, str(directory)], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        server = int(parent.stdout.readline())
        assert _alive(server)
        parent.send_signal(how)
        parent.wait(30)
    _until_gone(server)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs PostgreSQL as somebody else")
def test_a_directory_that_postgresql_cannot_enter_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PostgresServer, "install", lambda *_: Path("/nonexistent"))
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(DevError, match=r"may not enter .*postgres: choose a directory"):
        PostgresServer(closed / "postgres").start_now()


@pytest.mark.real
def test_a_server_outlives_the_thread_that_started_it(tmp_path: Path) -> None:
    server = RedisServer(tmp_path)
    starter = threading.Thread(target=server.start_now)
    starter.start()
    starter.join()
    try:
        server.flush()
        assert server.running
    finally:
        server.stop_now()
    assert not server.running


@pytest.mark.real
def test_a_stopped_server_starts_again_on_its_port_with_its_data(tmp_path: Path) -> None:
    server = RedisServer(tmp_path, persist=True)
    server.start_now()
    port = server.port
    try:
        assert server._ask(b"SET key value") == b"+OK"
        server.stop_now()
        server.start_now()
        assert server.port == port
        assert server._ask(b"GET key").endswith(b"value")
    finally:
        server.stop_now()


@pytest.mark.real
def test_a_port_in_use_is_one_sentence(tmp_path: Path) -> None:
    first = RedisServer(tmp_path / "first").start_now()
    try:
        with pytest.raises(DevError, match=f"redis cannot use port {first.port}"):
            RedisServer(tmp_path / "second", port=first.port).start_now()
    finally:
        first.stop_now()


def test_a_server_that_ends_at_once_is_told_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        RedisServer, "_command", lambda _: [sys.executable, "-c", "import sys; sys.exit('no room')"]
    )
    with pytest.raises(
        DevError, match=r"redis ended with 1 instead of starting: no room \(see .*redis.log\)"
    ):
        RedisServer(tmp_path).start_now()


def _machine_without_apt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)


def _script(directory: Path, name: str, text: str) -> None:
    directory.mkdir(exist_ok=True)
    path = directory / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@pytest.fixture
def bare_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH with nothing on it but what the test puts there, on a machine where nothing may be installed."""
    directory = tmp_path / "bin"
    directory.mkdir()
    monkeypatch.setenv("PATH", str(directory))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("OFFHOOK_VAR", str(tmp_path / "var"))
    _machine_without_apt(monkeypatch)
    return directory


def test_without_java_one_sentence_says_what_to_install(bare_path: Path) -> None:
    with pytest.raises(
        DevError, match=r"Kafka needs Java 17, .* has none: install it .*openjdk-17-jre-headless"
    ):
        KafkaServer.install()


def test_an_old_java_is_named_with_its_version(bare_path: Path) -> None:
    _script(bare_path, "java", """echo 'openjdk version "11.0.2" 2019-01-15' >&2""")
    with pytest.raises(DevError, match=r"needs Java 17, and this machine has Java 11 at .*bin/java"):
        KafkaServer.install()


def test_without_maven_one_sentence_says_so(bare_path: Path) -> None:
    _script(bare_path, "java", """echo 'openjdk version "21.0.1"' >&2""")
    with pytest.raises(DevError, match="Fetching Kafka needs Maven, which is missing"):
        KafkaServer.install()


def test_without_network_one_sentence_says_so_and_nothing_half_done_stays(
    bare_path: Path, tmp_path: Path
) -> None:
    _script(bare_path, "java", """echo 'openjdk version "17.0.1"' >&2""")
    _script(
        bare_path, "mvn", "echo '[ERROR] Could not transfer artifact: example.invalid: Unknown host'; exit 1"
    )
    with pytest.raises(DevError, match="Maven does not reach its repository"):
        KafkaServer.install()
    assert [path.name for path in (tmp_path / "var" / "kafka" / "libs").iterdir() if path.is_dir()] == []


def test_jars_are_fetched_once_even_when_two_want_them_at_the_same_time(
    bare_path: Path, tmp_path: Path
) -> None:
    _script(bare_path, "java", """echo 'openjdk version "17.0.1"' >&2""")
    count = tmp_path / "count"
    fetch = f"""
        echo once >> {count}
        for argument in "$@"; do case $argument in -DoutputDirectory=*) into=${{argument#*=}};; esac; done
        /bin/mkdir -p $into; echo jar > $into/kafka.jar; /bin/sleep 0.3
    """
    _script(bare_path, "mvn", fetch)
    found: list[Path] = []
    both = [
        threading.Thread(target=lambda: found.append(KafkaServer.install(lambda _: None))) for _ in range(2)
    ]
    for one in both:
        one.start()
    for one in both:
        one.join()
    assert found[0] == found[1]
    assert (found[0] / "kafka.jar").exists()
    assert count.read_text() == "once\n"


def test_without_postgresql_one_sentence_says_what_to_install(
    bare_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_module, "_DEBIAN", tmp_path / "none")
    with pytest.raises(DevError, match=r"PostgreSQL is missing: install it .*postgresql"):
        PostgresServer.install()


def test_the_version_is_the_recipes() -> None:
    assert kafka_module.kafka_version().startswith("4.")


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        # In a container without an init, the dead stay listed until somebody waits for them.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


def _until_gone(pid: int) -> None:
    deadline = time.monotonic() + 20
    while _alive(pid):
        assert time.monotonic() < deadline, f"process {pid} outlived its parent"
        time.sleep(0.05)
