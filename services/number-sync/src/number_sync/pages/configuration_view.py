"""A configuration as pages show it. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from number_sync.pages.sync_view import state_counts
from number_sync.pages.verification_view import VerificationView, verification_view
from number_sync.verification import Verification
from offhook.identities import INBOUND_FALLBACK_PATH, INBOUND_PATH, status_path
from offhook.providers.base import ProviderAdapter


@dataclass(frozen=True, slots=True)
class ConfigurationView:
    """`counts`: state and number of numbers, those that are not zero."""

    id: str
    name: str
    provider: str
    account: str
    verification: VerificationView
    total: int
    counts: Sequence[tuple[str, int]]
    paused: bool
    default_for_outbound: bool
    repair_drift: bool

    @property
    def url(self) -> str:
        return f"/telephony-configurations/{self.id}"


def configuration_view(
    row: Any,
    *,
    adapter: ProviderAdapter | None,
    verification: Verification,
    counts: Mapping[str, int],
) -> ConfigurationView:
    """`row` of `configurations`; `adapter` None: this version does not know the provider; `counts` by state and `total`."""
    return ConfigurationView(
        id=row.id,
        name=row.name,
        provider=row.provider if adapter is None else adapter.label,
        account=row.account,
        verification=verification_view(verification),
        total=counts.get("total", 0),
        counts=state_counts(counts),
        paused=row.paused,
        default_for_outbound=row.default_for_outbound,
        repair_drift=row.repair_drift,
    )


def webhook_urls(public_url: str | None) -> tuple[tuple[str, str], ...]:
    """What a provider is given, by what it is for; nothing without a public URL."""
    if public_url is None:
        return ()
    return (
        ("Incoming calls", public_url + INBOUND_PATH),
        ("When that fails", public_url + INBOUND_FALLBACK_PATH),
        ("Status of calls", public_url + status_path()),
    )
