"""Looking at Twilio's calls over REST. https://www.twilio.com/docs/voice/api/call-resource

Blocking: run it in a thread. Imported by number-sync only.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final
from urllib.parse import parse_qsl, quote, urlsplit

from offhook.providers.base import RestError
from offhook.providers.rest_transport import unreadable
from offhook.providers.seen import Seen, newest_first
from offhook.providers.twilio.rest_client import TwilioApi, ask
from offhook.providers.twilio.seen import PLACED, seen_of

_API: Final = "/2010-04-01/Accounts"
_PAGE_SIZE: Final = 500
_MAX_PAGES: Final = 20


class TwilioCalls:
    """The calls of one account. Safe to share between threads."""

    def __init__(self, api: TwilioApi) -> None:
        self._path = f"{_API}/{quote(api.account, safe='')}/Calls"
        self._to_read = api.client("read")

    def look_at(self, call_sid: str) -> Seen | None:
        try:
            answer = ask(self._to_read, "read", "GET", f"{self._path}/{quote(call_sid, safe='')}.json")
        except RestError as error:
            if error.kind == "gone":
                return None
            raise
        seen = seen_of(answer)
        if seen is None or seen.provider_call_id != call_sid:
            raise unreadable("read", "Twilio's answer is not the call")
        return seen

    def find(self, from_number: str, to_number: str, after: datetime, before: datetime) -> list[Seen]:
        found: dict[str, Seen] = {}
        # Not by `StartTime`: it counts in days, and a call that waits in the queue has none.
        for page in self._pages({"From": from_number, "To": to_number, "PageSize": str(_PAGE_SIZE)}):
            calls = [_call(item) for item in page]
            for item, seen in zip(page, calls, strict=True):
                if (
                    item.get("direction") == PLACED
                    and (seen.from_number, seen.to_number) == (from_number, to_number)
                    and (seen.began_at is None or after <= seen.began_at <= before)
                ):
                    found[seen.provider_call_id] = seen
            if _goes_back_beyond(after, calls):
                break
        return newest_first(found.values())

    def _pages(self, params: Mapping[str, str]) -> Iterator[list[dict[str, Any]]]:
        path, query = f"{self._path}.json", dict(params)
        for _ in range(_MAX_PAGES):
            try:
                page = ask(self._to_read, "read", "GET", path, params=query)
            except RestError as error:
                if error.kind == "gone":
                    # Not a call is missing here, but the account.
                    raise RestError("credentials", error.code, str(error)) from error
                raise
            items, following = page.get("calls"), page.get("next_page_uri")
            if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
                raise unreadable("read", "Twilio's answer is not a page of calls")
            yield items
            if not following:
                return
            parts = urlsplit(str(following))
            if parts.scheme or parts.netloc or parts.path != path:
                # Never followed: the credentials would go with it.
                raise unreadable("read", "Twilio's next page is at another place")
            query = dict(parse_qsl(parts.query, keep_blank_values=True))
        raise RestError(
            "unavailable",
            "too-many-calls",
            f"more than {_MAX_PAGES * _PAGE_SIZE} calls between the two numbers",
        )


def _call(item: Mapping[str, Any]) -> Seen:
    seen = seen_of(item)
    if seen is None:
        raise unreadable("read", "Twilio's answer has something that is not a call")
    return seen


def _goes_back_beyond(after: datetime, calls: list[Seen]) -> bool:
    """Whether later pages are about earlier times only. Twilio lists the newest first, and does not promise it: believed
    where the page is in that order."""
    times = [seen.began_at for seen in calls if seen.began_at is not None]
    return len(times) > 1 and times == sorted(times, reverse=True) and times[-1] < after
