"""Who sent a request, proven: the configurations whose credentials its signature fits.

Several tenants may hold the same provider account, so several configurations may be proven by one request. A
request that names an account nobody has is checked against credentials that nobody knows: it is refused with
the same answer and after the same work as a forged one, and does not tell which accounts exist.
"""

import secrets
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from offhook.providers.base import (
    HttpAnswer,
    HttpRequest,
    ProviderAdapter,
    SignatureError,
    SignatureFault,
    Verified,
)
from offhook.records import ConfigurationRecord
from webhook_gateway.credentials import CredentialBook
from webhook_gateway.directory import Records

UNKNOWN_ACCOUNT: Final = "unknown-account"
UNREADABLE_CREDENTIALS: Final = "credentials-unreadable"
_MAX_OF_ONE_USER: Final = 32


@dataclass(frozen=True, slots=True)
class Proven:
    """The request is real. `configurations` (at least one) are those it was proven for."""

    configurations: tuple[ConfigurationRecord, ...]
    verified: Verified


@dataclass(frozen=True, slots=True)
class Refused:
    """The request is not believed. `account` is what it claimed, `candidates` the configurations of that account;
    `tried` the URL forms it was compared with."""

    answer: HttpAnswer
    reason: str
    account: str | None
    tried: tuple[str, ...] = ()
    fault: SignatureFault | None = None
    candidates: tuple[ConfigurationRecord, ...] = ()


class Verifier:
    """Proves requests with what the directories know."""

    def __init__(self, records: Records, credentials: CredentialBook) -> None:
        self._records = records
        self._credentials = credentials
        self._decoys: dict[str, Mapping[str, str]] = {}

    def prove(self, adapter: ProviderAdapter, request: HttpRequest, now: float) -> Proven | Refused:
        """Find the configurations of the claimed account and verify. `now` is Unix time in seconds."""
        webhooks = adapter.webhooks
        account = webhooks.claimed_account(request)
        candidates = self._records.configurations_of(adapter.name, account) if account else []
        proven: list[ConfigurationRecord] = []
        verified: Verified | None = None
        fault: SignatureError | None = None
        unreadable = False
        tried: Counter[str] = Counter()
        for configuration in candidates:
            # Bounded for each user, not for all: anybody can write somebody else's account into
            # configurations of his own, and these must not crowd out the real one.
            tried[configuration.user_id] += 1
            if tried[configuration.user_id] > _MAX_OF_ONE_USER:
                continue
            credentials = self._credentials.of(configuration)
            if credentials is None:
                unreadable = True
                continue
            try:
                verified = webhooks.verify(request, credentials, now)
            except SignatureError as error:
                fault = error
            else:
                proven.append(configuration)
        if verified is not None:
            return Proven(tuple(proven), verified)
        if fault is not None:
            return Refused(
                webhooks.unverified_answer(fault.fault), fault.fault.value, account, fault.tried, fault.fault,
                tuple(candidates),
            )  # fmt: skip
        reason = UNREADABLE_CREDENTIALS if unreadable else UNKNOWN_ACCOUNT
        decoy = self._decoy_fault(adapter, request, account, now)
        return Refused(webhooks.unverified_answer(decoy), reason, account, (), decoy, tuple(candidates))

    def _decoy_fault(
        self, adapter: ProviderAdapter, request: HttpRequest, account: str | None, now: float
    ) -> SignatureFault:
        decoy = self._decoys.get(adapter.name)
        if decoy is None:
            # What everybody has: each more token would be one more signature to compute.
            fields = adapter.credentials_model.model_fields.items()
            decoy = {name: secrets.token_hex(32) for name, field in fields if field.is_required()}
            self._decoys[adapter.name] = decoy
        if account is not None:
            # Of the claimed account, or the request would be refused for that alone, before its signature is computed.
            (name,) = [name for name, value in decoy.items() if value == adapter.account_of(decoy)]
            decoy = {**decoy, name: account}
        try:
            adapter.webhooks.verify(request, decoy, now)
        except SignatureError as error:
            return error.fault
        return SignatureFault.WRONG_ACCOUNT  # signed with our own random secrets: cannot be
