"""`X-Twilio-Signature`: is this request Twilio's?

https://www.twilio.com/docs/usage/security. Twilio signs the URL it was given, then, for a form post, every
field's name and value, sorted; base64 of HMAC-SHA1 under the account's auth token. A JSON body is covered by
its hash in the URL's query.

Which URL it was is not known exactly behind proxies, and Twilio itself is not consistent about ports, so a
bounded number of forms is tried: each public origin with and without its port, `wss` for WebSocket upgrades,
there also with a trailing slash. The signature holds no time and no nonce: an equal request has an equal
signature for ever.
"""

import hmac
from binascii import b2a_base64
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from hashlib import sha256
from typing import Final, Literal
from urllib.parse import urlsplit

from offhook.providers.base import HttpRequest, SignatureError, SignatureFault
from offhook.providers.forms import FormError, parse_form

SIGNATURE_HEADER: Final = "x-twilio-signature"
SETTINGS_HEADER: Final = "x-twilio-webhooks-signature-settings"
FORM_TYPE: Final = "application/x-www-form-urlencoded"
_JSON_TYPE: Final = "application/json"
_BODY_HASH: Final = b"bodySHA256"
_DEFAULT_PORTS: Final = {"https": 443, "http": 80}
_MAX_FORMS: Final = 32

Algorithm = Literal["sha1", "sha256"]


def sign(url: str, fields: Iterable[tuple[bytes, bytes]], secret: str, algorithm: Algorithm = "sha1") -> str:
    """The signature Twilio would send for `url` and the decoded form fields."""
    return _signature(_utf8(secret), _utf8(url) + _canonical(fields), algorithm).decode()


def url_forms(request: HttpRequest) -> tuple[str, ...]:
    """The URLs the request may have been signed for, the likeliest first; never more than 32."""
    upgrade = request.is_upgrade
    target = f"{request.path}?{request.query}" if request.query else request.path
    forms = [base + target for base in _bases(request.origins, upgrade)]
    if upgrade:
        # "If it does not match, append a trailing slash" (the same page, for WebSocket upgrades).
        slashed = f"{request.path}/?{request.query}" if request.query else request.path + "/"
        forms += [base + slashed for base in _bases(request.origins, upgrade)]
    return tuple(forms[:_MAX_FORMS])


def verify(
    request: HttpRequest,
    *,
    account_sid: str,
    auth_tokens: Sequence[str],
    shared_keys: Mapping[str, str] | None = None,
) -> str:
    """Prove that Twilio signed the request for this account; returns the URL form that was signed.

    `auth_tokens` are the primary and, while it is being rotated, the secondary one. `shared_keys` maps the id
    of each configured SharedKey (public beta) to its secret. An `AccountSid` in the request must be
    `account_sid`. Raises `SignatureError`.
    """
    given = request.headers.get(SIGNATURE_HEADER, "").strip()
    if not given:
        raise SignatureError(SignatureFault.MISSING, f"no {SIGNATURE_HEADER} header")
    algorithm, secrets = _keys(request.headers.get(SETTINGS_HEADER, ""), auth_tokens, shared_keys or {})
    try:
        fields = signed_fields(request)
        query = parse_form(_utf8(request.query)) if request.query else []
    except FormError as error:
        raise SignatureError(SignatureFault.MALFORMED, str(error)) from error
    accounts = [value for name, value in (fields + query if query else fields) if name == b"AccountSid"]
    if accounts and set(accounts) != {_utf8(account_sid)}:
        raise SignatureError(SignatureFault.WRONG_ACCOUNT, "AccountSid is not the configured account")
    if not fields and request.body and request.method == "POST" and not _is_form(request):
        _check_body_hash(request, query)

    canonical = _canonical(fields)
    presented = _utf8(given)
    forms = url_forms(request)
    for secret in secrets:
        for url in forms:
            if hmac.compare_digest(_signature(secret, _utf8(url) + canonical, algorithm), presented):
                return url
    raise SignatureError(
        SignatureFault.MISMATCH,
        "the signature fits none of the public URLs: check the auth token and the public URL",
        forms,
    )


