"""The envelope: CloudEvents 1.0, Kafka protocol binding, binary content mode.

Attributes travel as `ce_*` headers and the data as the JSON value, so a reader can route by header without parsing.
https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/kafka-protocol-binding.md

`ce_id` is *derived* wherever the outside may say a thing twice: the same callback delivered twice has the same id in
every process. Readers drop ids they have stored.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Final, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from offhook.identities import new_id

_SPEC_VERSION: Final = "1.0"
_TYPE_PREFIX: Final = "offhook."


class EventDecodeError(ValueError):
    """A Kafka record is not an event this version knows: says which header or field is wrong."""


class EventData(BaseModel):
    """Base of every event's data. `TYPE` is its name on the wire, without the prefix `offhook.`.

    Unknown fields are ignored, so that an older reader can read a newer writer.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    TYPE: ClassVar[str]
    _registry: ClassVar[dict[str, type["EventData"]]] = {}

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        name = cls.__dict__.get("TYPE")
        if name is None:
            return  # an abstract base such as CallEventData
        if name in EventData._registry:
            raise TypeError(f"two event models are named {name!r}")
        EventData._registry[name] = cls


DataT = TypeVar("DataT", bound=EventData, covariant=True)
_Given = TypeVar("_Given", bound=EventData)


@dataclass(frozen=True, slots=True)
class Event(Generic[DataT]):
    """One event. `time` is when it happened, aware and in UTC; `subject` is the workflow run where there is one.

    `traceparent` is a W3C Trace Context header value, or None.
    """

    id: str
    source: str
    time: datetime
    subject: str
    data: DataT
    traceparent: str | None = None

    @property
    def type(self) -> str:
        return _TYPE_PREFIX + self.data.TYPE


def new_event(
    data: _Given,
    *,
    source: str,
    time: datetime,
    subject: str,
    event_id: str | None = None,
    traceparent: str | None = None,
) -> Event[_Given]:
    """Wrap `data`. Give `event_id` (see `identities.derived_id`) whenever the same fact may be told twice."""
    if time.tzinfo is None:
        raise ValueError("an event's time must be aware")
    return Event(event_id or new_id(), source, time, subject, data, traceparent)


def encode(event: Event[EventData]) -> tuple[bytes, dict[str, str]]:
    """The value and headers of the Kafka record."""
    headers = {
        "ce_specversion": _SPEC_VERSION,
        "ce_id": event.id,
        "ce_type": event.type,
        "ce_source": event.source,
        "ce_time": event.time.isoformat(),
        "ce_subject": event.subject,
        "content-type": "application/json",
    }
    if event.traceparent:
        headers["traceparent"] = event.traceparent
    return event.data.model_dump_json(by_alias=True).encode(), headers


def decode(value: bytes | None, headers: Mapping[str, str] | Iterable[tuple[str, bytes]]) -> Event[EventData]:
    """Read a Kafka record back. Raises `EventDecodeError` with what is wrong."""
    try:
        fields = (
            dict(headers)
            if isinstance(headers, Mapping)
            # To Kafka a header's value may be null.
            else {name: (raw or b"").decode("utf-8") for name, raw in headers}
        )
    except UnicodeDecodeError as error:
        raise EventDecodeError("a header is not UTF-8") from error
    if value is None:
        raise EventDecodeError("the record has no value")
    missing = [name for name in ("ce_id", "ce_type", "ce_source", "ce_time") if not fields.get(name)]
    if missing:
        raise EventDecodeError(f"headers missing: {', '.join(missing)}")
    if fields.get("ce_specversion", _SPEC_VERSION).split(".")[0] != "1":
        raise EventDecodeError(f"CloudEvents version {fields['ce_specversion']} is not known")
    name = fields["ce_type"].removeprefix(_TYPE_PREFIX)
    model = EventData._registry.get(name)
    if model is None:
        raise EventDecodeError(f"event type {fields['ce_type']!r} is not known")
    try:
        time = datetime.fromisoformat(fields["ce_time"])
    except ValueError as error:
        raise EventDecodeError(f"ce_time {fields['ce_time']!r} is not ISO 8601") from error
    if time.tzinfo is None:
        raise EventDecodeError("ce_time has no offset from UTC")
    try:
        data = model.model_validate_json(value)
    except ValidationError as error:
        # Without the input: a value may hold a phone number, and errors are logged.
        problems = "; ".join(
            f"{'.'.join(str(part) for part in problem['loc']) or 'value'}: {problem['msg']}"
            for problem in error.errors(include_input=False, include_url=False)
        )
        raise EventDecodeError(f"{fields['ce_type']}: {problems}") from error
    return Event(
        fields["ce_id"],
        fields["ce_source"],
        time,
        fields.get("ce_subject", ""),
        data,
        fields.get("traceparent"),
    )


def registered_types() -> Mapping[str, type[EventData]]:
    """Every known event model by its name on the wire (for the generated reference and AsyncAPI)."""
    return {_TYPE_PREFIX + name: model for name, model in sorted(EventData._registry.items())}
