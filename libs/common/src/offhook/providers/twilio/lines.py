"""How a Twilio number is set up so that its calls reach us, and what can be in the way.

https://www.twilio.com/docs/phone-numbers/api/incomingphonenumber-resource
"""

from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qsl

from offhook.providers.base import Line, LineUrls, Obstacle, RestError, Wanted
from offhook.providers.obstacles import ObstacleCode, explained, obstacle, said
from offhook.providers.twilio.retries import with_retries

URLS: Final = ("VoiceUrl", "VoiceFallbackUrl", "StatusCallback")
METHODS: Final = ("VoiceMethod", "VoiceFallbackMethod", "StatusCallbackMethod")
_URL_OF: Final = dict(zip(METHODS, URLS, strict=True))
# What overrules our settings.
OVERRULING: Final = ("VoiceApplicationSid", "TrunkSid", "VoiceReceiveMode")

# Codes of `RestError` that are ours and not Twilio's: which of the credentials is wrong, what the account is.
AUTH_TOKEN_REFUSED: Final = "auth-token"  # noqa: S105 - a code
API_KEY_REFUSED: Final = "api-key"
SUSPENDED: Final = "account-suspended"

# https://www.twilio.com/docs/api/errors: "account is not active" twice.
_SUSPENDED: Final = frozenset({"10001", "20005", SUSPENDED})
_CREDENTIALS: Final = (
    "Copy the Account SID and the Auth Token again from the first page of the Twilio Console (a sub-account has its"
    " own); an API key must belong to the same account."
)


class TwilioLines:
    """`base.Lines` for Twilio."""

    def wanted(self, credentials: Mapping[str, str], urls: LineUrls) -> Wanted:
        return Wanted(
            line={
                "VoiceUrl": with_retries(urls.inbound),
                "VoiceMethod": "POST",
                "VoiceFallbackUrl": with_retries(urls.fallback),
                "VoiceFallbackMethod": "POST",
                "StatusCallback": with_retries(urls.status),
                "StatusCallbackMethod": "POST",
            },
            shared={},
        )

    def obstacle(self, line: Line) -> Obstacle | None:
        # The order is Twilio's: a trunk overrules an application, and either overrules the URLs.
        if trunk := line.settings.get("TrunkSid"):
            return obstacle(
                ObstacleCode.GOVERNED_BY_TRUNK,
                f"The number belongs to the SIP trunk {trunk}: Twilio ignores its voice URLs.",
                "Remove the number from the trunk (Twilio Console, Elastic SIP Trunking, Numbers), or remove it here.",
            )
        if application := line.settings.get("VoiceApplicationSid"):
            return obstacle(
                ObstacleCode.GOVERNED_BY_APPLICATION,
                f"The number is governed by the TwiML App {application}: Twilio ignores its voice URLs.",
                "In the Twilio Console, open the number, and under Voice configure it with Webhook in place of TwiML App.",
            )
        if line.settings.get("VoiceReceiveMode") == "fax":
            return obstacle(
                ObstacleCode.NO_VOICE,
                "The number is set to receive faxes: no voice call reaches it.",
                "In the Twilio Console, open the number and let it accept incoming voice calls.",
            )
        if not line.voice:
            return obstacle(
                ObstacleCode.NO_VOICE,
                "The number has no voice capability at Twilio.",
                "Use a number with the voice capability; this one can be removed here.",
            )
        return None

    def explain(self, error: RestError) -> Obstacle:
        if error.kind == "credentials" and error.code in _SUSPENDED:
            return obstacle(
                ObstacleCode.ACCOUNT_SUSPENDED,
                f"The Twilio account is not active. {said(error)}",
                "Look at the account's notices and its balance in the Twilio Console; a suspended account must be"
                " reactivated there.",
            )
        if error.code == API_KEY_REFUSED:
            return obstacle(
                ObstacleCode.CREDENTIALS_REFUSED,
                f"Twilio does not accept the API key. {said(error)}",
                "Copy the API key's SID and secret again (Twilio Console, API keys; the secret is shown only once), or"
                " leave both empty to use the Auth Token.",
            )
        if error.code == AUTH_TOKEN_REFUSED:
            return obstacle(
                ObstacleCode.CREDENTIALS_REFUSED,
                f"Account SID and Auth Token do not belong together. {said(error)}",
                _CREDENTIALS,
            )
        return explained(
            error,
            "Twilio",
            _CREDENTIALS,
            "Check the number in the Twilio Console under Phone Numbers: it may have been released, or belong to"
            " another account or sub-account.",
        )

    def same(self, setting: str, wanted: str, found: str) -> bool:
        if setting in METHODS:
            # Not set means POST.
            return (wanted.strip().upper() or "POST") == (found.strip().upper() or "POST")
        if setting in URLS:
            return _url(wanted) == _url(found)
        return wanted.strip() == found.strip()

    def url_of(self, setting: str) -> str | None:
        return _URL_OF.get(setting)


def _url(text: str) -> tuple[str, frozenset[tuple[str, frozenset[str]]]]:
    """A URL in parts that can be compared. All but the fragment is signed letter by letter; the fragment is a
    set of settings, and so is each list in it."""
    url, _, fragment = text.strip().partition("#")
    pairs = parse_qsl(fragment, keep_blank_values=True)
    return url, frozenset((name, frozenset(value.split(","))) for name, value in pairs)
