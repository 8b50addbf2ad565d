"""The fields of a provider's credentials, read from its model: forms and masking need no code per provider."""

from dataclasses import dataclass

from pydantic import BaseModel


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
