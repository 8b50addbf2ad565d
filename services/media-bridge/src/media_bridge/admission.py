"""Who may open an audio socket: decided from the upgrade request alone, before it is answered. Pure but for
the clock.

The path names workflow, owner and run. The provider's signature must fit a configuration of that owner. What
a signature of Twilio's proves is little (it is the same for every connection to one URL), so the in-band
token is checked as well, when the stream starts (`verify_start`).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from offhook.identities import TELEPHONY_PREFIX, is_id
from offhook.providers import registry
from offhook.providers.base import HttpRequest, ProviderAdapter, SignatureError, StreamStarted
from offhook.records import ConfigurationRecord, WorkflowRecord
from offhook.security.tokens import MediaToken, MediaTokens, TokenError

MAX_TARGET: Final = 2048
# As many as number-sync lets one user have: a signature costs some microseconds to compare with.
_MAX_CANDIDATES: Final = 200
_PATH: Final = re.compile(re.escape(TELEPHONY_PREFIX) + r"/ws/([^/?]+)/([^/?]+)/([^/?]+?)/?", re.ASCII)


class Directory(Protocol):
    """What admission asks the records."""

    def workflow(self, workflow_id: str) -> WorkflowRecord | None: ...

    def configurations_of(self, user_id: str, provider: str) -> list[ConfigurationRecord]: ...

    def credentials(self, configuration: ConfigurationRecord) -> Mapping[str, str] | None: ...

    def origins(self) -> tuple[str, ...]: ...


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why not. `reason` is for the log and the counter, the peer sees the status only."""

    status: int
    reason: str
    provider: str = "unknown"


@dataclass(frozen=True, slots=True)
class Admission:
    """A socket that a provider opened for a call of this workflow. `configurations` are those of the owner
    that the signature fits: one, unless the same account was configured twice."""

    adapter: ProviderAdapter
    workflow: WorkflowRecord
    workflow_run_id: str
    configurations: tuple[ConfigurationRecord, ...]


@dataclass(frozen=True, slots=True)
class Granted:
    """The stream's token fits: this configuration's account has this call."""

    configuration: ConfigurationRecord
    token: MediaToken


def admit(target: bytes, headers: Mapping[str, str], directory: Directory, now: float) -> Admission | Refusal:
    """`target` is the raw request target, `headers` have lower-case names, `now` is Unix time in seconds."""
    if len(target) > MAX_TARGET:
        return Refusal(414, "target-too-long")
    try:
        path, _, query = target.decode("ascii").partition("?")
    except UnicodeDecodeError:
        return Refusal(400, "target-not-ascii")
    match = _PATH.fullmatch(path)
    if match is None or not all(map(is_id, match.groups())):
        return Refusal(404, "no-such-path")
    workflow_id, user_id, workflow_run_id = match.groups()
    origins = directory.origins()
    if not origins:
        return Refusal(503, "no-public-url")
    request = HttpRequest("GET", origins, path, query, headers)
    adapter = registry.recognise(request)
    if adapter is None:
        return Refusal(403, "signature-missing")
    workflow = directory.workflow(workflow_id)
    if workflow is None:
        return Refusal(403, "workflow-unknown", adapter.name)
    if workflow.user_id != user_id:
        return Refusal(403, "foreign-tenant", adapter.name)
    proven, reason = [], "no-configuration"
    for configuration in directory.configurations_of(user_id, adapter.name)[:_MAX_CANDIDATES]:
        credentials = directory.credentials(configuration)
        if credentials is None:
            reason = "credentials-unreadable"
            continue
        try:
            adapter.webhooks.verify(request, credentials, now)
        except SignatureError as error:
            reason = error.fault.value
        else:
            proven.append(configuration)
    if not proven:
        return Refusal(403, reason, adapter.name)
    return Admission(adapter, workflow, workflow_run_id, tuple(proven))


def verify_start(
    admission: Admission, started: StreamStarted, tokens: MediaTokens, now: float
) -> Granted | Refusal:
    """Check the token that came with the stream's start: run, account and call are those of this socket."""
    provider = admission.adapter.name
    try:
        token = tokens.verify(
            started.token,
            workflow_run_id=admission.workflow_run_id,
            account=started.account,
            provider_call_id=started.provider_call_id,
            now=now,
        )
    except TokenError as error:
        return Refusal(403, error.reason.value, provider)
    for configuration in admission.configurations:
        if configuration.account == token.account:
            return Granted(configuration, token)
    return Refusal(403, "token-of-another-account", provider)


def configuration_of(admission: Admission, granted: Granted, known: str) -> ConfigurationRecord:
    """The configuration through which the call runs: `known` is its id, as whoever began the call left it. An owner may have
    configured an account twice, with other rules for calls; where nobody knows, it is the first."""
    own = (each for each in admission.configurations if each.account == granted.token.account)
    return next((each for each in own if each.configuration_id == known), granted.configuration)
