"""What we must know of a Vonage application and its account."""

from collections.abc import Mapping
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

from offhook.providers.credential_fields import Required, Text
from offhook.providers.vonage import private_key

_Pem = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=16384)]


class VonageCredentials(BaseModel):
    """Credentials of one Vonage application. Its webhooks are signed with the account's signature secret."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    # A UUID. As Vonage writes it in its requests: it is compared letter by letter there.
    application_id: Annotated[Required, StringConstraints(to_lower=True)] = Field(
        title="Application ID", description="The application the numbers are linked to."
    )
    private_key: _Pem = Field(
        title="Private key", description="The whole private.key file, from -----BEGIN PRIVATE KEY----- on.",
        repr=False, json_schema_extra={"secret": True, "multiline": True},
    )  # fmt: skip
    api_key: Required = Field(title="API key", description="The account's, on the Dashboard.")
    api_secret: Text = Field(
        default="", title="API secret",
        description="The account's; needed to manage numbers and the application.",
        repr=False, json_schema_extra={"secret": True},
    )  # fmt: skip
    signature_secret: Required = Field(
        title="Signature secret", description="Signs what Vonage sends; on the Dashboard under settings.",
        repr=False, json_schema_extra={"secret": True},
    )  # fmt: skip
    signature_secret_secondary: Text = Field(
        default="", title="Second signature secret",
        description="Only while the signature secret is being changed: both are accepted.",
        repr=False, json_schema_extra={"secret": True},
    )  # fmt: skip

    @field_validator("private_key")
    @classmethod
    def _check_key(cls, value: str) -> str:
        return private_key.normalised(value)


def account_of(credentials: Mapping[str, str]) -> str:
    """The application's name in Vonage's requests."""
    return credentials["application_id"]


def signature_secrets(credentials: Mapping[str, str]) -> list[str]:
    """The secrets that may have signed a request, the current one first."""
    secrets = (credentials.get("signature_secret", ""), credentials.get("signature_secret_secondary", ""))
    return [secret for secret in secrets if secret]
