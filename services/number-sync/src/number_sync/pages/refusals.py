"""Why a form was not accepted: a sentence for each field, in words for people. Pure.

A field is called what its input is called in the form. '' is the form as a whole.
"""

from collections.abc import Mapping
from typing import Any, Final

from pydantic import ValidationError

from number_sync.errors import InvalidError, NumberSyncError

Refusals = Mapping[str, str]

_WORDS: Final[Mapping[str, str]] = {
    "missing": "This is needed.",
    "string_too_short": "This is needed.",
    "string_too_long": "At most {max_length} characters.",
    "string_pattern_mismatch": "This does not look right.",
    "literal_error": "Choose one of {expected}.",
    "too_long": "At most {max_length} of them.",
}
# What a model says when it is no sentence of ours.
_MODEL_WORDS: Final[Mapping[str, str]] = {
    "Field required": "This is needed.",
    "String should have at least 1 character": "This is needed.",
}


def validation_refusals(error: ValidationError) -> Refusals:
    """One sentence a field, the first objection to it. Never holds a value that was sent."""
    found: dict[str, str] = {}
    for one in error.errors(include_url=False, include_input=False):
        field = ".".join(str(part) for part in one["loc"])
        found.setdefault(field, _words(one["type"], one.get("ctx", {}), one["msg"]))
    return found


def domain_refusals(error: NumberSyncError, *, field: str = "") -> Refusals:
    """What the domain objects to. `field` is where an objection belongs that names none, such as a taken name."""
    return {error.field if isinstance(error, InvalidError) else field: sentence(str(error))}


def sentence(text: str) -> str:
    """As the beginning and the end of a sentence are written."""
    text = _MODEL_WORDS.get(text, text).replace("`", "").strip()
    if not text:
        return text
    return text[:1].upper() + text[1:] + ("" if text[-1] in ".!?)" else ".")


def _words(kind: str, context: Mapping[str, Any], message: str) -> str:
    template = _WORDS.get(kind)
    if template is None:
        return sentence(message.removeprefix("Value error, "))
    return template.format_map({"max_length": "", "expected": "those offered", **context})
