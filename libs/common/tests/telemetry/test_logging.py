"""A log line says which call it is about and holds no secret, whoever wrote it."""

import asyncio
import json
import logging as stdlib_logging
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from opentelemetry import trace
from pydantic import SecretStr

from offhook.settings import ServiceSettings
from offhook.telemetry import logging, tracing


def settings(**changed: Any) -> ServiceSettings:
    return ServiceSettings.model_construct(**{"log_format": "json", "log_level": "info", **changed})


@pytest.fixture(autouse=True)
def leave_logging_as_it_was() -> Iterator[None]:
    root = stdlib_logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    stdlib_logging.captureWarnings(False)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def configured(**changed: Any) -> Any:
    logging.configure("media-bridge", settings(**changed))
    return structlog.get_logger("media_bridge.session")


def test_a_line_is_json_with_time_level_service_and_logger(capsys: pytest.CaptureFixture[str]) -> None:
    configured().info("agent connected", attempt=1)
    (line,) = lines(capsys)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "agent connected",
        "attempt": 1,
        "level": "info",
        "logger": "media_bridge.session",
        "service": "media-bridge",
    }


def test_secrets_and_numbers_do_not_reach_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    configured().warning(
        "call from +14155551234 refused",
        auth_token="0123456789abcdef",
        from_number="+14155551234",
        headers={"Authorization": "Bearer abcdef123456"},
        setting=SecretStr("hidden"),
    )
    written = capsys.readouterr().err
    for secret in ("+14155551234", "0123456789abcdef", "abcdef123456", "hidden"):
        assert secret not in written
    assert "+•••1234" in written


def test_an_id_of_digits_only_is_not_taken_for_a_phone_number(capsys: pytest.CaptureFixture[str]) -> None:
    configured().info("call", user_id="10000000001", note="10000000001")
    line = json.loads(capsys.readouterr().err)
    assert (line["user_id"], line["note"]) == ("10000000001", "•••0001")


def test_at_debug_numbers_are_whole_and_secrets_still_are_not(capsys: pytest.CaptureFixture[str]) -> None:
    configured(log_level="debug").debug("dialling", to="+14155551234", token="0123456789")
    (line,) = lines(capsys)
    assert line["to"] == "+14155551234"
    assert line["token"] == "[redacted]"


def test_what_libraries_log_takes_the_same_way(capsys: pytest.CaptureFixture[str]) -> None:
    configured()
    stdlib_logging.getLogger("some.library").warning("token=%s for %s", "abcdef123456", "+14155551234")
    stdlib_logging.getLogger("aiokafka.consumer").info("joined the group")
    (line,) = lines(capsys)
    assert line["event"] == "token=[redacted] for +•••1234"
    assert (line["level"], line["logger"], line["service"]) == ("warning", "some.library", "media-bridge")


def test_a_traceback_is_redacted_and_bounded(capsys: pytest.CaptureFixture[str]) -> None:
    log = configured()
    try:
        raise RuntimeError("cannot reach postgresql://user:hunter2@db/x for +14155551234 " + "x" * 100_000)
    except RuntimeError:
        log.exception("it failed")
    written = capsys.readouterr().err
    assert "RuntimeError" in written
    assert "hunter2" not in written
    assert "+14155551234" not in written
    assert len(written) < 10_000


def test_below_the_level_nothing_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    log = configured(log_level="warning")
    log.info("quiet")
    stdlib_logging.getLogger("some.library").info("quiet too")
    assert lines(capsys) == []


async def test_lines_of_a_call_name_it_and_calls_do_not_mix(capsys: pytest.CaptureFixture[str]) -> None:
    log = configured()

    async def one_call(run: str, user: str) -> None:
        logging.bind_call(run, user)
        await asyncio.sleep(0)
        log.info("in the call")
        await asyncio.create_task(a_part_of_it())

    async def a_part_of_it() -> None:
        log.info("in a task of the call")

    await asyncio.gather(one_call("r1", "anna"), one_call("r2", "bert"))
    log.info("outside")
    told = [(line["event"], line.get("workflow_run_id"), line.get("user_id")) for line in lines(capsys)]
    assert sorted(told, key=str) == [
        ("in a task of the call", "r1", "anna"),
        ("in a task of the call", "r2", "bert"),
        ("in the call", "r1", "anna"),
        ("in the call", "r2", "bert"),
        ("outside", None, None),
    ]


def test_a_line_of_a_call_names_its_trace_whether_or_not_a_span_is_open(
    capsys: pytest.CaptureFixture[str],
) -> None:
    log = configured()
    trace_id = tracing.call_trace_id("r1")
    log.info("named", workflow_run_id="r1")
    with logging.bind_call("r1", "anna"):
        log.info("bound")
        logging.bind_user("bert")
        log.info("whose")
        with trace.use_span(trace.NonRecordingSpan(tracing.call_span_context("r1"))):
            log.info("in a span of the call")
        with trace.use_span(trace.NonRecordingSpan(tracing.call_span_context("r2"))):
            log.info("in a request's span")
    with trace.use_span(trace.NonRecordingSpan(tracing.call_span_context("r2"))):
        log.info("of no call")
    log.info("nothing")
    named, bound, whose, inside, request, other, nothing = lines(capsys)
    assert [line["trace_id"] for line in (named, bound, whose, inside, request)] == [trace_id] * 5
    assert (bound["user_id"], whose["user_id"]) == ("anna", "bert")
    assert inside["span_id"] == f"{tracing.call_span_context('r1').span_id:016x}"
    assert "span_id" not in request | bound
    assert other["trace_id"] == tracing.call_trace_id("r2")
    assert "trace_id" not in nothing


def test_a_with_block_ends_the_binding_and_brings_the_outer_one_back(
    capsys: pytest.CaptureFixture[str],
) -> None:
    log = configured()
    with logging.bind_call("outer", "anna"):
        with logging.bind_call("inner"):
            log.info("1")
        log.info("2")
    log.info("3")
    assert [line.get("workflow_run_id") for line in lines(capsys)] == ["inner", "outer", None]


def test_configuring_again_replaces_what_was(capsys: pytest.CaptureFixture[str]) -> None:
    configured()
    configured().info("once")
    assert len(lines(capsys)) == 1


def test_on_a_console_lines_are_for_people() -> None:
    program = """
from offhook.settings import ServiceSettings
from offhook.telemetry import logging, tracing
import structlog
logging.configure("call-tracker", ServiceSettings.model_construct(log_format="console", log_level="info"))
structlog.get_logger("x").info("call ended", workflow_run_id="r1", secret="s3cret")
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env={**os.environ}
    )
    assert "call ended" in done.stderr
    assert "workflow_run_id=r1" in done.stderr
    assert "trace_id" not in done.stderr  # there is none to look at
    assert "s3cret" not in done.stderr
