"""How a Vonage number and its application are set up so that calls reach us, and what can be in the way.

A number is linked to an application, and the application has the webhooks of all its numbers.
https://developer.vonage.com/en/api/numbers, https://developer.vonage.com/en/api/application.v2
"""

from collections.abc import Mapping
from typing import Final

from offhook.providers.base import Line, LineUrls, Obstacle, RestError, Wanted
from offhook.providers.obstacles import ObstacleCode, explained, obstacle, said

WEBHOOKS: Final[Mapping[str, tuple[str, str]]] = {
    "answer_url": ("answer_method", "GET"),
    "fallback_answer_url": ("fallback_answer_method", "GET"),
    "event_url": ("event_method", "POST"),
}
"""The voice webhooks of an application, each with the setting of its HTTP method and that method's default."""

SIGNED: Final = "signed_callbacks"

_DEFAULT_METHODS: Final = dict(WEBHOOKS.values())
_URL_OF: Final = {method: url for url, (method, _) in WEBHOOKS.items()}
# These two overrule the application. https://developer.vonage.com/en/api/numbers#updateANumber
_FORWARDING: Final = {"sip": "a SIP address", "tel": "another telephone number"}

_CREDENTIALS: Final = (
    "Copy the API key and the API secret again from the first page of the Vonage Dashboard, and make sure that the"
    " application is in the same account."
)
_KEYS: Final = (
    "Upload the private key that belongs to the application (Vonage Dashboard, Applications, Edit), or generate a"
    " new key pair there, save, and enter the new private key here."
)


class VonageLines:
    """`base.Lines` for Vonage."""

    def wanted(self, credentials: Mapping[str, str], urls: LineUrls) -> Wanted:
        return Wanted(
            line={"app_id": credentials["application_id"]},
            shared={
                "answer_url": urls.inbound,
                "answer_method": "POST",
                "fallback_answer_url": urls.fallback,
                "fallback_answer_method": "POST",
                "event_url": urls.status,
                "event_method": "POST",
                SIGNED: "true",
            },
        )

    def obstacle(self, line: Line) -> Obstacle | None:
        forwarding = line.settings.get("voiceCallbackType", "").lower()
        if forwarding in _FORWARDING:
            return obstacle(
                ObstacleCode.FORWARDED,
                f"Vonage forwards the number's calls to {_FORWARDING[forwarding]}: the application is not asked.",
                "In the Vonage Dashboard, open the number and take the forwarding of voice calls out.",
            )
        if not line.voice:
            return obstacle(
                ObstacleCode.NO_VOICE,
                "The number has no voice capability at Vonage.",
                "Use a number with the voice feature; this one can be removed here.",
            )
        return None

    def explain(self, error: RestError) -> Obstacle:
        if error.code == ObstacleCode.API_SECRET_MISSING:
            return obstacle(
                ObstacleCode.API_SECRET_MISSING,
                "Without the API secret, numbers and the application cannot be read or set up.",
                "Enter the API secret of the account (first page of the Vonage Dashboard), or set the numbers up there"
                " by hand.",
            )
        if error.code == ObstacleCode.APPLICATION_NOT_FOUND:
            return obstacle(
                ObstacleCode.APPLICATION_NOT_FOUND,
                f"The application is not in this Vonage account. {said(error)}",
                "Compare the Application ID with the Vonage Dashboard under Applications, and the API key with the"
                " account it belongs to.",
            )
        if error.code == ObstacleCode.KEY_NOT_THE_APPLICATIONS:
            return obstacle(
                ObstacleCode.KEY_NOT_THE_APPLICATIONS,
                f"The private key is not the application's. {said(error)}",
                _KEYS,
            )
        if error.code == "private-key":
            return obstacle(
                ObstacleCode.CREDENTIALS_REFUSED, "The private key cannot be used to sign.", _KEYS
            )
        return explained(
            error,
            "Vonage",
            _CREDENTIALS,
            "Check the number in the Vonage Dashboard under Numbers: it may have been cancelled, or belong to another"
            " account.",
        )

    def same(self, setting: str, wanted: str, found: str) -> bool:
        if setting in _DEFAULT_METHODS:
            default = _DEFAULT_METHODS[setting]
            return (wanted.strip().upper() or default) == (found.strip().upper() or default)
        if setting in ("app_id", SIGNED):
            # An id is a UUID: its letters have no case.
            return wanted.strip().lower() == found.strip().lower()
        return wanted.strip() == found.strip()

    def url_of(self, setting: str) -> str | None:
        return _URL_OF.get(setting)
