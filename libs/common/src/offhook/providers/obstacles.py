"""Why a number cannot be as wanted, in words: the codes, and what every provider's REST errors have in common.

A provider's room adds what only it knows: where its console has the setting to look at.
"""

from enum import StrEnum
from typing import Final

from offhook.providers.errors import RestError
from offhook.providers.lines import Obstacle


class ObstacleCode(StrEnum):
    """Every code an `Obstacle` has. Documented for operators in docs/services/number-sync.md."""

    CREDENTIALS_REFUSED = "credentials-refused"
    ACCOUNT_SUSPENDED = "account-suspended"
    KEY_NOT_THE_APPLICATIONS = "key-not-the-applications"
    APPLICATION_NOT_FOUND = "application-not-found"
    API_SECRET_MISSING = "api-secret-missing"  # noqa: S105 - a code
    NUMBER_NOT_OWNED = "number-not-owned"
    GOVERNED_BY_APPLICATION = "governed-by-application"
    GOVERNED_BY_TRUNK = "governed-by-trunk"
    FORWARDED = "forwarded"
    NO_VOICE = "no-voice"
    REJECTED = "rejected"
    RATE_LIMITED = "rate-limited"
    PROVIDER_UNAVAILABLE = "provider-unavailable"
    ANSWER_UNREADABLE = "answer-unreadable"
    NO_ANSWER = "no-answer"
    NO_PUBLIC_URL = "no-public-url"


# The second one: dialling and hanging up.
_UNREADABLE_CODES: Final = frozenset({"answer-unreadable", "unreadable"})


def no_public_url() -> Obstacle:
    """Nothing can be set up while nobody knows where the provider is to call."""
    return Obstacle(
        ObstacleCode.NO_PUBLIC_URL.value,
        "The public address of this installation is not known, so the provider cannot be told where to call.",
        "Set OFFHOOK_PUBLIC_URL to the address providers reach, or start the tunnel whose address is followed.",
    )


def obstacle(code: ObstacleCode, sentence: str, remedy: str) -> Obstacle:
    return Obstacle(code.value, sentence, remedy)


def explained(error: RestError, provider: str, credentials_remedy: str, number_remedy: str) -> Obstacle:
    """What the kind of an error says, where the provider's own code says no more. `provider` is its label."""
    words = said(error)
    if error.kind == "credentials":
        return obstacle(
            ObstacleCode.CREDENTIALS_REFUSED,
            f"{provider} does not accept the credentials. {words}",
            credentials_remedy,
        )
    if error.kind == "gone":
        return obstacle(
            ObstacleCode.NUMBER_NOT_OWNED,
            f"The number is not in this {provider} account. {words}",
            number_remedy,
        )
    if error.kind in ("busy", "too-early"):
        return obstacle(
            ObstacleCode.RATE_LIMITED,
            f"{provider} asks for fewer requests. {words}",
            "Nothing needs to be done: it is tried again more slowly. If it stays so, find out what else uses"
            " this account's API.",
        )
    if error.code in _UNREADABLE_CODES:
        return obstacle(
            ObstacleCode.ANSWER_UNREADABLE,
            f"What came back cannot be {provider}'s answer. {words}",
            f"It is tried again. If it stays so, look for a proxy or firewall between here and {provider}.",
        )
    if error.kind == "unavailable" and error.code != "no-answer":
        return _unavailable(provider, words)
    if error.kind == "unknown-outcome" and error.code.isdigit():
        return _unavailable(provider, words)
    if error.kind in ("unavailable", "unknown-outcome"):
        return obstacle(
            ObstacleCode.NO_ANSWER,
            f"{provider} did not answer. {words}",
            f"It is tried again. If it stays so, check that this machine may reach {provider}'s API by HTTPS.",
        )
    return obstacle(
        ObstacleCode.REJECTED,
        f"{provider} refuses the setting. {words}",
        f"Read what {provider} says about it; check the public address and the number in {provider}'s console.",
    )


def _unavailable(provider: str, words: str) -> Obstacle:
    return obstacle(
        ObstacleCode.PROVIDER_UNAVAILABLE,
        f"{provider} has trouble of its own. {words}",
        f"Nothing needs to be done: it is tried again. {provider}'s status page may say more.",
    )


def said(error: RestError) -> str:
    """The words of an error as a sentence."""
    text = str(error).strip() or "No more is known"
    text = text[0].upper() + text[1:]
    return text if text[-1] in ".!?" else f"{text}."
