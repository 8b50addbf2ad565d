"""The form of a workflow: its values, and what it sends. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from number_sync.api.models import WorkflowIn
from number_sync.pages.form_values import MOST_HEADERS, header_fields, texts, ticked
from offhook.records import NoAgentFallback
from offhook.web.forms import Form, text_of

_SPARE_ROWS: Final = 2
_TEXTS: Final = (
    "name",
    "agent_url",
    "agent_protocol",
    "sample_rate",
    "fallback.message",
    "fallback.language",
)


@dataclass(frozen=True, slots=True)
class HeaderRow:
    """The inputs of one header for the agent. `mask` stands for its stored value; the value itself is never shown."""

    name_field: str
    value_field: str
    name: str
    mask: str | None


@dataclass(frozen=True, slots=True)
class WorkflowForm:
    """`rows` are shown at once, `more_rows` when somebody asks for them."""

    values: Mapping[str, Any]
    rows: tuple[HeaderRow, ...]
    more_rows: tuple[HeaderRow, ...]


def new_form() -> WorkflowForm:
    fallback = NoAgentFallback()
    values = {
        "name": "",
        "agent_url": "",
        "agent_protocol": "pcm",
        "sample_rate": "16000",
        "record_audio": False,
        "fallback.message": fallback.message,
        "fallback.language": fallback.language,
    }
    return _form(values, {})


def stored_form(row: Any, masked_headers: Mapping[str, str]) -> WorkflowForm:
    """`row` of `workflows`."""
    values = {
        "name": row.name,
        "agent_url": row.agent_url,
        "agent_protocol": row.agent_protocol,
        "sample_rate": str(row.sample_rate),
        "record_audio": row.record_audio,
        "fallback.message": row.fallback.get("message", ""),
        "fallback.language": row.fallback.get("language", ""),
    }
    return _form(values, masked_headers)


def sent_form(form: Form, masked_headers: Mapping[str, str]) -> WorkflowForm:
    """What was sent, to be shown again: without the values of headers, which are secrets."""
    values: dict[str, Any] = dict(texts(form, *_TEXTS))
    values["record_audio"] = ticked(form, "record_audio")
    masks = {name.lower(): mask for name, mask in masked_headers.items()}
    names = [text_of(form, header_fields(position)[0]).strip() for position in range(MOST_HEADERS)]
    rows = tuple(
        HeaderRow(*header_fields(position), name, masks.get(name.lower()))
        for position, name in enumerate(names)
    )
    last = max((position for position, name in enumerate(names) if name), default=-1)
    return WorkflowForm(values, rows[: last + 1 + _SPARE_ROWS], rows[last + 1 + _SPARE_ROWS :])


def workflow_in(form: Form, headers: Mapping[str, str]) -> WorkflowIn:
    """Raises `pydantic.ValidationError`."""
    sent = texts(form, *_TEXTS)
    rate = sent["sample_rate"]
    values: dict[str, Any] = {
        "name": sent["name"],
        "agent_url": sent["agent_url"],
        "agent_protocol": sent["agent_protocol"] or "pcm",
        "sample_rate": int(rate) if rate.isascii() and rate.isdigit() and len(rate) < 9 else rate or 16000,
        "headers": dict(headers),
        "record_audio": ticked(form, "record_audio"),
        "fallback": {
            "message": sent["fallback.message"] or NoAgentFallback().message,
            "language": sent["fallback.language"] or NoAgentFallback().language,
        },
    }
    return WorkflowIn.model_validate(values)


def _form(values: Mapping[str, Any], masked_headers: Mapping[str, str]) -> WorkflowForm:
    known = list(masked_headers.items())
    rows = tuple(
        HeaderRow(*header_fields(position), *(known[position] if position < len(known) else ("", None)))
        for position in range(MOST_HEADERS)
    )
    shown = min(len(known) + _SPARE_ROWS, MOST_HEADERS)
    return WorkflowForm(values, rows[:shown], rows[shown:])
