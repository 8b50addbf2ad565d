"""Signed webhooks of Vonage: is this request Vonage's, fresh, and is the body the one it sent?

https://developer.vonage.com/en/getting-started/concepts/webhooks: `Authorization: Bearer <JWT>`, HS256 under
the account's signature secret. The vendor's own `verify_signature` checks neither the body nor the age, and
fails on a clock that is a second late; here all of it is checked:

* the algorithm is HS256, whatever the token says; issuer, account and application are ours;
* `iat` is at most 300 s old and at most 60 s ahead; `exp` and `nbf` are honoured where present;
* `payload_hash` is the SHA-256 of the raw body, or of its compact JSON form (the two are equal for what
  Vonage sends). A POST without it is refused: nothing would prove the body;
* `jti` is handed to the caller, who refuses its second use.

A WebSocket upgrade (NCCO `authorization: {"type": "vonage"}`) carries the same kind of token and has no body
to hash.
"""

import hmac
import json
from binascii import Error as Base64Error
from binascii import a2b_base64, b2a_base64
from collections.abc import Iterator, Sequence
from hashlib import sha256
from typing import Any, Final

import msgspec

from offhook.providers.base import HttpRequest, SignatureError, SignatureFault
from offhook.providers.forms import FormError, parse_form

ISSUER: Final = "Vonage"
MAX_AGE_S: Final = 300
MAX_AHEAD_S: Final = 60
_MAX_TOKEN: Final = 8192
_URL_SAFE: Final = str.maketrans("-_", "+/")
_TO_URL_SAFE: Final = str.maketrans("+/", "-_", "=\n")


class Claims(msgspec.Struct, frozen=True):
    """The claims of a webhook's token. Unproven until `verify` returned them."""

    iat: int | float
    iss: str = ""
    jti: str = ""
    api_key: str = ""
    application_id: str = ""
    payload_hash: str | None = None
    exp: int | float | None = None
    nbf: int | float | None = None


class _Header(msgspec.Struct):
    alg: str


class _Account(msgspec.Struct):
    application_id: str = ""
    iss: str = ""


_decode_claims = msgspec.json.Decoder(Claims).decode
_decode_header = msgspec.json.Decoder(_Header).decode
_decode_account = msgspec.json.Decoder(_Account).decode
# What decoding hostile JSON may raise: msgspec's own errors, and nesting beyond the interpreter's limit.
JSON_ERRORS: Final = (msgspec.MsgspecError, UnicodeError, RecursionError)


def verify(
    request: HttpRequest,
    *,
    application_id: str,
    api_key: str,
    signature_secrets: Sequence[str],
    now: float,
) -> Claims:
    """Prove that Vonage sent the request to this application, now. Raises `SignatureError`.

    `signature_secrets`: the account's (Dashboard, settings), and a second one while it is being rotated.
    """
    signed, claims_part, given = _split(bearer_token(request))
    if not any(
        hmac.compare_digest(hmac.digest(_utf8(key), signed, "sha256"), given) for key in signature_secrets
    ):
        raise SignatureError(
            SignatureFault.MISMATCH, "the token is not signed with the configured signature secret"
        )
    try:
        claims = _decode_claims(_unbase64(claims_part))
    except (Base64Error, *JSON_ERRORS) as error:
        raise SignatureError(SignatureFault.MALFORMED, f"the token's claims: {error}"[:300]) from error
    if claims.iss != ISSUER:
        raise SignatureError(SignatureFault.WRONG_ISSUER, f"expected issuer {ISSUER!r}")
    if claims.api_key != api_key:
        raise SignatureError(SignatureFault.WRONG_ACCOUNT, "the token's api_key is not the configured one")
    if claims.application_id != application_id:
        raise SignatureError(
            SignatureFault.WRONG_ACCOUNT, "the token's application_id is not the configured one"
        )
    _check_times(claims, now)
    if not request.is_upgrade:
        if not claims.jti:
            raise SignatureError(
                SignatureFault.MALFORMED, "the token has no jti: its reuse could not be seen"
            )
        _check_payload(request, claims.payload_hash)
    return claims


def make_token(
    secret: str,
    *,
    api_key: str,
    application_id: str,
    issued_at: int,
    jti: str,
    payload: bytes | None,
    **extra: Any,
) -> str:
    """The token Vonage would send with a webhook of this raw body (`payload`); None leaves the hash out. For
    the simulator."""
    claims: dict[str, Any] = {"iat": issued_at, "jti": jti, "iss": ISSUER}
    if payload is not None:
        claims["payload_hash"] = sha256(payload).hexdigest()
    claims |= {"api_key": api_key, "application_id": application_id, **extra}
    header = msgspec.json.encode({"alg": "HS256", "typ": "JWT"})
    signed = f"{_base64(header)}.{_base64(msgspec.json.encode(claims))}"
    return f"{signed}.{_base64(hmac.digest(_utf8(secret), signed.encode(), 'sha256'))}"


