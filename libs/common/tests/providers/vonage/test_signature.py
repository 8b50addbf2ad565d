"""Vonage's signed webhooks: published vectors, with PyJWT and the vendor's `verify_signature` as oracles."""

import hashlib
import json
import time

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from vonage_jwt.errors import VonageVerifyJwtError
from vonage_jwt.verify_jwt import verify_signature

from offhook.providers.base import HttpRequest, SignatureError, SignatureFault
from offhook.providers.vonage import signature

# Dashboard secrets may be shorter than PyJWT likes.
pytestmark = pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")

SECRET = "qwertyuiopasdfghjklzxcvbnm123456"
APPLICATION = "aaaaaaaa-bbbb-cccc-dddd-0123456789ab"
API_KEY = "abcd1234"
ISSUED = 1767268800
BODY = (
    b'{"from":"15550002222","to":"15550001111","uuid":"aaaaaaaa-bbbb-cccc-dddd-0123456789ab",'
    b'"conversation_uuid":"CON-aaaaaaaa-bbbb-cccc-dddd-0123456789ab","status":"ringing","direction":"inbound",'
    b'"timestamp":"2026-01-01T12:00:00.000Z"}'
)
TOKEN = (
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpYXQiOjE3NjcyNjg4MDAsImp0aSI6IjdiZDVkMWYyLTAwMDAtNDAwMC04MDAwLTAwMDAwMDA"
    "wMDAwMSIsImlzcyI6IlZvbmFnZSIsInBheWxvYWRfaGFzaCI6Ijc0MGYwNGY4ZDNhYWNkMjI5MmRiZTFjYTk5NzJhMDc0YjA5MzZkYmU3NjVjZjgx"
    "MmNiY2M2NDQwOTY3YTdjN2MiLCJhcGlfa2V5IjoiYWJjZDEyMzQiLCJhcHBsaWNhdGlvbl9pZCI6ImFhYWFhYWFhLWJiYmItY2NjYy1kZGRkLTAxM"
    "jM0NTY3ODlhYiJ9.E3R0C5V1ltxg1J_9NcU8vBQRr4MRYX0bWygcwH4NfKw"
)
QUERY = (
    "to=15550001111&from=15550002222&conversation_uuid=CON-aaaaaaaa-bbbb-cccc-dddd-0123456789ab"
    "&uuid=aaaaaaaa-bbbb-cccc-dddd-0123456789ab"
)
QUERY_HASH = "c3f29c2198691a9f874100f62f7934c233ac76b93b40ed3cc7ece2679e7e8313"


def request(token, body=BODY, *, method="POST", query="", headers=None):
    all_headers = {"content-type": "application/json", **(headers or {})}
    if token is not None:
        all_headers["authorization"] = f"Bearer {token}"
    return HttpRequest(method, ("https://h.example",), "/x", query, all_headers, body)


def verify(req, now=ISSUED, secrets=(SECRET,)):
    return signature.verify(
        req, application_id=APPLICATION, api_key=API_KEY, signature_secrets=secrets, now=now
    )


def fault(req, **options):
    with pytest.raises(SignatureError) as caught:
        verify(req, **options)
    return caught.value.fault


def token(secret=SECRET, algorithm="HS256", **changes):
    claims = {
        "iat": ISSUED,
        "jti": "jti-1",
        "iss": "Vonage",
        "payload_hash": hashlib.sha256(BODY).hexdigest(),
        "api_key": API_KEY,
        "application_id": APPLICATION,
        **changes,
    }
    claims = {name: value for name, value in claims.items() if value is not ...}
    return jwt.encode(claims, secret, algorithm=algorithm)


def test_the_published_post_vector_verifies():
    claims = verify(request(TOKEN))
    assert claims.jti == "7bd5d1f2-0000-4000-8000-000000000001"
    assert verify_signature(TOKEN, SECRET)


def test_the_published_get_vector_verifies_and_any_other_query_does_not():
    assert hashlib.sha256(signature.query_payload(QUERY)).hexdigest() == QUERY_HASH
    made = token(payload_hash=QUERY_HASH)
    assert verify(request(made, b"", method="GET", query=QUERY))
    changed = request(made, b"", method="GET", query=QUERY.replace("15550002222", "15550002223"))
    assert fault(changed) is SignatureFault.BODY_MISMATCH
    smuggled = request(made, b"", method="GET", query=f"to=15559999999&{QUERY}")
    assert fault(smuggled) is SignatureFault.BODY_MISMATCH
    spaced = token(payload_hash="6c458daeec99f43247233d851c51d68055fa94d7eb9741a76be5d367db3f0280")
    assert fault(request(spaced, b"", method="GET", query=QUERY)) is SignatureFault.BODY_MISMATCH


