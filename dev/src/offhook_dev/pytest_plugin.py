"""Real servers for tests: `kafka`, `kafka_factory`, `redis_url`, `postgres_url`, `s3_server`; a real browser: `chromium`.

A test that asks for one of them is marked `real`, whether or not it says so. On a developer's machine it is
skipped when its server cannot be had; with `CI` or `OFFHOOK_REQUIRE_REAL=1` in the environment such a skip is
a failure.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

import pytest
from hypothesis import HealthCheck, settings

from offhook_dev import chromium as browsers
from offhook_dev import prometheus
from offhook_dev.alone import Turns
from offhook_dev.errors import DevError
from offhook_dev.kafka import KafkaServer
from offhook_dev.postgres import PostgresServer
from offhook_dev.redis import RedisServer

if TYPE_CHECKING:
    from xdist.remote import Producer
    from xdist.scheduler import LoadFileScheduling
from offhook_dev.s3 import S3Server

_SERVER_FIXTURES: Final = frozenset(
    {
        "kafka",
        "kafka_factory",
        "redis_server",
        "redis_url",
        "postgres_server",
        "postgres_url",
        "chromium",
        "s3_server",
        "prometheus_tools",
    }
)
_KAFKA_FIXTURES: Final = frozenset({"kafka", "kafka_factory"})
# What is downloaded for tests that ask for one of the fixtures.
_DOWNLOADS: Final = (
    (_KAFKA_FIXTURES, KafkaServer.install),
    (frozenset({"chromium"}), browsers.install),
    (frozenset({"s3_server"}), S3Server.install),
    (frozenset({"prometheus_tools"}), prometheus.install),
)
_DIRECTORY: Final = "offhook-tests"
_END_TO_END: Final = "dev/tests/"
# They start no installation, and need nobody's processor but their own.
_ANYBODYS: Final = ("dev/tests/test_manifests", "dev/tests/test_alerts")

KafkaFactory = Callable[[], KafkaServer]

_shared: Final = pytest.StashKey[KafkaServer]()
_turns: Final = pytest.StashKey[Turns]()
_failed: Final = pytest.StashKey[bool]()


def has_failed(item: pytest.Item) -> bool:
    """Whether a part of the test that is over has failed: for what keeps evidence."""
    return item.stash.get(_failed, False)


def real_is_required() -> bool:
    """Whether a `real` test may not be skipped."""
    return bool(os.environ.get("CI")) or os.environ.get("OFFHOOK_REQUIRE_REAL") == "1"


# --- hooks -----------------------------------------------------------------------------------------------------------


@pytest.hookimpl(tryfirst=True)  # before `--hypothesis-profile` chooses
def pytest_configure(config: pytest.Config) -> None:
    # Here, because the first test module that is collected would fix the settings of its tests. A busy machine is no failure.
    settings.register_profile("offhook", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("offhook")
    config.addinivalue_line(
        "markers",
        "real: needs a real server (Kafka, Redis, PostgreSQL, Chromium), which the test starts itself",
    )
    config.addinivalue_line("markers", "alone: needs the whole machine; other workers wait meanwhile")
    if hasattr(config, "workerinput"):
        # One of several workers: each has a folder of its own in one that all have.
        config.stash[_turns] = Turns(Path(config.option.basetemp).parent)


def pytest_unconfigure(config: pytest.Config) -> None:
    if (turns := config.stash.get(_turns, None)) is not None:
        turns.close()


@pytest.hookimpl(wrapper=True, tryfirst=True)  # before a time limit begins
def pytest_runtest_protocol(
    item: pytest.Item, nextitem: pytest.Item | None
) -> Generator[None, object, object]:
    turns = item.config.stash.get(_turns, None)
    if turns is None:
        return (yield)
    alone = _wants_to_be_alone(item)
    turns.enter(alone=alone)
    try:
        return (yield)
    finally:
        # What a module has begun for all its tests goes on between them.
        if not (alone and nextitem is not None and _wants_to_be_alone(nextitem)):
            turns.leave()


def _wants_to_be_alone(item: pytest.Item) -> bool:
    return item.get_closest_marker("alone") is not None


@pytest.hookimpl(tryfirst=True)  # before `-m` chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if _SERVER_FIXTURES.intersection(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.real)
    if "PYTEST_XDIST_WORKER" in os.environ:
        items.sort(
            key=lambda item: not _is_end_to_end(item.nodeid)
        )  # they take longest: somebody begins with them


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: "Producer") -> "LoadFileScheduling | None":
    """With several workers (`--dist loadfile`), a file's tests stay together, and those of the whole installation are one
    worker's: they share what takes long to start, and two installations at a time would be too much for two cores."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            return _END_TO_END if _is_end_to_end(nodeid) else super()._split_scope(nodeid)

    return Scheduling(config, log) if config.getvalue("dist") == "loadfile" else None


