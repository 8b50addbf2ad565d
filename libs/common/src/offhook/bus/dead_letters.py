"""Dead letters: records that can never be handled, kept as they were, and the fuse that stops a consumer that
finds only such.

A dead letter has the key, the value and the headers of the original record, unchanged, so that it can be sent
back to its topic after a repair; the headers `dl_*` say where it came from and why it is here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from aiokafka import ConsumerRecord

PREFIX: Final = "dl_"
_REASON_LIMIT: Final = 1000


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """Where a dead record came from. `timestamp` is the original record's, in ms since the epoch."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    group: str
    service: str
    reason: str
    time: datetime

    @classmethod
    def of(
        cls, record: ConsumerRecord[bytes, bytes], *, group: str, service: str, reason: str, now: datetime
    ) -> "DeadLetter":
        return cls(
            record.topic, record.partition, record.offset, record.timestamp, group, service,
            reason[:_REASON_LIMIT], now,
        )  # fmt: skip

    def headers(self, original: Sequence[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
        """The headers of the dead letter: the original ones, then ours. Those of an earlier burial are
        dropped.
        """
        kept = [(name, value) for name, value in original if not name.startswith(PREFIX)]
        ours = {
            "topic": self.topic,
            "partition": str(self.partition),
            "offset": str(self.offset),
            "timestamp": str(self.timestamp),
            "group": self.group,
            "service": self.service,
            "reason": self.reason,
            "time": self.time.isoformat(),
        }
        return kept + [(PREFIX + name, text.encode()) for name, text in ours.items()]

    @classmethod
    def read(cls, headers: Sequence[tuple[str, bytes]]) -> "DeadLetter":
        """Read the `dl_*` headers back. Raises `ValueError` when the record is not a dead letter."""
        found = {
            name.removeprefix(PREFIX): value.decode("utf-8", "replace")
            for name, value in headers
            if name.startswith(PREFIX)
        }
        try:
            return cls(
                found["topic"], int(found["partition"]), int(found["offset"]), int(found["timestamp"]),
                found["group"], found["service"], found["reason"], datetime.fromisoformat(found["time"]),
            )  # fmt: skip
        except KeyError as missing:
            raise ValueError(f"not a dead letter: header {PREFIX}{missing.args[0]} is missing") from missing


def original_headers(headers: Sequence[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    """The headers a dead letter had before it was buried."""
    return [(name, value) for name, value in headers if not name.startswith(PREFIX)]


class Fuse:
    """Counts poison records in a row, over batches. It blows at `limit`: then the fault is ours, not the
    records'.
    """

    def __init__(self, limit: int) -> None:
        if limit < 1:
            raise ValueError("a fuse needs a limit of at least 1")
        self.limit = limit
        self._run = 0

    def would_blow(self, outcomes: Sequence[bool]) -> bool:
        """Whether these outcomes (True: handled, False: poison), in order of the batch, reach the limit."""
        run = self._run
        for good in outcomes:
            run = 0 if good else run + 1
            if run >= self.limit:
                return True
        return False

    def count(self, outcomes: Sequence[bool]) -> None:
        """Take in the outcomes of a batch that was committed."""
        for good in outcomes:
            self._run = 0 if good else self._run + 1


def utc_now() -> datetime:
    return datetime.now(UTC)
