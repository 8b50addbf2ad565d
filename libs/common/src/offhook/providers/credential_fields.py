"""The fields of a provider's credentials, read from its model: forms and masking need no code per provider."""

from dataclasses import dataclass
from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, StringConstraints


def _typed(text: str) -> str:
    if text.isascii() and text.isprintable():
        return text
    raise ValueError("there is an invisible or typographic character in it; copy it again, or type it")


Typed: Final = AfterValidator(_typed)
"""For the `Annotated` text of a credential: no provider's has anything but printable ASCII, and its REST API could not be
asked with more. What pasting brings along looks like nothing at all."""

Text = Annotated[str, StringConstraints(strip_whitespace=True, max_length=256), Typed]
Required = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=256), Typed]


@dataclass(frozen=True, slots=True)
class CredentialField:
    """One field of a credentials form. Secret ones are never shown again."""

    name: str
    label: str
    help: str
    secret: bool
    required: bool
    multiline: bool = False


def credential_fields(model: type[BaseModel]) -> tuple[CredentialField, ...]:
    """The fields of a credentials model, in order, for forms and for masking."""
    fields = []
    for name, info in model.model_fields.items():
        extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
        fields.append(
            CredentialField(
                name,
                info.title or name,
                info.description or "",
                bool(extra.get("secret")),
                info.is_required(),
                bool(extra.get("multiline")),
            )
        )
    return tuple(fields)