def _is_end_to_end(nodeid: str) -> bool:
    return nodeid.startswith(_END_TO_END) and not nodeid.startswith(_ANYBODYS)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Fetch Kafka and Chromium before the first test: a download is not to count against a test's time limit."""
    if session.config.option.collectonly:
        return
    wanted = {name for item in session.items for name in getattr(item, "fixturenames", ())}
    say = _sayer(session.config)
    for fixtures, install in _DOWNLOADS:
        if wanted.intersection(fixtures):
            try:
                install(say=say)
            except DevError as error:
                say(str(error))  # the fixtures meet it again, and decide


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """A test that left the shared broker dead or frozen does not make the next ones fail."""
    server = item.config.stash.get(_shared, None)
    if server is not None and "kafka" in getattr(item, "fixturenames", ()):
        server.resume()
        server.start_now()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    skipped = report.skipped and not hasattr(report, "wasxfail")
    if skipped and real_is_required() and item.get_closest_marker("real") is not None:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        report.outcome = "failed"
        report.longrepr = f"A test of a real server may not be skipped here. {reason}"
    if report.failed:
        item.stash[_failed] = True
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what tests recorded as their `figures` (`record_property`), before pytest's own last words. Also when output
    is captured, and when the tests ran in other processes.
    """
    for reports in terminalreporter.stats.values():
        for report in reports:
            for name, figures in getattr(report, "user_properties", ()):
                if name == "figures" and getattr(report, "when", "") == "call":
                    terminalreporter.section(str(report.nodeid).rpartition("::")[2].replace("_", " "))
                    terminalreporter.write_line(str(figures))


# --- fixtures --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def servers_directory() -> Iterator[Path]:
    """Where this session's servers keep their files. Not below pytest's own temporary directory, which only
    root may enter when root runs the tests, and PostgreSQL then runs as somebody else.
    """
    _sweep()
    directory = Path(tempfile.mkdtemp(prefix=f"{_DIRECTORY}-{os.getpid()}-"))
    directory.chmod(0o711)
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def _shared_kafka(servers_directory: Path, pytestconfig: pytest.Config) -> Iterator[KafkaServer]:
    server = KafkaServer(servers_directory / "kafka", say=_sayer(pytestconfig))
    try:
        server.start_now()
    except DevError as error:
        _do_without(error)
    pytestconfig.stash[_shared] = server
    yield server
    del pytestconfig.stash[_shared]
    server.stop_now()


@pytest.fixture(scope="session")
def kafka(_shared_kafka: KafkaServer) -> KafkaServer:
    """One real broker for all tests: `.bootstrap`. Topics and groups of other tests are on it, so use names
    and ids of your own. To stop, kill or pause a broker, rather take one from `kafka_factory`.
    """
    return _shared_kafka


@pytest.fixture
def kafka_factory(servers_directory: Path, pytestconfig: pytest.Config) -> Iterator[KafkaFactory]:
    """Makes brokers of the test's own, started; `stop`, `start`, `kill`, `pause` and `resume` them at will."""
    made: list[KafkaServer] = []

    def make() -> KafkaServer:
        directory = Path(tempfile.mkdtemp(prefix="kafka-", dir=servers_directory))
        server = KafkaServer(directory, say=_sayer(pytestconfig))
        made.append(server)
        try:
            return server.start_now()
        except DevError as error:
            _do_without(error)

    yield make
    for server in made:
        server.kill()
        shutil.rmtree(server.directory, ignore_errors=True)


@pytest.fixture(scope="session")
def chromium(pytestconfig: pytest.Config) -> Path:
    """The executable of a real Chromium, for `offhook_dev.chromium.launched`."""
    try:
        return browsers.install(say=_sayer(pytestconfig))
    except DevError as error:
        _do_without(error)


@pytest.fixture(scope="session")
def prometheus_tools(pytestconfig: pytest.Config) -> None:
    """A real Prometheus, promtool and amtool, for `offhook_dev.prometheus`."""
    try:
        prometheus.install(say=_sayer(pytestconfig))
    except DevError as error:
        _do_without(error)


@pytest.fixture(scope="session")
def redis_server(servers_directory: Path) -> Iterator[RedisServer]:
    """One real Redis for all tests; prefer `redis_url`, which begins empty."""
    server = RedisServer(servers_directory / "redis")
    try:
        server.start_now()
    except DevError as error:
        _do_without(error)
    yield server
    server.stop_now()


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """The URL of a real Redis that is empty."""
    redis_server.resume()
    redis_server.start_now()
    redis_server.flush()
    return redis_server.url


@pytest.fixture(scope="session")
def postgres_server(servers_directory: Path, pytestconfig: pytest.Config) -> Iterator[PostgresServer]:
    """One real PostgreSQL for all tests; prefer `postgres_url`, a database of the test's own."""
    server = PostgresServer(servers_directory / "postgres", fsync=False, say=_sayer(pytestconfig))
    try:
        server.start_now()
    except DevError as error:
        _do_without(error)
    yield server
    server.stop_now()


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """The URL (`postgresql+asyncpg://…`) of an empty database of the test's own, dropped afterwards."""
    name = f"test_{os.urandom(6).hex()}"
    yield postgres_server.create_database(name)
    postgres_server.drop_database(name)


@pytest.fixture(scope="session")
def s3_server(servers_directory: Path, pytestconfig: pytest.Config) -> Iterator[S3Server]:
    """One real server of the S3 protocol for all tests, with the bucket `offhook_dev.s3.BUCKET`: use a prefix of your own."""
    server = S3Server(servers_directory / "s3", say=_sayer(pytestconfig))
    try:
        server.start_now()
    except DevError as error:
        _do_without(error)
    yield server
    server.stop_now()


# --- behind them -----------------------------------------------------------------------------------------------------


def _do_without(error: DevError) -> NoReturn:
    if real_is_required():
        pytest.fail(str(error), pytrace=False)
    pytest.skip(str(error))


def _sayer(config: pytest.Config) -> Callable[[str], None]:
    """Says a sentence on the terminal although output is captured."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")

    def say(sentence: str) -> None:
        if reporter is not None:
            reporter.ensure_newline()
            reporter.write_line(sentence)

    return say


def _sweep() -> None:
    """Remove the directories of sessions that were killed: their servers died with them, their files did not."""
    for directory in Path(tempfile.gettempdir()).glob(f"{_DIRECTORY}-*-*"):
        pid = directory.name.split("-")[2]
        if pid.isdecimal() and not Path("/proc", pid).exists():
            shutil.rmtree(directory, ignore_errors=True)