def test_the_vendors_own_vector_is_of_another_issuer():
    vector = (
        "eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJPbmxpbmUgSldUIEJ1aWxkZXIiLCJpYXQiOjE2OTc2MzQ2ODAsImV4cCI6MzMyNT"
        "Q1NDA4MjgsImF1ZCI6IiIsInN1YiI6IiJ9.88vJc3I2HhuqEDixHXVhc9R30tA6U_HQHZTC29y6CGM"
    )
    assert verify_signature(vector, SECRET)
    # The signature holds, so what is objected to is what it says.
    assert fault(request(vector)) is SignatureFault.WRONG_ISSUER
    assert fault(request(vector), secrets=("other",)) is SignatureFault.MISMATCH


def test_the_body_may_be_hashed_raw_or_in_its_compact_form_but_must_be_the_same():
    pretty = json.dumps(json.loads(BODY), indent=2).encode()
    assert verify(request(token(), pretty))
    assert fault(request(token(), BODY.replace(b"ringing", b"completed"))) is SignatureFault.BODY_MISMATCH
    unicode_body = '{ "a": "Köln" }'.encode()
    compact = hashlib.sha256('{"a":"Köln"}'.encode()).hexdigest()
    assert verify(request(token(payload_hash=compact), unicode_body))


def test_a_post_whose_body_nothing_proves_is_refused_and_a_get_without_hash_is_not():
    assert fault(request(token(payload_hash=...))) is SignatureFault.BODY_MISMATCH
    assert fault(request(token(payload_hash=...), b"")) is SignatureFault.BODY_MISMATCH
    assert verify(request(token(payload_hash=...), b"", method="GET", query=QUERY))


def test_a_post_that_calls_itself_an_upgrade_must_prove_its_payload():
    made = token(payload_hash="0" * 64)
    assert fault(request(made, headers={"upgrade": "websocket"})) is SignatureFault.BODY_MISMATCH


def test_an_upgrade_has_no_payload_to_prove():
    upgrade = {"upgrade": "WebSocket"}
    for made in (token(), token(payload_hash=...), token(payload_hash="00"), token(jti=...)):
        assert verify(request(made, b"", method="GET", headers=upgrade))


@pytest.mark.parametrize(
    ("changes", "now", "expected"),
    [
        ({}, ISSUED + 300, None),
        ({}, ISSUED + 301, SignatureFault.TOO_OLD),
        ({}, ISSUED - 60, None),
        ({}, ISSUED - 61, SignatureFault.FROM_THE_FUTURE),
        ({"exp": ISSUED + 10}, ISSUED + 9, None),
        ({"exp": ISSUED + 10}, ISSUED + 10, SignatureFault.TOO_OLD),
        ({"nbf": ISSUED + 100}, ISSUED + 39, SignatureFault.FROM_THE_FUTURE),
        ({"nbf": ISSUED + 100}, ISSUED + 40, None),
        ({"iat": ...}, ISSUED, SignatureFault.MALFORMED),
        ({"iat": True}, ISSUED, SignatureFault.MALFORMED),
        ({"iat": float(ISSUED)}, ISSUED, None),
        ({"jti": ...}, ISSUED, SignatureFault.MALFORMED),
        ({"jti": ""}, ISSUED, SignatureFault.MALFORMED),
        ({"iss": "vonage"}, ISSUED, SignatureFault.WRONG_ISSUER),
        ({"iss": ...}, ISSUED, SignatureFault.WRONG_ISSUER),
        ({"api_key": "other"}, ISSUED, SignatureFault.WRONG_ACCOUNT),
        ({"api_key": ...}, ISSUED, SignatureFault.WRONG_ACCOUNT),
        ({"application_id": "other"}, ISSUED, SignatureFault.WRONG_ACCOUNT),
        ({"application_id": ...}, ISSUED, SignatureFault.WRONG_ACCOUNT),
        ({"unheard-of": {"of": [1]}, "sub": "x"}, ISSUED, None),
    ],
)
def test_issuer_account_age_and_id_are_checked(changes, now, expected):
    made = request(token(**changes))
    if expected is None:
        assert verify(made, now=now)
    else:
        assert fault(made, now=now) is expected


