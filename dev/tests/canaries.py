"""Canaries: made-up secrets whose every form is looked for, and the places where they are looked for."""

import base64
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, quote_plus

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from redis.asyncio import Redis

# So much from the middle of a secret gives it away: a mask shows its end, a truncated line its beginning.
_CORE: Final = 16
# What is a secret whatever its value: JSON Web Tokens, media tokens, sessions.
SHAPES: Final = {
    "a JSON Web Token": re.compile(rb"\beyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{8,}"),
    "a media token": re.compile(rb"\bm1\.[\w-]{1,64}\.\d{1,12}\.[\w-]+\.[\w-]+\.[\w-]{16,}"),
    "a session": re.compile(rb"\bs1\.[\w-]+\.[0-9a-f]{32}\.\d+\.\d+\.[\w-]+\.[\w-]{16,}"),
    "an API key": re.compile(rb"\bohk_[\w-]{24,}"),
}

Places = dict[str, bytes]
"""What was found, by where it was found."""


@dataclass(frozen=True)
class Canary:
    """A secret of at least 16 characters, by what it is."""

    name: str
    value: str

    def needles(self) -> set[bytes]:
        """Everything in which the secret can be seen: as it is, in base64 at any offset, in hex, quoted for URLs."""
        cores = {core for part in _parts(self.value) for core in [_middle(part)]}
        return {form for core in cores for form in _forms(core)}


@dataclass(frozen=True, slots=True)
class Find:
    """A secret where none may be, with what stands before it."""

    what: str
    place: str
    before: str


def search(canaries: Iterable[Canary], places: Mapping[str, bytes]) -> list[Find]:
    """Every canary, and everything that is shaped like a secret, in every place."""
    needles = [(canary.name, needle) for canary in canaries for needle in canary.needles()]
    finds = []
    for place, content in places.items():
        for name, needle in needles:
            if (at := content.find(needle)) >= 0:
                finds.append(_find(name, place, content, at))
        for name, shape in SHAPES.items():
            if match := shape.search(content):
                finds.append(_find(name, place, content, match.start()))
    return finds


def search_numbers(numbers: Iterable[str], places: Mapping[str, bytes]) -> list[Find]:
    """Whole phone numbers (E.164), with or without their plus."""
    finds = []
    for number in numbers:
        whole = re.compile(rb"(?<!\d)" + number.lstrip("+").encode() + rb"(?!\d)")
        for place, content in places.items():
            if match := whole.search(content):
                finds.append(_find(f"the number {number}", place, content, match.start()))
    return finds


def _find(name: str, place: str, content: bytes, at: int) -> Find:
    return Find(name, place, content[max(0, at - 160) : at].decode("utf-8", "replace"))


def _parts(value: str) -> Iterator[bytes]:
    """A secret of one line is one part; of a PEM file every line is, and so are the bytes it stands for."""
    lines = [line for line in value.splitlines() if line and not line.startswith("-----")]
    yield from (line.encode() for line in lines if len(line) >= _CORE)
    if "PRIVATE KEY-----" in value and "BEGIN" in value:
        yield base64.b64decode("".join(lines))
        numbers: Any = load_pem_private_key(value.encode(), None)
        # Also as a number, as debuggers print keys.
        yield str(numbers.private_numbers().d).encode()


def _middle(part: bytes) -> bytes:
    begin = max(0, (len(part) - _CORE) // 2)
    return part[begin : begin + _CORE]


def _forms(core: bytes) -> Iterator[bytes]:
    yield core
    yield core.hex().encode()
    for shift in range(3):
        # Of base64, only the characters that no neighbouring byte has a share in.
        whole = base64.b64encode(b"\0" * shift + core)
        begin = (shift * 8 + 5) // 6
        stable = whole[begin : (shift + len(core)) * 8 // 6]
        yield stable
        yield stable.translate(bytes.maketrans(b"+/", b"-_"))
    try:
        text = core.decode("ascii")
    except UnicodeDecodeError:
        return
    yield quote(text, safe="").encode()
    yield quote_plus(text).encode()


# --- places ------------------------------------------------------------------------------------------------------------


async def kafka_content(bootstrap: str) -> Places:
    """Key, value and headers of every record of every topic."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        described = await admin.describe_topics()
    finally:
        await admin.close()
    partitions = [
        TopicPartition(topic["topic"], partition["partition"])
        for topic in described
        for partition in topic["partitions"]
        if not topic["is_internal"]
    ]
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)
    await consumer.start()
    places: Places = {}
    try:
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        ends = await consumer.end_offsets(partitions)
        while any([await consumer.position(one) < ends[one] for one in partitions]):
            batches = await consumer.getmany(timeout_ms=500)
            for partition, records in batches.items():
                texts = [
                    b"\n".join(
                        [
                            record.key or b"",
                            record.value or b"",
                            *(name.encode() + b"=" + (value or b"") for name, value in record.headers),
                        ]
                    )
                    for record in records
                ]
                place = f"topic {partition.topic}"
                places[place] = b"\n".join([places.get(place, b""), *texts])
    finally:
        await consumer.stop()
    return places


async def redis_content(url: str) -> Places:
    """Every key of a Redis with its value."""
    places: Places = {}
    async with Redis.from_url(url) as redis:
        readers: dict[bytes, Any] = {
            b"string": redis.get,
            b"hash": redis.hgetall,
            b"set": redis.smembers,
            b"list": lambda key: redis.lrange(key, 0, -1),
            b"zset": lambda key: redis.zrange(key, 0, -1, withscores=True),
            b"stream": redis.xrange,
        }
        async for key in redis.scan_iter(count=1000):
            kind = await redis.type(key)
            if kind == b"none":  # it has expired meanwhile
                continue
            value = await readers[kind](key)
            place = f"redis {key.decode('utf-8', 'replace').partition(':')[0]}…"
            places[place] = b"\n".join([places.get(place, b""), key, *_bytes_of(value)])
    return places


def _bytes_of(value: Any) -> Iterator[bytes]:
    if isinstance(value, bytes):
        yield value
    elif isinstance(value, dict):
        for item in value.items():
            yield from _bytes_of(item)
    elif isinstance(value, list | tuple | set):
        for one in value:
            yield from _bytes_of(one)
    else:
        yield str(value).encode()


def files_below(directory: Path, *patterns: str) -> Places:
    """The bytes of the files that match."""
    found = (path for pattern in patterns for path in directory.rglob(pattern) if path.is_file())
    return {f"file {path.relative_to(directory)}": path.read_bytes() for path in found}


def command_lines(pids: Mapping[str, int | None]) -> Places:
    """What everybody on the machine sees of the processes."""
    return {
        f"command line of {name}": Path(f"/proc/{pid}/cmdline").read_bytes()
        for name, pid in pids.items()
        if pid is not None
    }