def bearer_token(request: HttpRequest) -> str:
    """The token of the `Authorization` header. Raises `SignatureError`: without the header it is missing."""
    header = request.headers.get("authorization", "").strip()
    if not header:
        raise SignatureError(SignatureFault.MISSING, "no Authorization header")
    scheme, _, token = header.partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token or len(token) > _MAX_TOKEN:
        raise SignatureError(
            SignatureFault.MALFORMED, f"expected 'Bearer' and a token of at most {_MAX_TOKEN} characters"
        )
    return token


def claimed_application(request: HttpRequest) -> str | None:
    """The application the token names, unproven; None without a token of Vonage's."""
    try:
        _, claims_part, _ = _split(bearer_token(request))
        account = _decode_account(_unbase64(claims_part))
    except (SignatureError, Base64Error, *JSON_ERRORS):
        return None
    return (account.application_id or None) if account.iss == ISSUER else None


def query_payload(query: str) -> bytes:
    """What `payload_hash` covers for a GET: a compact JSON object of the query's parameters, in their order,
    all strings.

    https://api.support.vonage.com/hc/en-us/articles/19033783342876. Raises `FormError`.
    """
    fields: dict[str, str] = {}
    for name, value in parse_form(_utf8(query)):
        # Of a repeated field the first counts, as for whoever reads it: a later one must not stand in for it
        # here.
        fields.setdefault(name.decode("utf-8", "replace"), value.decode("utf-8", "replace"))
    return msgspec.json.encode(fields)


def _split(token: str) -> tuple[bytes, str, bytes]:
    parts = token.split(".")
    if len(parts) != 3 or not token.isascii():
        raise SignatureError(SignatureFault.MALFORMED, "expected a JWT of three parts")
    header_part, claims_part, signature_part = parts
    try:
        algorithm = _decode_header(_unbase64(header_part)).alg
        given = _unbase64(signature_part)
    except (Base64Error, *JSON_ERRORS) as error:
        raise SignatureError(SignatureFault.MALFORMED, f"the token: {error}"[:300]) from error
    # Pinned: a token must not choose how it is checked (RFC 8725, 3.1).
    if algorithm != "HS256":
        raise SignatureError(SignatureFault.MALFORMED, f"expected a token of HS256, got {algorithm[:20]!r}")
    return f"{header_part}.{claims_part}".encode(), claims_part, given


def _check_times(claims: Claims, now: float) -> None:
    if claims.iat < now - MAX_AGE_S or (claims.exp is not None and claims.exp <= now):
        raise SignatureError(SignatureFault.TOO_OLD, f"the token was issued {now - claims.iat:.0f} s ago")
    ahead = claims.iat if claims.nbf is None else max(claims.iat, claims.nbf)
    if ahead > now + MAX_AHEAD_S:
        raise SignatureError(
            SignatureFault.FROM_THE_FUTURE,
            f"the token is {ahead - now:.0f} s ahead: check this machine's clock",
        )


def _check_payload(request: HttpRequest, claimed: str | None) -> None:
    if request.method not in ("GET", "POST"):
        raise SignatureError(SignatureFault.MALFORMED, f"expected GET or POST, got {request.method[:16]!r}")
    if claimed is None:
        if request.method == "GET":
            return
        raise SignatureError(
            SignatureFault.BODY_MISMATCH, "a POST whose token has no payload_hash: the body is not proven"
        )
    expected = _utf8(claimed.lower())
    for payload in _payloads(request):
        if hmac.compare_digest(sha256(payload).hexdigest().encode(), expected):
            return
    raise SignatureError(SignatureFault.BODY_MISMATCH, "the payload is not the one the token was made for")


def _payloads(request: HttpRequest) -> Iterator[bytes]:
    if request.method == "GET":
        try:
            yield query_payload(request.query)
            return
        except FormError as error:
            raise SignatureError(SignatureFault.MALFORMED, str(error)) from error
    yield request.body
    try:
        document = json.loads(request.body, parse_constant=_refuse_constant)
        compact = json.dumps(document, separators=(",", ":"), ensure_ascii=False)
    except (ValueError, RecursionError):
        return  # not JSON: there is no compact form to try
    yield _utf8(compact)


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _unbase64(text: str) -> bytes:
    # Strict: RFC 7515 has no padding and no other letters; a lenient decoder would accept several spellings
    # of one token.
    if "+" in text or "/" in text or "=" in text:
        raise Base64Error("not base64url")
    padded = text.translate(_URL_SAFE) + "=" * (-len(text) % 4)
    return a2b_base64(padded, strict_mode=True)


def _base64(data: bytes) -> str:
    return b2a_base64(data).decode().translate(_TO_URL_SAFE)


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
