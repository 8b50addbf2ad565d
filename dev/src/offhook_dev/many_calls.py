"""Many finished calls in a call-tracker's PostgreSQL at once, as an installation has them after some weeks.

The same seed gives the same calls. They have records and no events: for lists, filters and figures, at their true size.
"""

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import asyncpg  # type: ignore[import-untyped]

from offhook.events import CallStatus, Party
from offhook.records import CallState

DAYS: Final = 30
_NO_FACTS: Final = "[{},{},{},{}]"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_COLUMNS: Final = (
    "workflow_run_id", "revision", "facts", "record", "began_us", "user_id", "workflow_id", "configuration_id",
    "provider", "provider_call_id", "direction", "from_number", "to_number", "status", "active", "end_reason",
    "answer_ms",
)  # fmt: skip
_ENDS: Final = (
    (40, CallStatus.COMPLETED, "caller-hung-up", Party.CALLER),
    (25, CallStatus.COMPLETED, "agent-hung-up", Party.AGENT),
    (12, CallStatus.COMPLETED, "callee-hung-up", Party.CALLEE),
    (2, CallStatus.COMPLETED, "agent-unreachable", Party.PLATFORM),
    (9, CallStatus.NO_ANSWER, "no-answer", Party.CALLEE),
    (6, CallStatus.BUSY, "busy", Party.CALLEE),
    (3, CallStatus.CANCELED, "canceled", Party.CALLER),
    (2, CallStatus.FAILED, "carrier-failure", Party.CARRIER),
    (1, CallStatus.FAILED, "invalid-number", Party.CARRIER),
)
WORKFLOWS: Final = tuple(f"workflow-{number}" for number in range(12))


def calls(count: int, *, user_id: str, until: datetime, seed: int = 4) -> Iterator[tuple[CallState, int]]:
    """Records of calls that began within the `DAYS` before `until`, newest first, and ms until they were answered."""
    dice = random.Random(seed)  # noqa: S311 - made-up calls
    weights = [weight for weight, *_ in _ENDS]
    own = [f"+1415555{number:04d}" for number in range(100, 120)]
    step = timedelta(days=DAYS) / count
    for number in range(count):
        began = until - step * (number + dice.random())
        _, status, reason, party = dice.choices(_ENDS, weights)[0]
        outbound = dice.random() < 0.4
        provider = "vonage" if dice.random() < 0.3 else "twilio"
        person = f"+{dice.choice(('1212', '4420', '4930', '8190'))}{dice.randrange(10**7):07d}"
        line = dice.choice(own)
        waited = timedelta(milliseconds=dice.randrange(300, 25_000 if outbound else 2500))
        talked = timedelta(milliseconds=int(dice.lognormvariate(4, 1) * 1000))
        answered = began + waited if status is CallStatus.COMPLETED else None
        ended = began + waited + (talked if answered else timedelta())
        record = CallState(
            workflow_run_id=f"{dice.getrandbits(128):032x}",
            workflow_id=dice.choice(WORKFLOWS),
            user_id=user_id,
            configuration_id=f"configuration-{provider}",
            provider=provider,
            provider_call_id=f"CA{dice.getrandbits(128):032x}",
            direction="outbound" if outbound else "inbound",
            from_number=line if outbound else person,
            to_number=person if outbound else line,
            status=status,
            statuses=(CallStatus.INITIATED, CallStatus.RINGING, *([CallStatus.ANSWERED] if answered else []), status),
            end_reason=reason,
            ended_by=party,
            requested_at=began.isoformat(timespec="milliseconds"),
            ringing_at=began.isoformat(timespec="milliseconds"),
            answered_at=answered.isoformat(timespec="milliseconds") if answered else None,
            ended_at=ended.isoformat(timespec="milliseconds"),
            duration_s=round(talked.total_seconds()) if answered else 0,
            ring_ms=waited // timedelta(milliseconds=1),
            talk_ms=talked // timedelta(milliseconds=1) if answered else None,
            metadata={"order": number},
        )  # fmt: skip
        yield record, waited // timedelta(milliseconds=1)


async def fill(url: str, count: int, *, user_id: str, until: datetime, seed: int = 4) -> None:
    """Put the calls into the migrated database at `url` (SQLAlchemy's form), and let it look at them."""
    connection = await asyncpg.connect(url.replace("postgresql+asyncpg://", "postgresql://"))
    try:
        rows: list[tuple[Any, ...]] = []
        numbers: set[str] = set()
        for record, waited_ms in calls(count, user_id=user_id, until=until, seed=seed):
            assert record.requested_at is not None
            began = datetime.fromisoformat(record.requested_at)
            rows.append(
                (
                    record.workflow_run_id, 1, _NO_FACTS, record.model_dump_json(),
                    (began - _EPOCH) // timedelta(microseconds=1), user_id, record.workflow_id,
                    record.configuration_id, record.provider, record.provider_call_id, record.direction,
                    record.from_number, record.to_number, record.status.value, False, record.end_reason,
                    waited_ms if record.answered_at else None,
                )
            )  # fmt: skip
            numbers.update(number for number in (record.from_number, record.to_number) if number)
        await connection.copy_records_to_table("calls", records=rows, columns=_COLUMNS)
        pairs = [(user_id, number, number[::-1]) for number in sorted(numbers)]
        await connection.executemany(
            "INSERT INTO call_numbers (user_id, number, backwards) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
            pairs,
        )
        await connection.execute("VACUUM ANALYZE calls")
        await connection.execute("VACUUM ANALYZE call_numbers")
    finally:
        await connection.close()
