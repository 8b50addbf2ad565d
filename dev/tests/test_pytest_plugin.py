"""The fixtures give real servers, and a real test cannot be skipped unseen."""

import asyncio
import textwrap

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from redis.asyncio import Redis

from offhook_dev.kafka import KafkaServer
from offhook_dev.pytest_plugin import KafkaFactory

pytest_plugins = ["pytester"]


async def _write_and_read(bootstrap: str, topic: str) -> bytes | None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, 1, 1)])
    finally:
        await admin.close()
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", enable_idempotence=True)
    await producer.start()
    try:
        await producer.send_and_wait(topic, b"hello")
    finally:
        await producer.stop()
    return await _read_first(bootstrap, topic)


async def _read_first(bootstrap: str, topic: str) -> bytes | None:
    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=bootstrap, group_id=f"{topic}-readers", auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        record = await asyncio.wait_for(consumer.getone(), 30)
    finally:
        await consumer.stop()
    value: bytes | None = record.value
    return value


async def test_the_broker_takes_and_gives_records(kafka: KafkaServer) -> None:
    assert await _write_and_read(kafka.bootstrap, "plugin-first") == b"hello"


def test_the_shared_broker_may_be_left_dead(kafka: KafkaServer) -> None:
    kafka.kill()


async def test_and_the_next_test_finds_it_alive_with_its_records(kafka: KafkaServer) -> None:
    assert await _write_and_read(kafka.bootstrap, "plugin-second") == b"hello"


async def test_a_broker_of_ones_own_can_be_paused_killed_and_started_again(
    kafka_factory: KafkaFactory,
) -> None:
    broker = kafka_factory()
    assert await _write_and_read(broker.bootstrap, "mine") == b"hello"
    broker.pause()
    with pytest.raises(OSError):  # noqa: PT011 - a time-out or a refused connection
        await asyncio.wait_for(_a_byte_from(broker.port), 0.5)
    broker.resume()
    broker.kill()
    assert not broker.running
    await broker.start()
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap)
    await admin.start()
    try:
        assert "mine" in await admin.list_topics()
    finally:
        await admin.close()


async def _a_byte_from(port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(b"\0\0\0\x0f\0\x03\0\x01\0\0\0\1\0\1r\0\0\0\0")
        return await reader.readexactly(1)
    finally:
        writer.close()


@pytest.mark.parametrize("_", [1, 2])
async def test_redis_is_empty_for_every_test(redis_url: str, _: int) -> None:
    async with Redis.from_url(redis_url) as redis:
        assert await redis.dbsize() == 0
        await redis.set("left", "behind")


@pytest.mark.parametrize("_", [1, 2])
async def test_every_test_has_an_empty_database(postgres_url: str, _: int) -> None:
    connection = await asyncpg.connect(postgres_url.replace("+asyncpg", ""))
    try:
        await connection.execute("CREATE TABLE found (what text)")
    finally:
        await connection.close()


_SKIPPED_REAL = """
    import pytest

    @pytest.mark.real
    def test_real():
        pytest.skip("no server")

    def test_other():
        pytest.skip("not today")
"""


@pytest.mark.parametrize("variable", [{"CI": "true"}, {"OFFHOOK_REQUIRE_REAL": "1"}])
def test_where_real_tests_are_required_their_skip_is_a_failure(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, variable: dict[str, str]
) -> None:
    for name, value in variable.items():
        monkeypatch.setenv(name, value)
    pytester.makepyfile(_SKIPPED_REAL)
    result = pytester.runpytest("-p", "no:asyncio")
    result.assert_outcomes(failed=1, skipped=1)
    result.stdout.fnmatch_lines(["*may not be skipped here*no server*"])


def test_a_machine_without_a_browser_is_told_what_to_install(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("offhook_dev.chromium._executable", lambda: None)
    monkeypatch.setattr("offhook_dev.system_packages.can_install", lambda: False)
    pytester.makepyfile("def test_in_a_browser(chromium): pass")
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.delenv("OFFHOOK_REQUIRE_REAL", raising=False)
    result = pytester.runpytest("-p", "no:asyncio", "-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["*Chromium is missing: install it*apt-get install chromium*"])
    monkeypatch.setenv("OFFHOOK_REQUIRE_REAL", "1")
    pytester.runpytest("-p", "no:asyncio").assert_outcomes(errors=1)


def test_elsewhere_a_real_test_may_be_skipped(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.delenv("OFFHOOK_REQUIRE_REAL", raising=False)
    pytester.makepyfile(_SKIPPED_REAL)
    pytester.runpytest("-p", "no:asyncio").assert_outcomes(skipped=2)


def test_what_asks_for_a_server_is_deselected_by_not_real(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("""
        def test_with(redis_url):
            assert False

        def test_in_a_browser(chromium):
            assert False

        def test_without():
            pass
    """)
    pytester.runpytest("-p", "no:asyncio", "-m", "not real").assert_outcomes(passed=1, deselected=2)


def test_what_hypothesis_tries_may_be_slow_on_a_busy_machine(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CI", raising=False)
    pytester.makepyfile("""
        import time
        from hypothesis import given
        from hypothesis import strategies as st

        @given(st.just(1))
        def test_slow(number):
            time.sleep(0.5)
    """)
    pytester.runpytest_subprocess("-p", "no:asyncio").assert_outcomes(passed=1)


def test_a_test_that_wants_to_be_alone_is(pytester: pytest.Pytester) -> None:
    log = pytester.path / "log"
    common = f"""
        import time, pytest
        def work(name, seconds):
            with open({str(log)!r}, "a") as log:
                print("begin", name, file=log, flush=True)
                time.sleep(seconds)
                print("end", name, file=log, flush=True)
    """
    quiet = """
        @pytest.mark.alone
        @pytest.mark.parametrize("number", range(3))
        def test_quiet(number):
            work("quiet", 0.3)
    """
    busy = """
        @pytest.mark.parametrize("number", range(40))
        def test_busy(number):
            work("busy", 0.05)
    """
    dedent = textwrap.dedent
    pytester.makepyfile(test_busy=dedent(common) + dedent(busy), test_quiet=dedent(common) + dedent(quiet))
    arguments = ("-n", "2", "--dist", "loadfile", "-p", "no:asyncio", "-p", "no:cacheprovider")
    pytester.runpytest_subprocess(*arguments).assert_outcomes(passed=43)
    lines = log.read_text().split("\n")[:-1]
    first = lines.index("begin quiet")
    # All three, and nobody between them.
    assert lines[first : first + 6] == ["begin quiet", "end quiet"] * 3
    assert lines.count("end busy") == 40
