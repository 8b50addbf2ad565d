"""A real PostgreSQL on this machine, from Debian's binaries. It refuses to run as root, so root runs it as
`postgres`.
"""

import os
import pwd
import secrets
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from offhook_dev import system_packages
from offhook_dev.errors import DevError
from offhook_dev.ports import LOOPBACK
from offhook_dev.servers import Say, Server, in_spawning_thread, say_on_stderr

_DEBIAN: Final = Path("/usr/lib/postgresql")
_UNPRIVILEGED: Final = ("postgres", "nobody")


class PostgresServer(Server):
    """One server with the superuser `offhook` and a password of its own (made once, kept in the directory).

    `fsync=False` makes it faster and unsafe at a crash of the machine: for tests. When this process is root,
    the directory is given to another user, who must be able to reach it.
    """

    name = "postgres"
    _stop_signal = signal.SIGINT  # "fast": ends sessions, then in order
    _death_signal = signal.SIGQUIT  # "immediate": its children end with it, the next start recovers

    def __init__(
        self, directory: Path, *, port: int | None = None, fsync: bool = True, say: Say = say_on_stderr
    ) -> None:
        super().__init__(directory, port=port)
        self._fsync = fsync
        self._say = say
        self._binaries: Path | None = None

    @property
    def url(self) -> str:
        """The URL of the database `postgres` in SQLAlchemy's form, with the driver asyncpg."""
        return self.url_of("postgres")

    def url_of(self, database: str) -> str:
        return f"postgresql+asyncpg://offhook:{self._password()}@{LOOPBACK}:{self.port}/{database}"

    def create_database(self, name: str) -> str:
        """Make an empty database and return its URL."""
        self._sql(f'CREATE DATABASE "{name}"')
        return self.url_of(name)

    def drop_database(self, name: str) -> None:
        """Remove a database, whoever is still connected to it."""
        self._sql(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    @classmethod
    def install(cls, say: Say = say_on_stderr) -> Path:
        """Make sure that the binaries are there; returns their directory. Raises `DevError`."""
        found = _binaries()
        if found is None:
            reason = "PostgreSQL is missing"
            system_packages.install("postgresql-common", reason=reason, say=say)
            system_packages.without_main_cluster()
            system_packages.install("postgresql", reason=reason, say=say)
            found = _binaries()
        if found is None:
            raise DevError(f"PostgreSQL is missing: no initdb under {_DEBIAN} and none on the PATH.")
        return found

    def _prepare(self) -> None:
        self._binaries = self.install(self._say)
        data = self.directory / "data"
        if (data / "PG_VERSION").exists():
            return
        shutil.rmtree(data, ignore_errors=True)  # what an interrupted initdb left
        password = self.directory / "password"
        password.touch(mode=0o600)
        password.write_text(secrets.token_urlsafe(18))
        self._give_away()
        # Without --no-sync, initdb waits for the disk although nothing is lost when it has to be repeated.
        self._run_as_user(
            str(self._binaries / "initdb"), "--pgdata", str(data), "--username", "offhook",
            "--pwfile", str(password), "--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C.UTF-8",
            *(() if self._fsync else ("--no-sync",)),
        )  # fmt: skip

    def _command(self) -> Sequence[str]:
        assert self._binaries is not None
        options = {
            "listen_addresses": LOOPBACK,
            "unix_socket_directories": "",
            "max_connections": "100",
            "shared_buffers": "64MB",
            "logging_collector": "off",
        }
        if not self._fsync:
            options |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        settings = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        return [
            str(self._binaries / "postgres"), "-D", str(self.directory / "data"), "-p", str(self.port), *settings,
        ]  # fmt: skip

    def _answers(self) -> bool:
        assert self._binaries is not None
        command = [str(self._binaries / "pg_isready"), "-q", "-h", LOOPBACK, "-p", str(self.port), "-t", "2"]
        return subprocess.run(command, check=False, timeout=10).returncode == 0

    def _user(self) -> str | None:
        if os.geteuid() != 0:
            return None
        for name in _UNPRIVILEGED:
            try:
                pwd.getpwnam(name)
            except KeyError:
                continue
            return name
        raise DevError("PostgreSQL does not run as root, and this machine has no user postgres or nobody.")

    def _give_away(self) -> None:
        user = self._user()
        if user is None:
            return
        account = pwd.getpwnam(user)
        for path in (self.directory, self.directory / "password"):
            os.chown(path, account.pw_uid, account.pw_gid)
        if not self._reachable_by(user):
            raise DevError(
                f"PostgreSQL runs as {user} when started by root, and {user} may not enter {self.directory}:"
                f" choose a directory below one that everybody may enter."
            )

    def _reachable_by(self, user: str) -> bool:
        account = pwd.getpwnam(user)
        for parent in self.directory.parents:
            status = parent.stat()
            others = status.st_mode & 0o001
            group = status.st_gid == account.pw_gid and status.st_mode & 0o010
            owner = status.st_uid == account.pw_uid and status.st_mode & 0o100
            if not (others or group or owner):
                return False
        return True

    def _run_as_user(self, *command: str) -> None:
        user = self._user()
        account = pwd.getpwnam(user) if user else None
        process = in_spawning_thread(
            lambda: subprocess.Popen(
                command,
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                user=account.pw_uid if account else None,
                group=account.pw_gid if account else None,
                extra_groups=[] if account else None,
            )
        )
        said, _ = process.communicate(timeout=120)
        if process.returncode != 0:
            lines = said.decode(errors="replace").strip().splitlines()
            raise DevError(f"PostgreSQL's initdb failed: {lines[-1][:300] if lines else process.returncode}")

    def _password(self) -> str:
        return (self.directory / "password").read_text()

    def _sql(self, statement: str) -> None:
        assert self._binaries is not None
        command = [
            str(self._binaries / "psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-h", LOOPBACK, "-p", str(self.port),
            "-U", "offhook", "-d", "postgres", "-c", statement,
        ]  # fmt: skip
        done = subprocess.run(
            command,
            env={**os.environ, "PGPASSWORD": self._password()},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if done.returncode != 0:
            raise DevError(f"PostgreSQL refused {statement!r}: {done.stderr.strip()[:300]}")


def _binaries() -> Path | None:
    """Where `initdb` and `postgres` are: Debian's newest version, or what is on the PATH."""
    versions = [path for path in _DEBIAN.glob("*/bin/initdb") if path.parent.parent.name.isdecimal()]
    if versions:
        return max(versions, key=lambda path: int(path.parent.parent.name)).parent
    found = shutil.which("initdb")
    return Path(found).resolve().parent if found else None
