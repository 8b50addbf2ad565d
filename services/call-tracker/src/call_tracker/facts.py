"""What is known of a call, as values of a join-semilattice: the vocabulary, and how it is read.

`observing` turns events into facts, `joining` unites them. See `lifecycle` for the theory.

Pure: no I/O, no clock, no randomness. Times are microseconds since 1970 UTC.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple, Protocol, TypeVar

import msgspec

from offhook.events import CallDirection, Party

ORIGINATE_FAILED: Final = "originate-failed"
"""Told: the provider did not accept the call."""

LOST: Final = "lost"
"""Told: the provider was asked and knows no such call; `lost/` and the account that was asked, '' when nobody could be."""

TRANSFER_REQUESTED: Final = "transfer-requested"
TRANSFER_ENDED: Final = "transfer-ended"
TRANSFER_OVER: Final = "transfer-over"
"""Latest: somebody wants the far end put through, and the transfer's id; what became of it (`TransferResult`); the id of the
transfer of which that was told. An id is '' in events that have none."""

HANGUP: Final = "hangup/"
"""Told and latest: somebody asked for the end; `hangup/` and who it was (`Party`)."""

HANGUP_FAILED: Final = "hangup-failed"
HANGUP_OBEYED: Final = "hangup-obeyed"
"""Told and latest: a request to end the call was given up; the call goes on. Told: unless the bridge ended its stream for it."""

MEDIA_STARTED: Final = "media-started"
"""Told: when audio flowed first. Latest: when it began to flow the last time."""

OBSERVED: Final = "observed"
"""Latest: when the provider last said something of the call because it was asked."""

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Order(msgspec.Struct, frozen=True, order=True, array_like=True):
    """Where a fact stands among those that answer the same question; the least counts, field by field."""

    unsequenced: bool
    sequence: int
    untimed: bool
    provider_us: int
    told_us: int
    event_id: str

    @property
    def happened_us(self) -> int:
        """When it happened: by the provider's clock if it told, else when we were told."""
        return self.told_us if self.untimed else self.provider_us


class Detail(msgspec.Struct, frozen=True, array_like=True):
    """One answer to one question."""

    order: Order
    value: str | int = ""


class Origin(msgspec.Struct, frozen=True, array_like=True):
    """What began the call, as one event told it."""

    order: Order
    provider: str
    configuration_id: str
    account: str | None
    provider_call_id: str | None
    direction: CallDirection
    workflow_id: str | None = None
    user_id: str | None = None
    from_number: str | None = None
    to_number: str | None = None
    metadata: dict[str, Any] = {}
    ring_timeout_s: int | None = None
    time_limit_s: int | None = None
    transfer_of: str | None = None


class MediaSession(msgspec.Struct, frozen=True, array_like=True):
    """One audio session with the bridge, as it reported at its end."""

    order: Order
    epoch: int
    caller_audio_ms: int
    agent_audio_ms: int
    ended_by: Party


class Recording(msgspec.Struct, frozen=True, array_like=True):
    """A recording as the recorder told it last; `kept` is False when it was deleted."""

    order: Order
    duration_ms: int = 0
    size_bytes: int = 0
    gaps_ms: tuple[tuple[int, int], ...] = ()
    delete_after: str | None = None
    kept: bool = True


class LegId(NamedTuple):
    """Which leg a provider speaks of."""

    provider: str
    account: str
    provider_call_id: str


class LegFacts(msgspec.Struct, frozen=True, array_like=True):
    """What one leg's provider told. `details` are keyed `status/field`; without status: `/field`.

    `seen_statuses` and `seen_details` are what it answered when it was asked (`reconciled`). They fill what no callback told,
    so that it does not matter for the record whether a callback came or was replaced.
    """

    statuses: dict[str, Detail] = {}
    details: dict[str, Detail] = {}
    seen_statuses: dict[str, Detail] = {}
    seen_details: dict[str, Detail] = {}

    def first(self) -> Order:
        parts = (self.statuses, self.details, self.seen_statuses, self.seen_details)
        return min(detail.order for part in parts for detail in part.values())

    def together(self) -> "LegFacts":
        """All of it as if it had been told; where both know, what was told counts."""
        return LegFacts({**self.seen_statuses, **self.statuses}, {**self.seen_details, **self.details})


class Facts(msgspec.Struct, frozen=True, array_like=True):
    """Everything told about one call: values of a join-semilattice (`join`), `Facts()` at the bottom.

    Of several answers to one question the earliest counts; of `latest` and `recordings`, which may change, the latest.
    What anybody's account may have caused stands under a name that says whose claim it is (`claimed`); read it by `own`.
    """

    origins: dict[str, Origin] = {}
    legs: dict[str, LegFacts] = {}
    told: dict[str, Detail] = {}
    media: dict[str, MediaSession] = {}
    latest: dict[str, Detail] = {}
    recordings: dict[str, Recording] = {}


_encoder = msgspec.json.Encoder(order="deterministic")
_decoder = msgspec.json.Decoder(Facts)


def encode(facts: Facts) -> str:
    """The stored form: equal facts have equal texts."""
    return _encoder.encode(facts).decode()


def decode(text: str) -> Facts:
    """Read `encode`'s text back."""
    return _decoder.decode(text)


EMPTY: Final = Facts()
"""No facts: what an event tells that says nothing about the record."""


