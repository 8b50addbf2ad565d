"""The fields of Twilio's requests, empty ones included: they are signed like the others.

https://www.twilio.com/docs/voice/twiml#request-parameters, https://www.twilio.com/docs/voice/api/call-resource#statuscallback
"""

import secrets
from datetime import UTC, datetime
from email.utils import format_datetime

API_VERSION = "2010-04-01"

# Twilio looks the place up by the number; outside North America most of it is empty.
_PLACES = {
    "+1": ("SAN FRANCISCO", "CA", "94105", "US"),
    "+44": ("", "", "", "GB"),
    "+49": ("", "", "", "DE"),
    "+33": ("", "", "", "FR"),
}


def new_sid(prefix: str) -> str:
    """A fresh SID: two letters and 32 hexadecimal digits."""
    return prefix + secrets.token_hex(16)


def place(number: str) -> tuple[str, str, str, str]:
    """City, state, zip and country as Twilio would name them."""
    for prefix in sorted(_PLACES, key=len, reverse=True):
        if number.startswith(prefix):
            return _PLACES[prefix]
    return ("", "", "", "")


def rfc2822(when: datetime) -> str:
    """`Sun, 25 Mar 2018 09:53:19 +0000`: one second's resolution."""
    return format_datetime(when.astimezone(UTC))


def base_fields(
    *, call_sid: str, account_sid: str, from_number: str, to_number: str, status: str, direction: str
) -> dict[str, str]:
    """What every request about a call carries."""
    from_city, from_state, from_zip, from_country = place(from_number)
    # Twilio leaves city and zip of its own numbers empty more often than not.
    _, to_state, _, to_country = place(to_number)
    return {
        "AccountSid": account_sid,
        "ApiVersion": API_VERSION,
        "CallSid": call_sid,
        "CallStatus": status,
        "Called": to_number,
        "CalledCity": "",
        "CalledCountry": to_country,
        "CalledState": to_state,
        "CalledZip": "",
        "Caller": from_number,
        "CallerCity": from_city,
        "CallerCountry": from_country,
        "CallerState": from_state,
        "CallerZip": from_zip,
        "Direction": direction,
        "From": from_number,
        "FromCity": from_city,
        "FromCountry": from_country,
        "FromState": from_state,
        "FromZip": from_zip,
        "To": to_number,
        "ToCity": "",
        "ToCountry": to_country,
        "ToState": to_state,
        "ToZip": "",
    }
