"""A real Apache Kafka on this machine, without a container: one KRaft node from the jars that Maven fetches.

The jars are fetched once for each version of `dev/kafka/pom.xml`, into `var/kafka/libs`. Topics, data,
configuration and log of a node are under the directory it is given.
"""

import base64
import os
import re
import shutil
import socket
import struct
import subprocess
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from offhook_dev import system_packages
from offhook_dev.errors import DevError
from offhook_dev.maven import jars
from offhook_dev.ports import LOOPBACK, free_port
from offhook_dev.servers import Say, Server, say_on_stderr

JAVA_VERSION: Final = 17
_RECIPE: Final = Path(__file__).resolve().parents[2] / "kafka"
_JAVA_PACKAGES: Final = (f"openjdk-{JAVA_VERSION}-jre-headless", "default-jre-headless")
# A fast start on a small machine matters more than peak speed: serial collector, C1 only.
_JAVA_OPTIONS: Final = ("-Xmx512m", "-Xms128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto")

_CONFIGURATION: Final = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{host}:{controller_port}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
log.dirs={data}

# Topics are created by those who own them, never by a typing mistake.
auto.create.topics.enable=false
num.partitions=1
default.replication.factor=1
min.insync.replicas=1

# One node: internal topics have one replica, and few partitions so that they are made at once.
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=2
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=2

# Tests join and leave groups all the time.
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
# After a kill, the node waits this long for its former self before it lets itself in again.
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=400
# A small disk.
log.segment.bytes=67108864
log.cleaner.dedupe.buffer.size=16777216
num.network.threads=2
num.io.threads=4
background.threads=2
"""
_LISTENERS: Final = """\
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller_port}
advertised.listeners=PLAINTEXT://{host}:{port}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
"""


class KafkaServer(Server):
    """One Kafka node. `bootstrap` is what clients connect to; it stays the same over restarts, and so does
    the data.
    """

    name = "kafka"

    def __init__(self, directory: Path, *, port: int | None = None, say: Say = say_on_stderr) -> None:
        super().__init__(directory, port=port)
        self.controller_port = free_port()
        self._say = say
        self._libs: Path | None = None
        self._java = "java"

    @property
    def bootstrap(self) -> str:
        return f"{LOOPBACK}:{self.port}"

    @property
    def version(self) -> str:
        """Kafka's version, as the recipe has it."""
        return kafka_version()

    @classmethod
    def install(cls, say: Say = say_on_stderr) -> Path:
        """Make sure that Java and Kafka's jars are there; returns the jars' directory. Raises `DevError`."""
        java(say)
        return _jars(say)

    def _prepare(self) -> None:
        self._java = java(self._say)
        self._libs = _jars(self._say)
        data = self.directory / "data"
        configuration = self.directory / "server.properties"
        own = _CONFIGURATION.format(host=LOOPBACK, controller_port=self.controller_port, data=data)
        configuration.write_text(own + self._listeners())
        if not (data / "meta.properties").exists():
            cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
            # With `=`: an id may begin with a dash, and would be taken for an option.
            self._run_tool(
                "kafka.tools.StorageTool", "format", f"--cluster-id={cluster}", f"--config={configuration}",
                *self._format_options(),
            )  # fmt: skip

    # What a variant says differently.

    def _listeners(self) -> str:
        """The part of the configuration about who may connect where."""
        return _LISTENERS.format(host=LOOPBACK, port=self.port, controller_port=self.controller_port)

    def _format_options(self) -> Sequence[str]:
        """What the storage begins with."""
        return ()

    def _plain_port(self) -> int:
        """The port of the listener without security."""
        return self.port

    def _command(self) -> Sequence[str]:
        return [*self._java_command(), "kafka.Kafka", str(self.directory / "server.properties")]

    def _answers(self) -> bool:
        try:
            return _live_brokers(self._plain_port()) > 0
        except (OSError, struct.error):
            return False

    def _java_command(self) -> list[str]:
        assert self._libs is not None
        log4j = f"-Dlog4j2.configurationFile={_RECIPE / 'log4j2.properties'}"
        return [self._java, *_JAVA_OPTIONS, log4j, "-cp", f"{self._libs}/*"]

    def _run_tool(self, *arguments: str) -> None:
        done = subprocess.run(
            [*self._java_command(), *arguments], capture_output=True, text=True, timeout=120, check=False
        )
        if done.returncode != 0:
            said = (done.stderr or done.stdout).strip().splitlines()
            raise DevError(
                f"Kafka's storage cannot be formatted: {said[-1][:300] if said else 'no reason given'}"
            )


def kafka_version() -> str:
    """The version in `dev/kafka/pom.xml`."""
    found = re.search(r"<kafka\.version>([^<]+)<", (_RECIPE / "pom.xml").read_text())
    assert found is not None
    return found[1]


def var() -> Path:
    """Where fetched jars are kept."""
    return Path(os.environ.get("OFFHOOK_VAR", _RECIPE.parents[1] / "var"))


def java(say: Say) -> str:
    """The path of a Java that is new enough, installed if it may be."""
    found = _find_java()
    version = _java_version(found) if found else None
    if version is None or version < JAVA_VERSION:
        reason = f"Kafka needs Java {JAVA_VERSION}, and this machine has " + (
            f"Java {version} at {found}" if version else "none"
        )
        # Newer Debians have left 17 behind; their default is newer, and as good.
        system_packages.install_first(_JAVA_PACKAGES, reason=reason, say=say)
        found = _newest_debian_java() or _find_java()
        if found is None or (_java_version(found) or 0) < JAVA_VERSION:
            raise DevError(f"{reason}; set JAVA_HOME to a newer one.")
    assert found is not None
    return found


def _find_java() -> str | None:
    home = os.environ.get("JAVA_HOME")
    if home and (Path(home) / "bin" / "java").exists():
        return str(Path(home) / "bin" / "java")
    return shutil.which("java")


def _newest_debian_java() -> str | None:
    found = sorted(Path("/usr/lib/jvm").glob(f"java-{JAVA_VERSION}-*/bin/java"))
    return str(found[-1]) if found else None


def _java_version(java: str) -> int | None:
    """The feature release of `java` (`17`, and `8` for `1.8`), or None when it does not run."""
    try:
        done = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r'version "(?:1\.)?(\d+)', done.stderr + done.stdout)
    return int(found[1]) if found else None


def _jars(say: Say) -> Path:
    """The directory of Kafka's jars, filled through Maven when this version of the recipe has not been yet."""
    return jars(_RECIPE / "pom.xml", var() / "kafka", "Kafka", say)


def _live_brokers(port: int) -> int:
    """How many brokers the node names as alive: it answers before its own broker is let in.

    A Metadata request, version 1, for no topic. https://kafka.apache.org/protocol#The_Messages_Metadata
    """
    client = b"ready"
    request = struct.pack(">hhih", 3, 1, 1, len(client)) + client + struct.pack(">i", 0)
    with socket.create_connection((LOOPBACK, port), timeout=2) as connection:
        connection.sendall(struct.pack(">i", len(request)) + request)
        with connection.makefile("rb") as answer:
            (size,) = struct.unpack(">i", answer.read(4))
            body = answer.read(min(size, 65536))
    (brokers,) = struct.unpack_from(">i", body, 4)
    return int(brokers)
