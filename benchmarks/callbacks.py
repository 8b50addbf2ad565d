"""Status callbacks: verified, acknowledged by Kafka (acks=all), answered. One gateway process on a real broker.

The alternative is what a careful team writes first: a FastAPI route, the official SDK's validator, one awaited produce a
callback. Same broker, same load, same acknowledgement.
"""

import asyncio
import os
import sys
import tempfile
import time
import urllib.parse
from pathlib import Path

from twilio.request_validator import RequestValidator

from benchmarks.bench_stack import ACCOUNT, ORIGIN, TOKEN, account_records, environment, publish
from benchmarks.tables import Section, percentile
from offhook.identities import new_id, status_path
from offhook_dev.kafka import KafkaServer
from offhook_dev.ports import free_port
from offhook_dev.programs import Program
from offhook_dev.redis import RedisServer

SATURATE_WITH = 64
SECONDS = 8.0
STEADY_RATE = 500


def run() -> Section:
    return asyncio.run(_run())


async def _run() -> Section:
    section = Section(
        "Status callbacks of Twilio, one process",
        (
            "server",
            "callbacks/s, as fast as it can",
            f"p50 at {STEADY_RATE}/s, ms",
            f"p99 at {STEADY_RATE}/s, ms",
        ),
    )
    with tempfile.TemporaryDirectory(prefix="offhook-bench-") as directory:
        home = Path(directory)
        kafka, redis = KafkaServer(home / "kafka"), RedisServer(home / "redis")
        await kafka.start()
        await redis.start()
        try:
            env = environment(home, kafka.bootstrap, redis.url)
            await publish(kafka.bootstrap, account_records(env))
            for key, name, program in (
                ("gateway", "webhook-gateway", _gateway(home, env)),
                ("plain", "FastAPI + official SDK + aiokafka", _plain(home, env)),
            ):
                await program.start()
                try:
                    await _fire(program.port, SATURATE_WITH, 2.0)  # warm
                    rate, _ = await _fire(program.port, SATURATE_WITH, SECONDS)
                    _, times = await _fire(program.port, 32, SECONDS, rate=STEADY_RATE)
                finally:
                    await program.stop()
                p50, p99 = percentile(times, 50) * 1000, percentile(times, 99) * 1000
                section.rows.append((name, f"{rate:.0f}", f"{p50:.1f}", f"{p99:.1f}"))
                section.data[key] = {"per_second": rate, "p50_ms": p50, "p99_ms": p99}
        finally:
            await redis.stop()
            await kafka.stop()
    section.notes = [
        "Broker, load generator and server share the machine's cores. Every callback is a different one, signed, and answered",
        "only after the broker's acknowledgement; answers other than 2xx would end the benchmark.",
    ]
    return section


def _gateway(home: Path, env: dict[str, str]) -> Program:
    port = free_port()
    return Program(
        "webhook-gateway",
        [sys.executable, "-m", "webhook_gateway"],
        home,
        port=port,
        ready_url=f"http://127.0.0.1:{port}/readyz",
        env=env | {"OFFHOOK_LISTEN_PORT": str(port)},
    )


def _plain(home: Path, env: dict[str, str]) -> Program:
    port = free_port()
    return Program(
        "plain",
        [sys.executable, "-m", "uvicorn", "benchmarks.plain_gateway:app", "--port", str(port), "--log-level", "warning",
         "--loop", "uvloop", "--http", "httptools", "--no-access-log"],
        home,
        port=port,
        ready_url=f"http://127.0.0.1:{port}/readyz",
        env=env | {"BENCH_ORIGIN": ORIGIN, "BENCH_TOKEN": TOKEN, "PYTHONPATH": os.getcwd()},
    )  # fmt: skip


def _requests(count: int) -> list[bytes]:
    """Signed requests, each of another call."""
    validator = RequestValidator(TOKEN)
    made = []
    for number in range(count):
        run = new_id()
        path = status_path(run)
        fields = {
            "AccountSid": ACCOUNT, "CallSid": f"CA{number:032x}", "CallStatus": "ringing", "SequenceNumber": "1",
            "Direction": "outbound-api", "Timestamp": "Sun, 25 Mar 2018 09:53:19 +0000", "ApiVersion": "2010-04-01",
            "CallbackSource": "call-progress-events",
            **dict.fromkeys(("Called", "Caller", "From", "To"), "+15550001111"),
            **{f"{name}{part}": "" for name in ("Called", "Caller", "From", "To") for part in ("City", "State", "Zip")},
        }  # fmt: skip
        body = urllib.parse.urlencode(fields)
        signature = validator.compute_signature(ORIGIN + path, fields)
        made.append(
            (
                f"POST {path} HTTP/1.1\r\nHost: voice.example.com\r\nX-Twilio-Signature: {signature}\r\n"
                f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(body)}\r\n\r\n{body}"
            ).encode()
        )
    return made


async def _fire(
    port: int, connections: int, seconds: float, *, rate: float | None = None
) -> tuple[float, list[float]]:
    """Callbacks over kept-alive connections for so long: answered per second, and each one's time in s.

    With a `rate`, callbacks are due at fixed times, and a late one counts from when it was due.
    """
    requests = await asyncio.to_thread(_requests, 4000)
    times: list[float] = []
    begun = time.perf_counter()
    sent = 0

    async def one_connection(index: int) -> None:
        nonlocal sent
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        turn = index
        while True:
            due = time.perf_counter()
            if rate is not None:
                due = begun + turn / rate
                turn += connections
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
            if time.perf_counter() - begun > seconds:
                break
            writer.write(requests[sent % len(requests)])
            sent += 1
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 2"):
                raise RuntimeError(f"the server answered {head[:80]!r}")
            lower = head.lower()
            if b"content-length:" in lower:
                length = int(lower.split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
                await reader.readexactly(length)
            times.append(time.perf_counter() - due)
        writer.close()

    async with asyncio.TaskGroup() as group:
        for index in range(connections):
            group.create_task(one_connection(index))
    return len(times) / (time.perf_counter() - begun), times
