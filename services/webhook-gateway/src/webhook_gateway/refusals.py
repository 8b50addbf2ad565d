"""What is told about a request that was not accepted, beside the reason: what would have been right, and the request
itself, sealed."""

import asyncio
from dataclasses import dataclass
from typing import Final

from offhook.events import NearMiss, WebhookAudited, near_miss
from offhook.providers.base import HttpRequest, ProviderAdapter, SignatureFault
from offhook.records import ConfigurationRecord
from offhook.security.keyring import Keyring
from webhook_gateway.budget import Budget
from webhook_gateway.credentials import CredentialBook
from webhook_gateway.diagnosis import Credentials, Evidence, diagnose
from webhook_gateway.directory import Records
from webhook_gateway.kept_requests import Kind, keep, seal

_MAX_OWN: Final = 3
_MAX_OTHERS: Final = 32


@dataclass(frozen=True, slots=True)
class Refusal:
    """A request that was not accepted. `fault` is None when its signature was right; `candidates` are the configurations of
    the account it names; `at` is the Unix time of its arrival. The ids are those of its path."""

    adapter: ProviderAdapter
    request: HttpRequest
    at: float
    kind: Kind
    fault: SignatureFault | None = None
    account: str | None = None
    candidates: tuple[ConfigurationRecord, ...] = ()
    workflow_run_id: str | None = None
    workflow_id: str | None = None
    user_id: str | None = None


class Refusals:
    """Looks closer at refused requests, in the background and within the budget."""

    def __init__(
        self, records: Records, credentials: CredentialBook, keyring: Keyring, budget: Budget | None = None
    ) -> None:
        self._records = records
        self._credentials = credentials
        self._keyring = keyring
        self._budget = budget or Budget()

    def may_look(self, refusal: Refusal) -> bool:
        """Whether the budget allows for one more; it is spent if so."""
        named = f"{refusal.adapter.name}:{refusal.account}" if refusal.candidates else None
        return self._budget.take(named)

    async def look(self, data: WebhookAudited, refusal: Refusal) -> WebhookAudited:
        """The entry with what was found."""
        kept = keep(
            refusal.request, at=refusal.at, kind=refusal.kind, workflow_run_id=refusal.workflow_run_id,
            workflow_id=refusal.workflow_id, user_id=refusal.user_id,
        )  # fmt: skip
        if kept is None:
            found: tuple[str, ...] = (near_miss(NearMiss.NOT_LOOKED),)
        elif refusal.fault is None:
            found = ()
        else:
            # In a thread: the next call shall not wait for what an attacker has sent.
            found = await asyncio.to_thread(
                diagnose, refusal.adapter, self._evidence(refusal, refusal.fault), refusal.at
            )
        sealed = None if kept is None else seal(kept, self._keyring)
        return data.model_copy(update={"near_misses": found, "sealed_request": sealed})

    def _evidence(self, refusal: Refusal, fault: SignatureFault) -> Evidence:
        # Anybody can write somebody else's account into a configuration of his own. He shall neither crowd out the secret of
        # its holder, nor sign for addresses that the log then calls the provider's.
        holders = [record for record in refusal.candidates if record.verification == "verified"]
        holders = holders or list(refusal.candidates)
        own = [
            credentials
            for record in holders[:_MAX_OWN]
            if (credentials := self._credentials.of(record)) is not None
        ]
        # Of the same users only: nobody shall learn whether another tenant has a certain secret. Of an account that
        # nobody has, only the operator of the installation is told.
        users = {record.user_id for record in holders}
        known = {record.configuration_id for record in refusal.candidates}
        others: list[tuple[str, str, Credentials]] = []
        for record in self._records.configurations_at(refusal.adapter.name, users):
            if record.configuration_id in known:
                continue
            credentials = self._credentials.of(record)
            if credentials is not None:
                others.append((record.configuration_id, record.account, credentials))
            if len(others) >= _MAX_OTHERS:
                break
        return Evidence(
            refusal.request,
            fault,
            refusal.account or "",
            tuple(own),
            tuple(others),
            self._records.former_origins(),
        )
