"""From a record of `telephony.dead-letters.v1` to a letter that can be stored. Pure, and never fails: whatever the topic
holds becomes a letter, or the consumer would have poison of its own."""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol

from offhook.bus import DeadLetter
from offhook.bus.dead_letters import original_headers
from offhook.identities import derived_id, is_id
from offhook.topics import ALL_TOPICS, Topic

REPLAY_HEADER: Final = "replay_of"
"""The header of a record that was sent again: the id of the dead letter."""

MAX_VALUE_BYTES: Final = 256 * 1024
_MAX_KEY_BYTES: Final = 1024
_MAX_HEADERS: Final = 64
_MAX_HEADER_BYTES: Final = 4096
_TOPICS: Final = {topic.name: topic for topic in ALL_TOPICS}

Headers = tuple[tuple[str, bytes], ...]


class Record(Protocol):
    """The part of Kafka's record that is read."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class Letter:
    """A record that could not be handled. `topic` is '' and `value` may be missing where the record is no dead letter as
    the bus writes them. `whole`: key, value and headers are all here, so that it can be sent again. `account` and
    `event_type` are what the record says of itself."""

    id: str
    at: datetime
    topic: str
    partition: int
    offset: int
    recorded_at: datetime | None
    consumer: str
    service: str
    reason: str
    key: bytes | None
    value: bytes | None
    value_bytes: int
    headers: Headers
    whole: bool
    workflow_run_id: str | None
    account: str | None
    event_type: str | None
    replay_of: str | None


def topic_of(name: str) -> Topic | None:
    """The topic a letter may be sent back to; None: to none. What a compacted topic holds is the newest word about its
    key; an older one would undo it."""
    topic = _TOPICS.get(name)
    return (
        topic
        if topic is not None and topic.cleanup == "delete" and topic.key != "key of the record"
        else None
    )


def letter_of(record: Record) -> Letter:
    """The letter of a record."""
    headers = tuple((name, value or b"") for name, value in record.headers)
    try:
        about = DeadLetter.read(headers)
        at = about.time.astimezone(UTC) if about.time.tzinfo is not None else about.time.replace(tzinfo=UTC)
        letter_id = derived_id(
            "dead-letter",
            about.group,
            about.topic,
            str(about.partition),
            str(about.offset),
            str(about.timestamp),
        )
    except (ValueError, OverflowError):
        at = _moment(record.timestamp) or datetime.now(UTC)
        reason = (
            "This record is no dead letter: the headers that say where it came from are missing or wrong."
        )
        about = DeadLetter("", record.partition, record.offset, record.timestamp, "", "", reason, at)
        letter_id = derived_id(
            "dead-letter", record.topic, str(record.partition), str(record.offset), str(record.timestamp)
        )
    kept = original_headers(headers)
    value = record.value
    whole = (
        len(value or b"") <= MAX_VALUE_BYTES
        and len(record.key or b"") <= _MAX_KEY_BYTES
        and len(kept) <= _MAX_HEADERS
        and all(len(name) + len(each) <= _MAX_HEADER_BYTES for name, each in kept)
    )
    named = dict(reversed(kept))
    body = _object(value) if whole else {}
    return Letter(
        id=letter_id,
        at=at,
        topic=_text(about.topic, 200),
        partition=_within(about.partition, 31),
        offset=_within(about.offset, 63),
        recorded_at=_moment(about.timestamp),
        consumer=_text(about.group, 200),
        service=_text(about.service, 200),
        reason=_text(about.reason, 1000),
        key=record.key if whole else (record.key or b"")[:_MAX_KEY_BYTES],
        value=value if whole else (value or b"")[:MAX_VALUE_BYTES],
        value_bytes=len(value or b""),
        headers=tuple(kept) if whole else (),
        whole=whole,
        workflow_run_id=_run_of(about.topic, record.key),
        account=_field(body, "account"),
        event_type=_text(named.get("ce_type", b"").decode("utf-8", "replace"), 200) or None,
        replay_of=_id(named.get(REPLAY_HEADER, b"").decode("utf-8", "replace")),
    )


def pack_headers(letter: Letter) -> str:
    """The headers as JSON text."""
    return json.dumps([[name, base64.b64encode(value).decode()] for name, value in letter.headers])


def unpack_headers(text: str) -> Headers:
    """Read them back."""
    return tuple((name, base64.b64decode(value)) for name, value in json.loads(text))


def _run_of(topic: str, key: bytes | None) -> str | None:
    known = _TOPICS.get(topic)
    if known is None or known.key != "workflow_run_id" or key is None:
        return None
    return _id(key.decode("ascii", "replace"))


def _id(text: str) -> str | None:
    return text if is_id(text) else None


def _object(value: bytes | None) -> dict[str, Any]:
    try:
        found = json.loads(value or b"")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _field(body: dict[str, Any], name: str) -> str | None:
    found = body.get(name)
    return None if found is None else _text(str(found), 200)


def _text(text: str, limit: int) -> str:
    # What no database takes: NUL, and lone surrogates.
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()[:limit]


def _within(number: int, bits: int) -> int:
    return number if 0 <= number < 2**bits else 0


def _moment(at_ms: int) -> datetime | None:
    try:
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at_ms) if at_ms > 0 else None
    except OverflowError:
        return None
