"""The inputs of a provider's credentials, from the metadata of its adapter. Pure.

A secret never goes into a page: of a stored one its mask is shown beside an empty input, and an empty input keeps it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import BaseModel

from offhook.providers.base import credential_fields
from offhook.web.forms import Form, text_of

PREFIX = "credentials."
REMOVE = "remove."
_PATTERN = "String should match pattern"


@dataclass(frozen=True, slots=True)
class CredentialInput:
    """`value` is what a field that is no secret holds; `mask` stands for a stored secret. `removable`: it is stored and
    not needed."""

    name: str
    label: str
    help: str
    secret: bool
    required: bool
    multiline: bool
    value: str
    mask: str | None
    removable: bool

    @property
    def remove_name(self) -> str:
        return REMOVE + self.name


def credential_inputs(
    model: type[BaseModel], stored: Mapping[str, str | None], form: Form | None = None
) -> tuple[CredentialInput, ...]:
    """`stored`: as masked for reading. `form`: what was sent, when it is shown again; its secrets are left out."""
    inputs = []
    for field in credential_fields(model):
        name = PREFIX + field.name
        known = stored.get(field.name)
        value = "" if field.secret else known or ""
        if form is not None and not field.secret:
            value = text_of(form, name)
        inputs.append(
            CredentialInput(
                name=name,
                label=field.label,
                help=field.help,
                secret=field.secret,
                required=field.required,
                multiline=field.multiline,
                value=value,
                mask=known if field.secret else None,
                removable=field.secret and not field.required and known is not None,
            )
        )
    return tuple(inputs)


def sent_credentials(model: type[BaseModel], form: Form) -> dict[str, str | None]:
    """What a form says about the credentials: empty secrets are left out (the stored ones stay), removed ones are None."""
    sent: dict[str, str | None] = {}
    for field in credential_fields(model):
        name = PREFIX + field.name
        if field.secret and not text_of(form, name).strip():
            if text_of(form, REMOVE + name):
                sent[field.name] = None
            continue
        if name in form:
            sent[field.name] = text_of(form, name)
    return sent


def credential_refusals(
    model: type[BaseModel], form: Form, stored: Mapping[str, str | None], refusals: Mapping[str, str]
) -> dict[str, str]:
    """`refusals` of a credentials form, completed: every needed field that is empty, and what a value should look like.

    The domain names one credential at a time, in the words of its model.
    """
    known = {PREFIX + field.name: field for field in credential_fields(model)}
    found = {
        name: "This is needed."
        for name, field in known.items()
        if field.required and stored.get(field.name) is None and not text_of(form, name).strip()
    }
    for name, text in refusals.items():
        if name == PREFIX.removesuffix("."):
            # About several of them at once, such as a key without its secret.
            found[""] = text
        elif name in known and text.startswith(_PATTERN):
            found[name] = f"This does not look right. {known[name].help}".strip()
        else:
            found.setdefault(name, text)
    return found
