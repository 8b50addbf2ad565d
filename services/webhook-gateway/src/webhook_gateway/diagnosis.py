"""What would have made a refused request a real one. Pure, bounded, and only for the operator's eyes.

Theory of operation. A signature cannot be read backwards, but it can be tried: each *guess* is the same request as it
may have been when the provider signed it (another base URL, a path with a slash more, the body before a proxy changed
its line ends), our clock moved, or another configuration's secret. Every guess goes through the adapter's own `verify`,
so comparisons are in constant time and nothing here knows how a provider signs. The first guess of its kind that fits is
a *near miss* (`offhook.events.NearMiss`).

It proves nothing: a request is refused whatever is found here. It costs at most `MAX_TRIES` verifications of a body of at
most 16 KiB, and is done after the answer, in the background, as often as `budget` allows; so the sender learns nothing
from it, not even from the time.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import parse_qsl, quote, quote_plus, urlencode, urlsplit

from offhook.events import NearMiss, near_miss
from offhook.providers.base import HttpRequest, ProviderAdapter, SignatureError, SignatureFault, Verified

MAX_TRIES: Final = 120
_MAX_ORIGINS: Final = 15  # an adapter tries each with and without its port, and at most 32 forms
_MAX_FORWARDED: Final = 4
_MAX_URL: Final = 500
_HOST: Final = re.compile(r"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::\d{1,5})?")
_LIKELY_PORTS: Final = ("8443", "8080")
# Providers nest two or three deep. What is nested a thousand deep grows to a thousand times its size when it is indented, and
# may be read and yet not be written: Python's recursion ends in between.
_MAX_NESTED: Final = 32
_STEP_S: Final = 300
_HOUR_S: Final = 3600
_HOURS: Final = 14  # the widest offsets of time zones

Credentials = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Evidence:
    """What there is to try. `own` are the credentials of the account the request names; `others` those of further
    configurations, by id, `account` being the name of the account in them; `former` are base URLs that were public once."""

    request: HttpRequest
    fault: SignatureFault
    account: str
    own: tuple[Credentials, ...] = ()
    others: tuple[tuple[str, str, Credentials], ...] = ()
    former: tuple[str, ...] = ()


def diagnose(adapter: ProviderAdapter, evidence: Evidence, now: float) -> tuple[str, ...]:
    """The near misses of a refused request, the likeliest first; none when nothing that was tried fits. `now` is the Unix
    time of its arrival."""
    trial = _Trial(adapter, now)
    found: list[str] = []
    if evidence.fault is SignatureFault.MISMATCH:
        found = _addressed_elsewhere(trial, evidence) or _changed_on_the_way(trial, evidence)
        found = found or _signed_by_another(trial, evidence)
    elif evidence.fault is SignatureFault.BODY_MISMATCH:
        found = _changed_on_the_way(trial, evidence)
    elif evidence.fault in (SignatureFault.TOO_OLD, SignatureFault.FROM_THE_FUTURE):
        found = _at_another_time(trial, evidence)
    elif evidence.fault is SignatureFault.WRONG_ACCOUNT:
        found = _signed_by_another(trial, evidence)
    return tuple(dict.fromkeys(found))


class _Trial:
    """Tries guesses, up to a limit."""

    def __init__(self, adapter: ProviderAdapter, now: float) -> None:
        self._verify = adapter.webhooks.verify
        self.now = now
        self._left = MAX_TRIES

    def __call__(
        self, request: HttpRequest, credentials: Credentials, *, ahead_s: float = 0.0
    ) -> Verified | SignatureFault | None:
        """What the guess is proven to be, or why not; None when enough has been tried."""
        if self._left <= 0:
            return None
        self._left -= 1
        try:
            return self._verify(request, credentials, self.now + ahead_s)
        except SignatureError as error:
            return error.fault

    def proves(self, request: HttpRequest, credentials: Sequence[Credentials]) -> Verified | None:
        for each in credentials:
            result = self(request, each)
            if isinstance(result, Verified):
                return result
        return None


# --- guesses: the URL


def _addressed_elsewhere(trial: _Trial, evidence: Evidence) -> list[str]:
    request = evidence.request
    origins = _origins(request, evidence.former)
    own = dict.fromkeys(request.origins, NearMiss.OTHER_URL)
    for path, query, why in _targets(request):
        # The address as it is configured first: of two ways to fit, the one that changes less.
        for known in (own, origins) if why is not None else (origins,):
            for some in _in_pieces(tuple(known)):
                guess = replace(request, origins=some, path=path, query=query)
                verified = trial.proves(guess, evidence.own)
                if verified is not None:
                    origin = _origin_of(trial, guess, evidence)
                    return _said_of(f"{origin}{path}"[:_MAX_URL], known[origin], why, known is own)
    return []


def _origin_of(trial: _Trial, proven: HttpRequest, evidence: Evidence) -> str:
    """Which of its base URLs proves a request. Not read from the form that was signed: providers drop ports there."""
    for origin in proven.origins:
        if trial.proves(replace(proven, origins=(origin,)), evidence.own) is not None:
            return origin
    return proven.origins[0]


def _said_of(url: str, kind: NearMiss, why: NearMiss | None, same_origin: bool) -> list[str]:
    if why is NearMiss.FORWARDED_URL:
        return [near_miss(kind if not same_origin else why, url)]
    said = [] if same_origin else [near_miss(kind, url)]
    return said if why is None else [*said, near_miss(why, url)]


def _origins(request: HttpRequest, former: Sequence[str]) -> dict[str, NearMiss]:
    """Base URLs the provider may have been given in place of the configured ones."""
    found: dict[str, NearMiss] = {}

    def add(origin: str, kind: NearMiss) -> None:
        if origin not in request.origins:
            found.setdefault(origin, kind)

    for origin in former:
        add(origin, NearMiss.FORMER_URL)
    ports = [one for one in _listed(request, "x-forwarded-port") if one.isdigit()]
    named = [
        *_listed(request, "x-forwarded-host"),
        *_forwarded(request),
        *_listed(request, "x-original-host"),
        *_listed(request, "host"),
    ]
    for host in named:
        if _HOST.fullmatch(host):
            for scheme in ("https", "http"):
                add(f"{scheme}://{host}", NearMiss.FORWARDED_URL)
    for origin in request.origins:
        try:
            parts = urlsplit(origin)
            host, port = parts.hostname or "", parts.port
        except ValueError:
            continue
        other = "http" if parts.scheme == "https" else "https"
        add(f"{other}://{parts.netloc}", NearMiss.OTHER_URL)
        if port is None:
            for likely in dict.fromkeys((*ports, *_LIKELY_PORTS)):
                add(f"{parts.scheme}://{host}:{likely}", NearMiss.OTHER_URL)
    return dict(list(found.items())[: 2 * _MAX_ORIGINS])


def _targets(request: HttpRequest) -> Iterator[tuple[str, str, NearMiss | None]]:
    """Paths and queries the provider may have been given, with what that would be; None for the one that came."""
    path, query = request.path, request.query
    yield path, query, None
    yield (path[:-1] if path.endswith("/") else path + "/"), query, NearMiss.SLASH
    if query:
        yield path, "", NearMiss.QUERY_DROPPED
        for other in _recoded(query):
            yield path, other, NearMiss.QUERY_ENCODING
    prefix = request.headers.get("x-forwarded-prefix", "").strip().rstrip("/")
    if prefix.startswith("/") and len(prefix) < _MAX_URL:
        yield prefix + path, query, NearMiss.FORWARDED_URL
    for name in ("x-original-uri", "x-original-url", "x-envoy-original-path", "x-forwarded-uri"):
        there, _, asked = request.headers.get(name, "").strip().partition("?")
        if there.startswith("/") and (there, asked) != (path, query):
            yield there, asked, NearMiss.FORWARDED_URL


def _recoded(query: str) -> list[str]:
    try:
        pairs = parse_qsl(query, keep_blank_values=True, encoding="latin-1", max_num_fields=100)
    except ValueError:
        return []
    coded = (
        urlencode(pairs, quote_via=quote_plus, encoding="latin-1"),
        urlencode(pairs, quote_via=quote, encoding="latin-1"),
        urlencode(sorted(pairs), quote_via=quote_plus, encoding="latin-1"),
        "&".join(f"{name}={value}" for name, value in pairs),
    )
    return [one for one in dict.fromkeys(coded) if one != query]


def _listed(request: HttpRequest, name: str) -> list[str]:
    parts = request.headers.get(name, "")[:2000].split(",")
    return [part.strip().strip('"') for part in parts if part.strip()][:_MAX_FORWARDED]


def _forwarded(request: HttpRequest) -> list[str]:
    """The hosts of a `Forwarded` header (RFC 7239)."""
    hosts = re.findall(r'host="?([^";,]+)"?', request.headers.get("forwarded", "")[:2000], re.IGNORECASE)
    return [str(host).strip() for host in hosts][:_MAX_FORWARDED]


def _in_pieces(origins: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    for start in range(0, len(origins), _MAX_ORIGINS):
        yield origins[start : start + _MAX_ORIGINS]


# --- guesses: the body


def _changed_on_the_way(trial: _Trial, evidence: Evidence) -> list[str]:
    request = evidence.request
    for body in _bodies(request.body):
        if trial.proves(replace(request, body=body), evidence.own) is not None:
            return [near_miss(NearMiss.BODY_CHANGED)]
    if evidence.fault is SignatureFault.BODY_MISMATCH:
        # What a GET sends is its query.
        for query in _recoded(request.query) if request.query else ():
            if trial.proves(replace(request, query=query), evidence.own) is not None:
                return [near_miss(NearMiss.QUERY_ENCODING)]
    return []


def _bodies(body: bytes) -> list[bytes]:
    if not body:
        return []
    guesses = [
        body.strip(),
        body + b"\n",
        body + b"\r\n",
        body.replace(b"\r\n", b"\n"),
        body.replace(b"\n", b"\r\n"),
        body.removeprefix(b"\xef\xbb\xbf"),
        body.decode("utf-8", "replace").encode("latin-1", "replace"),
        body.decode("latin-1").encode(),
    ]
    if body.count(b"{") + body.count(b"[") <= _MAX_NESTED:
        try:
            document = json.loads(body)
        except ValueError:
            pass
        else:
            guesses += [
                json.dumps(document).encode(),
                json.dumps(document, separators=(",", ":")).encode(),
                json.dumps(document, ensure_ascii=False).encode("utf-8", "replace"),
                json.dumps(document, indent=2, ensure_ascii=False).encode("utf-8", "replace"),
            ]
    return [guess for guess in dict.fromkeys(guesses) if guess != body]


# --- guesses: who, and when


def _signed_by_another(trial: _Trial, evidence: Evidence) -> list[str]:
    request = evidence.request
    everywhere = (
        request.origins + tuple(origin for origin in _origins(request, evidence.former))
    )[:_MAX_ORIGINS]  # fmt: skip
    wide = replace(request, origins=everywhere)
    for configuration_id, account, credentials in evidence.others:
        # As if that configuration's account were the one the request names.
        swapped = {
            name: evidence.account if value.lower() == account.lower() else value
            for name, value in credentials.items()
        }
        result = trial(wide, swapped)
        if result is None:
            break
        if isinstance(result, Verified):
            said = [near_miss(NearMiss.OTHER_CREDENTIALS, configuration_id)]
            if result.url is not None and not isinstance(trial(request, swapped), Verified):
                said.append(near_miss(NearMiss.OTHER_URL, result.url.partition("?")[0][:_MAX_URL]))
            return said
    return []


def _at_another_time(trial: _Trial, evidence: Evidence) -> list[str]:
    sign = -1 if evidence.fault is SignatureFault.TOO_OLD else 1
    steps = [step * _STEP_S for step in range(1, _HOUR_S // _STEP_S)]
    hours = [hour * _HOUR_S for hour in range(1, _HOURS + 1)]
    for away_s in (*steps, *hours):
        for credentials in evidence.own:
            result = trial(evidence.request, credentials, ahead_s=sign * away_s)
            if isinstance(result, Verified):
                issued = result.issued_at
                off_s = sign * away_s if issued is None else round(issued - trial.now)
                return [near_miss(NearMiss.CLOCK, off_s)]
    return []