def iso(micros: int) -> str:
    return (EPOCH + timedelta(microseconds=micros)).isoformat(timespec="milliseconds")


def leg_key(leg: LegId) -> str:
    return "\n".join(leg)


def parse_leg_key(key: str) -> LegId:
    provider, account, call_id = key.split("\n", 2)
    return LegId(provider, account, call_id)


class _Ordered(Protocol):
    @property
    def order(self) -> Order: ...


OrderedT = TypeVar("OrderedT", bound=_Ordered)


class Beginning(NamedTuple):
    """What is known of the call's beginning; None is unknown."""

    origin: Origin | None  # who asked for it or took it
    dialled: Origin | None  # the provider's acceptance

    @classmethod
    def of(cls, origins: Mapping[str, Origin]) -> "Beginning":
        first = [origins[kind] for kind in ("requested", "received") if kind in origins]
        return cls(min(first, key=lambda origin: origin.order, default=None), origins.get("originated"))

    def known(self) -> list[Origin]:
        return [part for part in self if part is not None]

    @property
    def provider(self) -> str | None:
        return next((part.provider for part in self.known()), None)

    @property
    def account(self) -> str | None:
        return next((part.account for part in self.known() if part.account is not None), None)

    @property
    def provider_call_id(self) -> str | None:
        return next(
            (part.provider_call_id for part in self.known() if part.provider_call_id is not None), None
        )

    def may_claim(self, name: str) -> bool:
        """Whether a fact of this name counts: nobody's claim, or one of the call's own account, by all that is known."""
        whose = name.split("\n")[1:]
        known = (self.provider, self.account)
        return all(mine is None or mine == theirs for mine, theirs in zip(known, whose, strict=False))

    def owns(self, leg: LegId) -> bool:
        """Whether `leg` may be the call's phone leg, by all that is known."""
        known = (self.provider, self.account, self.provider_call_id)
        return all(mine is None or mine == theirs for mine, theirs in zip(known, leg, strict=True))


def claimed(told: Facts, provider: str, account: str) -> Facts:
    """Facts that count only if the call is this account's: their names say whose word they are (see `own`)."""
    whose = f"\n{provider}\n{account}"
    return msgspec.structs.replace(
        told,
        told={name + whose: detail for name, detail in told.told.items()},
        latest={name + whose: detail for name, detail in told.latest.items()},
        media={name + whose: session for name, session in told.media.items()},
    )


def own(facts: Facts) -> Facts:
    """The facts without other legs and without what other accounts claimed, under their plain names. While it is not known
    whose the call is, everybody is believed."""
    beginning = Beginning.of(facts.origins)

    def plain(part: dict[str, OrderedT], newest: bool = False) -> dict[str, OrderedT]:
        mine: dict[str, OrderedT] = {}
        for name, value in part.items():
            if beginning.may_claim(name):
                word = name.partition("\n")[0]
                held = mine.get(word)
                if held is None or (held.order < value.order) is newest:
                    mine[word] = value
        return mine

    return msgspec.structs.replace(
        facts,
        legs={key: leg for key, leg in facts.legs.items() if beginning.owns(parse_leg_key(key))},
        told=plain(facts.told),
        latest=plain(facts.latest, newest=True),
        media=plain(facts.media),
    )


def lost(facts: Facts) -> Detail | None:
    """When the call was first told to be lost. That another account knows nothing of it says nothing: a configuration's
    credentials may have been exchanged for another's while the call lives."""
    account = Beginning.of(facts.origins).account
    told = [
        detail
        for name, detail in facts.told.items()
        if name.startswith(f"{LOST}/") and (account is None or name.removeprefix(f"{LOST}/") in ("", account))
    ]
    return min(told, key=lambda detail: detail.order, default=None)


def asked_to_end(facts: Facts, ended_us: int | None = None) -> list[tuple[Order, Party]]:
    """Who asked for the end, the first one first, without the requests that ended nothing: requests are given up in the order
    in which they were made, each by itself, and before the call ended (`ended_us`). `facts` are `own`."""
    parts = (facts.told, facts.latest)
    asked = sorted(
        {
            (detail.order, Party(name.removeprefix(HANGUP)))
            for part in parts
            for name, detail in part.items()
            if name.startswith(HANGUP)
        }
    )
    failures = {part[HANGUP_FAILED].order for part in parts if HANGUP_FAILED in part}
    failed = [order for order in failures if ended_us is None or order.told_us <= ended_us]
    if not failed or HANGUP_OBEYED in facts.told:
        return asked
    given_up = sum(order < max(failed) for order, _ in asked)
    return asked[min(given_up, 1) if len(failed) == 1 else given_up :]


def begun_us(facts: Facts) -> int:
    """When the call began, for sorting: its beginning if known, else the first thing told. µs since 1970."""
    origin, dialled = Beginning.of(facts.origins)
    if origin is not None:
        return origin.order.told_us
    parts = [detail.order.told_us for detail in facts.told.values()]
    parts += [detail.order.told_us for detail in facts.latest.values()]
    parts += [recording.order.told_us for recording in facts.recordings.values()]
    parts += [session.order.told_us for session in facts.media.values()]
    parts += [leg.first().told_us for leg in facts.legs.values()]
    if dialled is not None:
        parts.append(dialled.order.told_us)
    return min(parts, default=0)
