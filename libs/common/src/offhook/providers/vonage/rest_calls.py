"""Looking at Vonage's calls over REST. https://developer.vonage.com/en/api/voice

Blocking: run it in a thread. Imported by number-sync only.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import parse_qs, quote, urlsplit

from vonage_http_client.http_client import HttpClient

from offhook.providers.base import RestError
from offhook.providers.rest_transport import unreadable
from offhook.providers.scalars import whole_number
from offhook.providers.seen import Seen, newest_first
from offhook.providers.vonage.rest_client import API_HOST, ask
from offhook.providers.vonage.seen import seen_of

_PATH: Final = "/v1/calls"
_PAGE_SIZE: Final = 100
_MAX_PAGES: Final = 30
# What Vonage calls the start of a call may be its answer.
_LONGEST_RING: Final = timedelta(seconds=120)


class VonageCalls:
    """The calls of one application. As safe to share between threads as `client`, which signs with its token."""

    def __init__(self, client: HttpClient) -> None:
        self._client = client

    def look_at(self, uuid: str) -> Seen | None:
        try:
            path = f"{_PATH}/{quote(uuid, safe='')}"
            answer = ask(self._client, "read", "GET", API_HOST, path, auth="jwt")
        except RestError as error:
            if error.kind == "gone":
                return None
            raise
        seen = seen_of(answer)
        if seen is None or seen.provider_call_id != uuid:
            raise unreadable("read", "Vonage's answer is not the call")
        return seen

    def find(self, from_number: str, to_number: str, after: datetime, before: datetime) -> list[Seen]:
        """There is no filter by number: all legs of that time are read."""
        params = {"date_start": _moment(after), "date_end": _moment(before), "order": "desc"}
        found: dict[str, Seen] = {}
        first: dict[str | None, str] = {}
        for item in self._listed(params):
            seen = seen_of(item)
            if seen is None:
                raise unreadable("read", "Vonage's answer has something that is not a call")
            first[seen.conversation_id] = seen.provider_call_id
            if (
                seen.direction == "outbound"
                and (seen.from_number, seen.to_number) == (from_number, to_number)
                and (seen.began_at is None or after <= seen.began_at <= before + _LONGEST_RING)
            ):
                found[seen.provider_call_id] = seen
        # Every later leg of a conversation was dialled by the instructions of the first one's call.
        placed = [
            seen
            for seen in found.values()
            if seen.conversation_id is None or first[seen.conversation_id] == seen.provider_call_id
        ]
        return newest_first(placed)

    def _listed(self, params: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        index, received = 0, 0
        for _ in range(_MAX_PAGES):
            query = {**params, "page_size": _PAGE_SIZE, "record_index": index}
            page = ask(self._client, "read", "GET", API_HOST, _PATH, query, auth="jwt")
            embedded = page.get("_embedded")
            items = embedded.get("calls") if isinstance(embedded, dict) else None
            count = whole_number(page.get("count"))
            if (
                count is None
                or not isinstance(items, list)
                or not all(isinstance(item, dict) for item in items)
            ):
                raise unreadable("read", "Vonage's answer is not a page of calls")
            yield from items
            received += len(items)
            if not items or received >= count:
                return
            index = _next_index(page) or received
        raise RestError(
            "unavailable",
            "too-many-calls",
            f"more than {_MAX_PAGES * _PAGE_SIZE} calls of the application in that time",
        )


def _next_index(page: Mapping[str, Any]) -> int | None:
    """Where the next page begins by its link. Records and pages have both been counted there, so it is read, if told."""
    links = page.get("_links")
    following = links.get("next") if isinstance(links, dict) else None
    href = following.get("href") if isinstance(following, dict) else None
    if not isinstance(href, str):
        return None
    return whole_number(parse_qs(urlsplit(href).query).get("record_index", [""])[0])


def _moment(time: datetime) -> str:
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
