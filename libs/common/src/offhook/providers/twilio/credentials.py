"""What we must know of a Twilio account."""

from collections.abc import Mapping
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from offhook.providers.credential_fields import Required, Text, Typed


class TwilioCredentials(BaseModel):
    """Credentials of one Twilio account (or sub-account: Twilio signs with the sub-account's own token)."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    account_sid: Annotated[str, StringConstraints(strip_whitespace=True, pattern=r"^AC[0-9a-fA-F]{32}$")] = (
        Field(title="Account SID", description="Starts with AC; on the first page of the Twilio Console.")
    )
    auth_token: Required = Field(
        title="Auth token",
        description="Signs what Twilio sends.",
        repr=False,
        json_schema_extra={"secret": True},
    )
    auth_token_secondary: Text = Field(
        default="", title="Secondary auth token",
        description="Only while the auth token is rotated: both are accepted.",
        repr=False, json_schema_extra={"secret": True},
    )  # fmt: skip
    api_key_sid: Text = Field(
        default="",
        title="API key SID",
        description="Starts with SK. Used for REST calls in place of the auth token.",
    )
    api_key_secret: Text = Field(
        default="", title="API key secret", repr=False, json_schema_extra={"secret": True}
    )
    shared_keys: Annotated[str, StringConstraints(strip_whitespace=True, max_length=2048), Typed] = Field(
        default="", title="Webhook shared keys",
        description="id:secret, separated by commas. For accounts in the shared key beta.",
        repr=False, json_schema_extra={"secret": True},
    )  # fmt: skip

    @model_validator(mode="after")
    def _check_pairs(self) -> "TwilioCredentials":
        if bool(self.api_key_sid) != bool(self.api_key_secret):
            raise ValueError("an API key needs both its SID and its secret")
        for part in filter(None, self.shared_keys.split(",")):
            key_id, _, secret = part.partition(":")
            if not key_id.strip() or not secret.strip():
                raise ValueError("shared keys are written id:secret, separated by commas")
        return self


def account_of(credentials: Mapping[str, str]) -> str:
    """The account's name in Twilio's requests."""
    return credentials["account_sid"]


def auth_tokens(credentials: Mapping[str, str]) -> list[str]:
    """The tokens that may have signed a request, the primary one first."""
    tokens = (credentials.get("auth_token", ""), credentials.get("auth_token_secondary", ""))
    return [token for token in tokens if token]


def shared_keys(credentials: Mapping[str, str]) -> dict[str, str]:
    """SharedKey id to secret."""
    keys: dict[str, str] = {}
    configured = credentials.get("shared_keys")
    if not configured:
        return keys
    for part in configured.split(","):
        key_id, _, secret = part.partition(":")
        if key_id.strip() and secret.strip():
            keys[key_id.strip()] = secret.strip()
    return keys
