"""A Twilio account and its phone numbers, over REST.

https://www.twilio.com/docs/phone-numbers/api/incomingphonenumber-resource, https://www.twilio.com/docs/iam/api/account
Blocking: run it in a thread. Imported by number-sync only.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final
from urllib.parse import parse_qsl, quote, urlsplit

from offhook.providers.base import AccountFacts, Line, RestError, Settings
from offhook.providers.rest import MAX_ONE_BY_ONE
from offhook.providers.rest_transport import Operation, unreadable
from offhook.providers.twilio.lines import (
    API_KEY_REFUSED,
    AUTH_TOKEN_REFUSED,
    METHODS,
    OVERRULING,
    SUSPENDED,
    URLS,
)
from offhook.providers.twilio.rest_client import TwilioApi, ask

_API: Final = "/2010-04-01/Accounts"
_PAGE_SIZE: Final = 1000
_MAX_PAGES: Final = 100

# `VoiceUrl` is what a request calls it, `voice_url` what an answer calls it.
_WORD: Final = re.compile(r"(?<!^)(?=[A-Z])")
_FIELDS: Final = {name: _WORD.sub("_", name).lower() for name in (*URLS, *METHODS, *OVERRULING)}


class TwilioNumbers:
    """The numbers of one account. Safe to share between threads."""

    def __init__(self, api: TwilioApi) -> None:
        self._api = api
        self._path = f"{_API}/{quote(api.account, safe='')}"
        self._to_read = api.client("read")
        self._to_write = api.client("write")
        self._with_token = api.client("read", by_token=True)

    def check(self) -> AccountFacts:
        """Try the Auth Token, which also proves what Twilio sends, and the API key, if there is one.

        The account itself can be read with the Auth Token only: Twilio keeps it from standard API keys.
        https://www.twilio.com/docs/iam/api-keys
        """
        try:
            account = ask(self._with_token, "read", "GET", f"{self._path}.json")
        except RestError as error:
            raise _credentials_error(error, AUTH_TOKEN_REFUSED) from error
        status, name = account.get("status"), account.get("friendly_name")
        if account.get("sid") != self._api.account or status not in ("active", "suspended", "closed"):
            raise unreadable("read", "Twilio's answer is not the account")
        if status != "active":
            raise RestError("credentials", SUSPENDED, f"Twilio calls the account {status}")
        if self._api.has_key:
            try:
                next(self._pages({"PageSize": "1"}))
            except RestError as error:
                raise _credentials_error(error, API_KEY_REFUSED) from error
        return AccountFacts(name if isinstance(name, str) else "", self._api.account)

    def lines(self, e164s: Sequence[str] | None) -> list[Line]:
        if e164s is None or len(e164s) > MAX_ONE_BY_ONE:
            found = self._listed({})
            return found if e164s is None else [line for line in found if line.e164 in set(e164s)]
        # The filter matches anywhere in a number.
        return [line for e164 in e164s for line in self._listed({"PhoneNumber": e164}) if line.e164 == e164]

    def set_line(self, line: Line, settings: Settings) -> Line:
        if unknown := settings.keys() - set(URLS) - set(METHODS):
            raise ValueError(f"not settings of a Twilio number: {', '.join(sorted(unknown))}")
        # A method that was not set before is restored to what "not set" means.
        data = {name: value or ("POST" if name in METHODS else "") for name, value in settings.items()}
        path = f"{self._path}/IncomingPhoneNumbers/{quote(line.reference, safe='')}.json"
        changed = _line(ask(self._to_write, "write", "POST", path, data=data), "write")
        if changed is None or changed.reference != line.reference:
            raise unreadable("write", "Twilio's answer is another number")
        return changed

    def _listed(self, filters: Mapping[str, str]) -> list[Line]:
        found: dict[str, Line] = {}
        try:
            for page in self._pages({**filters, "PageSize": str(_PAGE_SIZE)}):
                for item in page:
                    if (line := _line(item, "read")) is not None:
                        found[line.reference] = line
        except RestError as error:
            if error.kind == "gone":
                # Not a number is missing here, but the account.
                raise RestError("credentials", error.code, str(error)) from error
            raise
        return list(found.values())

    def _pages(self, params: Mapping[str, str]) -> Iterator[list[Any]]:
        path, query = f"{self._path}/IncomingPhoneNumbers.json", dict(params)
        for _ in range(_MAX_PAGES):
            page = ask(self._to_read, "read", "GET", path, params=query)
            items, following = page.get("incoming_phone_numbers"), page.get("next_page_uri")
            if not isinstance(items, list):
                raise unreadable("read", "Twilio's answer is not a page of phone numbers")
            yield items
            if not following:
                return
            parts = urlsplit(str(following))
            if parts.scheme or parts.netloc or parts.path != path:
                # Never followed: the credentials would go with it.
                raise unreadable("read", "Twilio's next page is at another place")
            query = dict(parse_qsl(parts.query, keep_blank_values=True))
        raise unreadable("read", f"Twilio's list of phone numbers has more than {_MAX_PAGES} pages")


def _credentials_error(error: RestError, code: str) -> RestError:
    if error.kind in ("credentials", "gone") and error.code in (
        "20003",
        "20006",
        "20404",
        "401",
        "403",
        "404",
    ):
        return RestError("credentials", code, str(error))
    return error


def _line(item: Any, operation: Operation) -> Line | None:
    """A phone number of an answer; None for what is none (a short code)."""
    fields = item if isinstance(item, dict) else {}
    sid, number = fields.get("sid"), fields.get("phone_number")
    if not (isinstance(sid, str) and sid and isinstance(number, str) and number):
        raise unreadable(operation, "Twilio's answer has something that is not a phone number")
    if not number.startswith("+"):
        return None
    capabilities = fields.get("capabilities")
    told = capabilities if isinstance(capabilities, dict) else {}
    # `Voice` in older answers.
    can_speak = told.get("voice", told.get("Voice", True)) is not False
    settings = {setting: _text(fields.get(field)) for setting, field in _FIELDS.items()}
    return Line(
        number,
        sid,
        _text(fields.get("friendly_name")),
        can_speak and settings["VoiceReceiveMode"] != "fax",
        settings,
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