def signed_fields(request: HttpRequest) -> list[tuple[bytes, bytes]]:
    """The form fields that are part of what Twilio signs: those of a form post. Raises `FormError`,
    `SignatureError`."""
    if request.method == "GET":
        return []
    if request.method != "POST":
        raise SignatureError(SignatureFault.MALFORMED, f"expected GET or POST, got {request.method[:16]!r}")
    return parse_form(request.body) if request.body and _is_form(request) else []


def _is_form(request: HttpRequest) -> bool:
    # Twilio always names the type; a proxy that loses the header shall not lose the call.
    return _content_type(request) in (FORM_TYPE, "")


def _content_type(request: HttpRequest) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _check_body_hash(request: HttpRequest, query: list[tuple[bytes, bytes]]) -> None:
    # The signature covers only the URL now. Without the body's hash in it, anybody could put any body under
    # it.
    hashes = [value for name, value in query if name == _BODY_HASH]
    if not hashes:
        kind = "JSON" if _content_type(request) == _JSON_TYPE else "unknown"
        raise SignatureError(
            SignatureFault.BODY_MISMATCH, f"a body of {kind} type without bodySHA256 in the URL"
        )
    actual = sha256(request.body).hexdigest().encode()
    if not all(hmac.compare_digest(actual, claimed.lower()) for claimed in hashes):
        raise SignatureError(
            SignatureFault.BODY_MISMATCH, "the body is not the one bodySHA256 in the URL names"
        )


def _keys(
    settings: str, auth_tokens: Sequence[str], shared_keys: Mapping[str, str]
) -> tuple[Algorithm, list[bytes]]:
    # https://www.twilio.com/docs/usage/webhooks/webhook-shared-keys: `key=<id>,algorithm=HMAC_SHA256`. The
    # header is not signed. So it may only pick among what is configured: an id we know, with the one
    # algorithm that goes with it.
    if not settings:
        return "sha1", [_utf8(token) for token in auth_tokens if token]
    named: dict[str, str] = {}
    for part in settings[:1000].split(","):
        name, _, value = part.partition("=")
        named[name.strip().lower()] = value.strip()
    key_id, algorithm = named.get("key", ""), named.get("algorithm", "").upper()
    if not key_id and algorithm in ("", "HMAC_SHA1"):
        return "sha1", [_utf8(token) for token in auth_tokens if token]
    secret = shared_keys.get(key_id, "")
    if not secret or algorithm != "HMAC_SHA256":
        raise SignatureError(
            SignatureFault.MISMATCH,
            "signed with a shared key that is not configured: add it to the credentials, as id:secret",
        )
    return "sha256", [_utf8(secret)]


def _signature(secret: bytes, data: bytes, algorithm: Algorithm) -> bytes:
    return b2a_base64(hmac.digest(secret, data, algorithm), newline=False)


def _canonical(fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    # Names in order, and of a repeated name each distinct value once, in order, as the vendor's own libraries
    # do. UTF-8 sorts as code points do.
    pairs = list(fields)
    values = dict(pairs)
    if len(values) == len(pairs):
        # What Twilio really sends; sorting names alone is faster than sorting pairs.
        return b"".join([name + values[name] for name in sorted(values)])
    return b"".join([name + value for name, value in sorted(set(pairs))])


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


@lru_cache(maxsize=256)
def _bases(origins: tuple[str, ...], upgrade: bool) -> tuple[str, ...]:
    bases: list[str] = []
    for origin in origins:
        try:
            parts = urlsplit(origin)
            explicit = parts.port
        except ValueError:
            continue
        if parts.scheme not in _DEFAULT_PORTS:
            continue
        # Twilio drops user and password before it signs. Letter case of the host stays as configured.
        host = parts.netloc.rpartition("@")[2]
        if explicit is not None or host.endswith(":"):
            host = host.rpartition(":")[0]
        scheme = parts.scheme.replace("http", "ws") if upgrade else parts.scheme
        without = f"{scheme}://{host}"
        port = _DEFAULT_PORTS[parts.scheme] if explicit is None else explicit
        # https drops the port, http keeps one that was written; the vendor's libraries try both, always.
        pair = (without, f"{without}:{port}")
        bases += reversed(pair) if parts.scheme == "http" and explicit is not None else pair
    return tuple(dict.fromkeys(bases))
