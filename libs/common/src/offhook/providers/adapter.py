"""Everything pure that is special to one provider, in one hand."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel

from offhook.providers.documents import Documents
from offhook.providers.lines import Lines
from offhook.providers.media import MediaServer
from offhook.providers.webhooks import Webhooks


@dataclass(frozen=True, slots=True)
class ProviderAdapter:
    """Everything pure that is special to one provider, in one hand. `registry.PROVIDERS` has one of each.

    `account_of` reads from credentials what the provider's requests name (see `ConfigurationRecord.account`).
    `dtmf_out` is how keys are pressed for the agent: `rest` by `Rest.send_digits`, `in-band` as tones in the audio.
    `closing_is_a_fault`: the provider logs an error when we close the audio of a call that goes on.
    """

    name: str
    label: str
    webhooks: Webhooks
    media_server: Callable[[], MediaServer]
    credentials_model: type[BaseModel]
    account_of: Callable[[Mapping[str, str]], str]
    lines: Lines
    documents: Documents
    dtmf_out: Literal["rest", "in-band"]
    closing_is_a_fault: bool = False
