"""Redis and PostgreSQL over TLS, with certificates of an authority of one's own: believed where it is named, else not."""

import asyncio
import os
import ssl
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trustme

from offhook.database import Database, attempt
from offhook.shared_redis import SharedRedis
from offhook_dev.errors import DevError
from offhook_dev.ports import LOOPBACK
from offhook_dev.postgres import PostgresServer
from offhook_dev.pytest_plugin import real_is_required

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> Path:
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    return tmp_path / "ca.pem"


@asynccontextmanager
async def behind_tls(authority: trustme.CA, port: int) -> AsyncIterator[int]:
    """A port with TLS whose bytes go on to a plain one."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(LOOPBACK).configure_cert(context)
    pipes: set[asyncio.Task[None]] = set()

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass  # the other side has gone, and so does this one
        finally:
            writer.close()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(LOOPBACK, port)
        pipes.update((asyncio.create_task(pipe(reader, back)), asyncio.create_task(pipe(there, writer))))

    server = await asyncio.start_server(accept, LOOPBACK, 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in pipes:
            task.cancel()
        await asyncio.gather(*pipes, return_exceptions=True)


async def test_redis_is_believed_when_its_url_names_its_authority_and_its_name_is_right(
    redis_url: str, authority: trustme.CA, ca_file: Path
) -> None:
    plain = int(redis_url.rpartition(":")[2].partition("/")[0])
    async with behind_tls(authority, plain) as port:
        for url, believed in (
            (f"rediss://{LOOPBACK}:{port}/0?ssl_ca_certs={ca_file}", True),
            (f"rediss://{LOOPBACK}:{port}/0", False),
            (f"rediss://localhost:{port}/0?ssl_ca_certs={ca_file}", False),
        ):
            redis = SharedRedis(url, loss="nothing is remembered", timeout_s=5)
            try:
                await redis.start()
                assert (redis.problem is None) is believed, url
            finally:
                await redis.stop()


class PostgresWithTls(PostgresServer):
    authority: trustme.CA

    def _prepare(self) -> None:
        super()._prepare()
        issued = self.authority.issue_cert(LOOPBACK)
        owner = (self.directory / "password").stat()
        for name, text in (
            ("server.crt", issued.cert_chain_pems[0].bytes()),
            ("server.key", issued.private_key_pem.bytes()),
        ):
            file = self.directory / name
            file.touch(mode=0o600)
            file.write_bytes(text)
            os.chown(file, owner.st_uid, owner.st_gid)

    def _command(self) -> Sequence[str]:
        files = {"ssl_cert_file": "server.crt", "ssl_key_file": "server.key"}
        settings = [
            part for name, file in files.items() for part in ("-c", f"{name}={self.directory / file}")
        ]
        return [*super()._command(), "-c", "ssl=on", *settings]


@pytest.fixture
def postgres(servers_directory: Path, authority: trustme.CA) -> Iterator[PostgresWithTls]:
    server = PostgresWithTls(servers_directory / "postgres-with-tls", fsync=False)
    server.authority = authority
    try:
        server.start_now()
    except DevError as error:
        if real_is_required():
            pytest.fail(str(error), pytrace=False)
        pytest.skip(str(error))
    yield server
    server.stop_now()


async def test_postgresql_is_believed_when_its_authority_is_named_and_its_name_is_right(
    postgres: PostgresWithTls, ca_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = postgres.create_database("numbers") + "?ssl=verify-full"

    async def problem(url: str) -> str | None:
        database = Database(url, migrations=Path(), migration_lock=1, busy_timeout_s=1)
        try:
            return await attempt(database.check)
        finally:
            await database.close()

    monkeypatch.setenv("PGSSLROOTCERT", str(ca_file))
    assert await problem(url) is None
    assert "SSLCertVerificationError" in str(await problem(url.replace(LOOPBACK, "localhost")))
    trustme.CA().cert_pem.write_to_path(ca_file)
    assert "SSLCertVerificationError" in str(await problem(url))