def test_the_algorithm_is_pinned():
    header = signature._base64(b'{"alg":"none","typ":"JWT"}')
    unsigned = f"{header}.{token().split('.')[1]}."
    assert fault(request(unsigned)) is SignatureFault.MALFORMED
    assert (
        fault(request(token(secret=SECRET * 2, algorithm="HS512")), secrets=(SECRET * 2,))
        is SignatureFault.MALFORMED
    )


def test_a_missing_token_is_told_from_a_broken_one():
    assert fault(request(None)) is SignatureFault.MISSING
    for header in (
        "Basic abc",
        "Bearer",
        "Bearer ",
        "Bearer a.b",
        "Bearer a.b.c.d",
        "Bearer " + "a" * 9000,
        "Bearer ü.ü.ü",
    ):
        broken = HttpRequest("POST", (), "/x", "", {"authorization": header}, BODY)
        assert fault(broken) is SignatureFault.MALFORMED
    assert fault(request(token()[:-4] + "AAAA")) is SignatureFault.MISMATCH
    assert fault(request(token()), secrets=()) is SignatureFault.MISMATCH


def test_a_second_secret_is_accepted_and_a_short_one_works():
    assert verify(request(TOKEN), secrets=("short", SECRET))
    made = signature.make_token(
        "short", api_key=API_KEY, application_id=APPLICATION, issued_at=ISSUED, jti="j", payload=BODY
    )
    assert verify(request(made), secrets=("short",))


@given(
    st.binary(max_size=300), st.text(st.characters(codec="ascii"), min_size=1, max_size=40), st.integers(0, 1)
)
def test_our_tokens_are_valid_to_the_vendor_and_pyjwt_tokens_to_us(body, secret, flip):
    now = int(time.time())
    made = signature.make_token(
        secret, api_key=API_KEY, application_id=APPLICATION, issued_at=now - 1, jti="j", payload=body
    )
    assert verify_signature(made, secret)
    theirs = jwt.encode(jwt.decode(made, options={"verify_signature": False}), secret, algorithm="HS256")
    assert verify(request(theirs, body), now=now, secrets=(secret,))
    assert fault(request(theirs, body + b"!"), now=now, secrets=(secret,)) is SignatureFault.BODY_MISMATCH


@given(st.integers(0, 400), st.characters(codec="ascii"))
def test_no_damaged_token_passes_that_the_vendor_refuses(position, letter):
    position %= len(TOKEN)
    damaged = TOKEN[:position] + letter + TOKEN[position + 1 :]
    try:
        verify(request(damaged))
    except SignatureError:
        return
    try:
        assert verify_signature(damaged, SECRET)
    except VonageVerifyJwtError as error:
        pytest.fail(f"accepted by us, refused by the vendor: {error}")


hostile_json = st.one_of(
    st.binary(max_size=100),
    st.just(b"[" * 100_000),
    st.just(b'{"a":' * 50_000),
    st.just(b'{"a":NaN}'),
    st.just(b'{"iat":1e999}'),
    st.just(b'{"iat":' + b"9" * 5000 + b"}"),
    st.just(b'{"a":"\\ud800"}'),
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=8,
    ).map(lambda value: json.dumps(value).encode()),
)


@given(
    hostile_json, hostile_json, hostile_json, st.sampled_from(["GET", "POST", "PUT"]), st.text(max_size=40)
)
def test_hostile_tokens_and_bodies_raise_nothing_but_signature_errors(header, claims, body, method, query):
    for made_header in (signature._base64(header), signature._base64(b'{"alg":"HS256"}')):
        signed = f"{made_header}.{signature._base64(claims)}"
        mac = signature._base64(signature.hmac.digest(SECRET.encode(), signed.encode(), "sha256"))
        with pytest.raises(SignatureError):
            verify(request(f"{signed}.{mac}", body, method=method, query=query))
        signature.claimed_application(request(f"{signed}.{mac}", body))
    with pytest.raises(SignatureError):
        verify(request(token(payload_hash="0" * 64), body, method=method, query=query))


@given(st.text(max_size=60))
def test_any_header_text_raises_nothing_but_signature_errors(header):
    with pytest.raises(SignatureError):
        verify(HttpRequest("POST", (), "/", "", {"authorization": header}, b""))
