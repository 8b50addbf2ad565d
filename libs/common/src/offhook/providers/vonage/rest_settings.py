"""A Vonage application and the account's phone numbers, over REST.

https://developer.vonage.com/en/api/application.v2, https://developer.vonage.com/en/api/numbers
Blocking: run it in a thread. Imported by number-sync only.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote

from vonage_http_client.http_client import HttpClient

from offhook.providers.base import AccountFacts, Line, RestError, Settings
from offhook.providers.obstacles import ObstacleCode
from offhook.providers.rest import MAX_ONE_BY_ONE
from offhook.providers.rest_transport import unreadable
from offhook.providers.vonage.application import changed, settings_of
from offhook.providers.vonage.numbers import from_e164, to_e164
from offhook.providers.vonage.private_key import is_pair
from offhook.providers.vonage.rest_client import API_HOST, REST_HOST, VonageApi, ask, words_of

_PAGE_SIZE: Final = 100
_MAX_PAGES: Final = 1000

# What `/number/update` takes: what is left out may be reset, so all that was there is sent again.
_KEPT: Final = (
    "app_id",
    "moHttpUrl",
    "moSmppSysType",
    "messagesCallbackType",
    "messagesCallbackValue",
    "voiceCallbackType",
    "voiceCallbackValue",
    "voiceStatusCallback",
)
_LINKS: Final = ("voiceCallback", "messagesCallback")


class VonageSettings:
    """The application and the numbers of one account. Safe to share between threads."""

    def __init__(self, api: VonageApi) -> None:
        self._api = api
        self._by_token = api.by_token()
        # One client a content type: see `ask`.
        self._json = api.by_secret() if api.has_secret else None
        self._form = api.by_secret() if api.has_secret else None
        self._path = f"/v2/applications/{quote(api.application, safe='')}"

    def check(self) -> AccountFacts:
        """Try the API key with its secret, the application's id, and the private key."""
        application = self._application()
        keys = application.get("keys")
        public_key = keys.get("public_key") if isinstance(keys, dict) else None
        pair = is_pair(self._api.private_key, public_key) if isinstance(public_key, str) else None
        if pair is False:
            raise _not_the_applications("its public half is not the one the application has")
        try:
            ask(self._by_token, "read", "GET", API_HOST, "/v1/calls", {"page_size": 1}, auth="jwt")
        except RestError as error:
            if error.kind == "credentials" and pair is None:
                raise _not_the_applications(str(error)) from error
            raise
        name = application.get("name")
        return AccountFacts(name if isinstance(name, str) else "", self._api.application)

    # --- the application

    def shared(self) -> Settings:
        return settings_of(self._application())

    def set_shared(self, settings: Settings) -> Settings:
        """PUT replaces the whole application: everything it has is sent back, whether we know it or not.

        https://developer.vonage.com/en/api/application.v2#updateApplication
        """
        before = self._application()
        after = changed(before, settings)
        if after == before:
            return settings_of(before)
        body = {name: value for name, value in after.items() if name not in ("id", "_links")}
        answer = self._about_application("write", "PUT", body)
        return settings_of(answer)

    def _application(self) -> dict[str, Any]:
        return self._about_application("read", "GET")

    def _about_application(
        self, operation: Any, method: Any, body: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        try:
            answer = ask(_with_secret(self._json), operation, method, API_HOST, self._path, body)
        except RestError as error:
            if error.kind == "gone":
                code = ObstacleCode.APPLICATION_NOT_FOUND.value
                raise RestError("credentials", code, str(error)) from error
            raise
        if str(answer.get("id", "")).lower() != self._api.application.lower():
            raise unreadable(operation, "Vonage's answer is not the application")
        return answer

    # --- numbers

    def lines(self, e164s: Sequence[str] | None) -> list[Line]:
        if e164s is None or len(e164s) > MAX_ONE_BY_ONE:
            return [line for line in self._listed({}) if e164s is None or line.e164 in set(e164s)]
        found = (self._line_of(e164) for e164 in e164s)
        return [line for line in found if line is not None]

    def _line_of(self, e164: str) -> Line | None:
        # 0: numbers that begin with the pattern.
        listed = self._listed({"pattern": from_e164(e164), "search_pattern": 0})
        return next((line for line in listed if line.e164 == e164), None)

    def set_line(self, line: Line, settings: Settings) -> Line:
        """The answer says no more than "success", so the number is read again."""
        if unknown := settings.keys() - set(_KEPT):
            raise ValueError(f"not settings of a Vonage number: {', '.join(sorted(unknown))}")
        form = {"country": line.country, "msisdn": from_e164(line.e164), **_to_send(line.settings, settings)}
        refusal = self._update(form)
        found = self._line_of(line.e164)
        if found is None:
            raise RestError("gone", "not-found", "Vonage does not list the number in this account")
        if refusal is not None:
            raise refusal
        return found

    def _update(self, form: Mapping[str, str]) -> RestError | None:
        """Returns what Vonage has against it; it answers the same (420) for a number that is somebody else's."""
        try:
            answer = ask(
                _with_secret(self._form), "write", "POST", REST_HOST, "/number/update", form, form=True
            )
        except RestError as error:
            if error.kind in ("rejected", "gone"):
                return RestError("rejected", error.code, str(error))
            raise
        # This API may answer 200 with the true status inside.
        code = str(answer.get("error-code", ""))
        if code == "200":
            return None
        if not code:
            raise unreadable("write", "Vonage's answer does not say whether the number was changed")
        message = f"Vonage answered {code}: {words_of(answer)}"
        if code == "401":
            raise RestError("credentials", code, message)
        if code == "429":
            raise RestError("busy", code, message)
        return RestError("rejected", code, message)

    def _listed(self, filters: Mapping[str, Any]) -> Iterator[Line]:
        """Raises at the end when it was not a whole list: only a whole list says that a number is not there."""
        seen: set[tuple[str, str]] = set()
        count = 0
        for index in range(1, _MAX_PAGES + 1):
            params = {**filters, "size": _PAGE_SIZE, "index": index}
            page = ask(_with_secret(self._json), "read", "GET", REST_HOST, "/account/numbers", params)
            items, counted = page.get("numbers", []), page.get("count", 0)
            if not isinstance(items, list) or not isinstance(counted, int) or (page and "count" not in page):
                # `{}` is how an account without numbers answers; anything else has a count.
                raise unreadable("read", "Vonage's answer is not a page of phone numbers")
            # A number that goes meanwhile moves another one to a page that was read already.
            count = max(count, counted)
            for line in map(_line, items):
                # Short codes are listed and counted too.
                if (line.country, line.reference) not in seen and line.e164.startswith("+"):
                    yield line
                seen.add((line.country, line.reference))
            if items and index * _PAGE_SIZE < count:
                continue
            if len(seen) < count:
                raise unreadable("read", f"Vonage counts {count} phone numbers and lists {len(seen)}")
            return
        raise unreadable("read", f"Vonage's list of phone numbers has more than {_MAX_PAGES} pages")


def _with_secret(client: HttpClient | None) -> HttpClient:
    if client is None:
        code = ObstacleCode.API_SECRET_MISSING.value
        raise RestError("credentials", code, "the API secret is not known")
    return client


def _not_the_applications(message: str) -> RestError:
    return RestError("credentials", ObstacleCode.KEY_NOT_THE_APPLICATIONS.value, message)


def _to_send(found: Settings, changes: Settings) -> dict[str, str]:
    """All of a number's settings after the change, as the update takes them; '' is left out, which empties it."""
    after = {name: found.get(name, "") for name in _KEPT}
    for link in _LINKS:
        # Where the application itself is the callback, it only repeats the link to it, in the old way; sent along it
        # would overrule the new link.
        linked = after[f"{link}Value"] in (after["app_id"], "") or link == "voiceCallback"
        if after[f"{link}Type"] == "app" and linked:
            after[f"{link}Type"] = after[f"{link}Value"] = ""
    return {name: value for name, value in {**after, **changes}.items() if value}


def _line(item: Any) -> Line:
    """A phone number of an answer, or a short code: that is not E.164."""
    fields = item if isinstance(item, dict) else {}
    msisdn, country = fields.get("msisdn"), fields.get("country")
    if not (isinstance(msisdn, str) and msisdn and isinstance(country, str)):
        raise unreadable("read", "Vonage's answer has something that is not a phone number")
    features = fields.get("features")
    voice = not isinstance(features, list) or "VOICE" in features
    settings = {name: str(fields[name]) for name in _KEPT if isinstance(fields.get(name), str)}
    settings.setdefault("app_id", _old_link(settings))
    return Line(to_e164(msisdn), msisdn, msisdn, voice, settings, country)


def _old_link(settings: Settings) -> str:
    return settings.get("voiceCallbackValue", "") if settings.get("voiceCallbackType") == "app" else ""
