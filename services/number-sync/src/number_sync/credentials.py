"""Credentials: checked by the provider's own model, sealed at rest, masked on read.

What fields there are, how they are called and which are secret is data of the provider's adapter.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from pydantic import BaseModel, SecretStr, ValidationError

from number_sync.errors import InvalidError
from number_sync.masks import MaskError, keeps, mask
from offhook.providers.base import credential_fields
from offhook.security.keyring import Keyring

MAX_VALUE: Final = 8192
"""Characters of one credential; an RSA key of 8192 bits in PEM has 6400."""


def accept(
    model: type[BaseModel], given: Mapping[str, str | None], stored: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The credentials that hold when `given` is sent over what is `stored`.

    A field that is not given, or given as a mask, keeps its stored value; None or an empty text removes it.
    Surrounding white space is never part of a credential. Raises `InvalidError` for `credentials.<field>`.
    """
    known = {field.name: field for field in credential_fields(model)}
    for name in given:
        if name not in known:
            raise InvalidError(
                f"credentials.{name[:64]}", f"there is no such field; the fields are {', '.join(known)}"
            )
    merged = dict(stored or {})
    for name, value in given.items():
        if value is None or not value.strip():
            merged.pop(name, None)
            continue
        if len(value) > MAX_VALUE:
            raise InvalidError(f"credentials.{name}", f"at most {MAX_VALUE} characters")
        try:
            if known[name].secret and keeps(value.strip(), merged.get(name)):
                continue
        except MaskError as error:
            raise InvalidError(f"credentials.{name}", str(error)) from None
        merged[name] = value.strip()
    try:
        accepted = model.model_validate(merged)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False, include_context=False)[0]
        field = ".".join(str(part) for part in problem["loc"])
        message = problem["msg"].removeprefix("Value error, ")
        name = f"credentials.{field}" if field else "credentials"
        # From None: the original holds the values in its text.
        raise InvalidError(name, without(message, merged.values())) from None
    return plain(accepted)


def plain(credentials: BaseModel) -> dict[str, str]:
    """The values as text, secrets opened, unset fields left out."""
    values: dict[str, str] = {}
    for name in type(credentials).model_fields:
        value: Any = getattr(credentials, name)
        if isinstance(value, SecretStr):
            value = value.get_secret_value()
        if value is not None and value != "":
            values[name] = str(value)
    return values


def masked(model: type[BaseModel], stored: Mapping[str, str]) -> dict[str, str | None]:
    """What may be shown: every field of the model, None where nothing is stored."""
    return {
        field.name: None
        if (value := stored.get(field.name)) is None
        else (mask(value) if field.secret else value)
        for field in credential_fields(model)
    }


def secrets_in(model: type[BaseModel], values: Mapping[str, str]) -> list[str]:
    """The values that may not be shown."""
    return [values[field.name] for field in credential_fields(model) if field.secret and field.name in values]


def without(text: str, secrets: Iterable[str]) -> str:
    """`text` with every one of `secrets` blotted out."""
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= 4:
            text = text.replace(secret, "•••")
    return text


def seal(keyring: Keyring, values: Mapping[str, str], *, context: str) -> str:
    """Encrypted JSON object; opens only with the same `context` (the id of what it belongs to)."""
    return keyring.seal(json.dumps(values), context=context)


def unseal(keyring: Keyring, sealed: str, *, context: str) -> dict[str, str]:
    """Raises `offhook.errors.KeyringError`."""
    opened: dict[str, str] = json.loads(keyring.open(sealed, context=context))
    return opened
