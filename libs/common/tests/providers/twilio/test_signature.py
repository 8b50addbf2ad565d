"""Twilio's signature: the vendor's vectors, and the vendor's own validator as the oracle."""

from hashlib import sha256
from urllib.parse import urlencode

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from twilio.request_validator import RequestValidator

from offhook.providers.base import HttpRequest, SignatureError, SignatureFault
from offhook.providers.forms import parse_form
from offhook.providers.twilio import signature

TOKEN = "12345"
ACCOUNT = "AC00000000000000000000000000000000"
FORM = {"content-type": "application/x-www-form-urlencoded"}
P = {
    "CallSid": "CA1234567890ABCDE",
    "Caller": "+14158675309",
    "Digits": "1234",
    "From": "+14158675309",
    "To": "+18005551212",
}
P_BODY = urlencode(P).encode()
INBOUND = (
    b"AccountSid=AC00000000000000000000000000000000&ApiVersion=2010-04-01&CallSid=CA00000000000000000000000000000001"
    b"&CallStatus=ringing&Called=%2B15550001111&CalledCity=&CalledCountry=US&CalledState=CA&CalledZip="
    b"&Caller=%2B15550002222&CallerCity=SAN+FRANCISCO&CallerCountry=US&CallerState=CA&CallerZip=94105&Direction=inbound"
    b"&From=%2B15550002222&FromCity=SAN+FRANCISCO&FromCountry=US&FromState=CA&FromZip=94105"
    b"&StirVerstat=TN-Validation-Passed-A&To=%2B15550001111&ToCity=&ToCountry=US&ToState=CA&ToZip="
)
JSON_QUERY = "foo=1&bar=2&bodySHA256=0a1ff7634d9ab3b95db5c9a2dfe9416e41502b283a80c7cf19632632f96e6620"
JSON_BODY = b'{"property": "value", "boolean": true}'
UPGRADE = {"upgrade": "websocket", "connection": "Upgrade"}


def request(url, body=b"", *, method="POST", sign=None, headers=FORM):
    """`url` is origin + path + query; the origin is what stands before the first slash of the path."""
    scheme, _, rest = url.partition("://")
    authority, slash, target = rest.partition("/")
    path, _, query = (slash + target).partition("?")
    all_headers = dict(headers)
    if sign is not None:
        all_headers["x-twilio-signature"] = sign
    return HttpRequest(method, (f"{scheme}://{authority}",), path, query, all_headers, body)


def verify(req, *, tokens=(TOKEN,), shared_keys=None, account=ACCOUNT):
    return signature.verify(req, account_sid=account, auth_tokens=tokens, shared_keys=shared_keys)


def fault(req, **options):
    with pytest.raises(SignatureError) as caught:
        verify(req, **options)
    return caught.value.fault


ORIGIN = "https://mycompany.com"
TARGET = "/myapp.php?foo=1&bar=2"


@pytest.mark.parametrize(
    ("name", "url", "body", "expected"),
    [
        ("T1", f"https://mycompany.com{TARGET}", P_BODY, "RSOYDt4T1cUTdK1PDd93/VVr8B8="),
        ("T1a", f"https://mycompany.com:443{TARGET}", P_BODY, "kvajT1Ptam85bY51eRf/AJRuM3w="),
        ("T1b", f"https://mycompany.com:1234{TARGET}", P_BODY, "CYn1h0gLBdNxDGkKJg6hYohgeD8="),
        ("T1c", f"http://mycompany.com{TARGET}", P_BODY, "OyGYPqTF6ztdbRNCvuQO/oPvqQ4="),
        ("T1d", f"http://mycompany.com:80{TARGET}", P_BODY, "0ZXoZLH/DfblKGATFgpif+LLRf4="),
        ("T1e", f"http://mycompany.com:1234{TARGET}", P_BODY, "Zmvh+3yNM1Phv2jhDCwEM3q5ebU="),
        ("T2", "https://bridge.example.com/twilio/voice", INBOUND, "kDR+6yNsykgSMfErj7bXkgOlCZU="),
        (
            "T3",
            f"https://mycompany.com{TARGET}",
            b"Sid=CA123&SidAccount=AC123&Digits=5678&Digits=1234&Digits=1234",
            "IK+Dwps556ElfBT0I3Rgjkr1wJU=",
        ),
        (
            "T9",
            "https://h.example/x",
            urlencode({"FromCity": "Köln", "SpeechResult": "日本"}).encode(),
            "BWlG6aqpdfaChdVqoY5dKV5fqYE=",
        ),
        (
            "Tdoc",
            "https://example.com/myapp.php?foo=1&bar=2",
            urlencode(P | {"Caller": "+14158675310", "From": "+14158675310"}).encode(),
            "L/OH5YylLD5NRKLltdqwSvS0BnU=",
        ),
    ],
)
def test_published_vectors_of_form_posts_verify_and_are_reproduced(name, url, body, expected):
    assert signature.sign(url, parse_form(body), TOKEN) == expected
    assert verify(request(url, body, sign=expected)) == url
    assert fault(request(url, body + b"&More=1", sign=expected)) is SignatureFault.MISMATCH
    assert fault(request(url, body, sign=expected), tokens=("54321",)) is SignatureFault.MISMATCH


def test_a_get_signs_the_url_alone():
    url = "https://bridge.example.com/twilio/status?CallSid=CA1&CallStatus=completed&SequenceNumber=3"
    signed = "IoQQtuetcjio5I57B4iOVfwiz+o="
    assert verify(request(url, method="GET", sign=signed, headers={})) == url
    assert fault(request(url + "4", method="GET", sign=signed, headers={})) is SignatureFault.MISMATCH


def test_a_json_body_is_proven_by_the_hash_in_the_url():
    url, signed = f"{ORIGIN}/myapp.php?{JSON_QUERY}", "a9nBmqA0ju/hNViExpshrM61xv4="
    headers = {"content-type": "application/json; charset=utf-8"}
    assert verify(request(url, JSON_BODY, sign=signed, headers=headers)) == url
    changed = request(url, JSON_BODY + b" ", sign=signed, headers=headers)
    assert fault(changed) is SignatureFault.BODY_MISMATCH


@pytest.mark.parametrize(
    "content_type", ["application/json", "text/plain", "multipart/form-data; boundary=x"]
)
def test_a_body_nothing_proves_is_refused_although_the_url_is_signed(content_type):
    url = "https://h.example/x"
    signed = signature.sign(url, [], TOKEN)
    body = request(url, JSON_BODY, sign=signed, headers={"content-type": content_type})
    assert fault(body) is SignatureFault.BODY_MISMATCH


def test_lost_repetitions_and_lost_empty_fields_do_not_verify():
    lost_repetition = request(
        ORIGIN + TARGET, b"Sid=CA123&SidAccount=AC123&Digits=1234", sign="IK+Dwps556ElfBT0I3Rgjkr1wJU="
    )
    assert fault(lost_repetition) is SignatureFault.MISMATCH
    without_empty = b"&".join(part for part in INBOUND.split(b"&") if not part.endswith(b"="))
    url = "https://bridge.example.com/twilio/voice"
    assert fault(request(url, without_empty, sign="kDR+6yNsykgSMfErj7bXkgOlCZU=")) is SignatureFault.MISMATCH
    assert fault(request(url, INBOUND, sign="MuUSY/LaMwk19R+TAx/yz+hiKa8=")) is SignatureFault.MISMATCH


@pytest.mark.parametrize(
    ("origin", "signed"),
    [
        ("https://bridge.example.com", "hGVJmeOLwZmJhPeWsyRDIvgH8Zc="),  # T7
        ("https://bridge.example.com", "K34XpNWz3mSbbFwtWeDWONZkGSc="),  # T7a: trailing slash
        ("https://bridge.example.com", "KP439dnhRyBwGAmv7jBbMqOXXjI="),  # T7c: port 443
        ("https://bridge.example.com:8443", "lXh33f5GRY3YJmeAfD1FMqLgVHQ="),  # T7d
        ("https://bridge.example.com:8443", "hGVJmeOLwZmJhPeWsyRDIvgH8Zc="),
    ],
)
def test_an_upgrade_is_signed_as_wss_with_or_without_port_and_trailing_slash(origin, signed):
    upgrade = request(f"{origin}/twilio/media", method="GET", sign=signed, headers=UPGRADE)
    assert verify(upgrade).startswith("wss://")


def test_an_upgrade_signed_as_https_and_a_webhook_with_a_trailing_slash_are_refused():
    as_https = "lZEvGu0Z5D37/G+S9TnXfxg6Af0="  # T7b
    upgrade = request("https://bridge.example.com/twilio/media", method="GET", sign=as_https, headers=UPGRADE)
    assert fault(upgrade) is SignatureFault.MISMATCH
    slashed = signature.sign("https://h.example/x/", [], TOKEN)
    assert fault(request("https://h.example/x", sign=slashed)) is SignatureFault.MISMATCH


def test_user_and_password_are_never_signed():
    signed = signature.sign("https://h.example/x", [], TOKEN)
    assert verify(request("https://user:pass@h.example:8443/x", sign=signed)) == "https://h.example/x"


def test_an_ipv6_origin_works_with_and_without_its_port():
    for form in ("https://[2001:db8::1]/x", "https://[2001:db8::1]:8443/x"):
        assert verify(request("https://[2001:db8::1]:8443/x", sign=signature.sign(form, [], TOKEN))) == form


def test_every_configured_origin_is_tried_and_the_operator_is_told_which():
    origins = ("https://new.example", "https://old.example:8443")
    for origin in ("https://new.example", "https://old.example", "https://old.example:8443"):
        signed = signature.sign(f"{origin}/x", [], TOKEN)
        req = HttpRequest("POST", origins, "/x", "", FORM | {"x-twilio-signature": signed})
        assert verify(req) == f"{origin}/x"
    req = HttpRequest("POST", origins, "/x", "", FORM | {"x-twilio-signature": "no"})
    with pytest.raises(SignatureError) as caught:
        verify(req)
    assert caught.value.tried == (
        "https://new.example/x",
        "https://new.example:443/x",
        "https://old.example/x",
        "https://old.example:8443/x",
    )


def test_the_number_of_tried_forms_is_bounded():
    origins = tuple(f"https://h{number}.example" for number in range(1000))
    assert len(signature.url_forms(HttpRequest("GET", origins, "/", "", UPGRADE))) == 32


def test_unreadable_origins_are_skipped():
    origins = ("https://h:port", "ftp://h", "https://[::1", "", "https://h.example")
    signed = signature.sign("https://h.example/x", [], TOKEN)
    req = HttpRequest("GET", origins, "/x", "", {"x-twilio-signature": signed})
    assert verify(req) == "https://h.example/x"


def test_both_auth_tokens_are_accepted_during_a_rotation_and_an_empty_one_never():
    signed = signature.sign("https://h.example/x", [], "new-token")
    assert verify(request("https://h.example/x", sign=signed), tokens=("old-token", "new-token"))
    with_empty_key = signature.sign("https://h.example/x", [], "")
    assert fault(request("https://h.example/x", sign=with_empty_key), tokens=("",)) is SignatureFault.MISMATCH


SHARED = "x-twilio-webhooks-signature-settings"
T8 = "033hgUJA9M/hXIZsYjwkerEP/DBm35nEri5FhCYjA5s="


def test_a_configured_shared_key_verifies_with_sha256():
    req = request(ORIGIN + TARGET, P_BODY, sign=T8, headers=FORM | {SHARED: "key=k1,algorithm=HMAC_SHA256"})
    assert verify(req, tokens=("another",), shared_keys={"k1": TOKEN})
    assert signature.sign(ORIGIN + TARGET, parse_form(P_BODY), TOKEN, "sha256") == T8


@pytest.mark.parametrize(
    ("settings", "signed"),
    [
        ("key=k2,algorithm=HMAC_SHA256", T8),
        ("key=k1,algorithm=HMAC_SHA1", "RSOYDt4T1cUTdK1PDd93/VVr8B8="),
        ("key=k1", "RSOYDt4T1cUTdK1PDd93/VVr8B8="),
        ("algorithm=HMAC_SHA256", T8),
        ("algorithm=HMAC_MD5", "RSOYDt4T1cUTdK1PDd93/VVr8B8="),
        ("key=,algorithm=HMAC_SHA256", T8),
    ],
)
def test_the_settings_header_cannot_choose_another_key_or_algorithm(settings, signed):
    req = request(ORIGIN + TARGET, P_BODY, sign=signed, headers=FORM | {SHARED: settings})
    assert fault(req, shared_keys={"k1": TOKEN}) is SignatureFault.MISMATCH


def test_a_request_for_another_account_is_refused_even_when_it_is_signed():
    for url, body, method in [
        ("https://h.example/x", b"AccountSid=AC1", "POST"),
        ("https://h.example/x?AccountSid=AC1", b"", "GET"),
        ("https://h.example/x", b"AccountSid=" + ACCOUNT.encode() + b"&AccountSid=AC1", "POST"),
    ]:
        signed = signature.sign(url, parse_form(body), TOKEN)
        assert fault(request(url, body, method=method, sign=signed)) is SignatureFault.WRONG_ACCOUNT


def test_a_missing_or_empty_signature_is_told_from_a_wrong_one():
    assert fault(request("https://h.example/x")) is SignatureFault.MISSING
    assert fault(request("https://h.example/x", sign="  ")) is SignatureFault.MISSING
    assert fault(request("https://h.example/x", sign="ü\ud800")) is SignatureFault.MISMATCH


def test_too_many_fields_and_other_methods_are_malformed():
    many = request("https://h.example/x", b"a=&" * 600, sign="x")
    assert fault(many) is SignatureFault.MALFORMED
    assert fault(request("https://h.example/x", method="PUT", sign="x")) is SignatureFault.MALFORMED


# --- the vendor's validator as the oracle --------------------------------------------------------------


class Fields(dict):
    """What the validator reads repeated fields from."""

    def getlist(self, name):
        return self[name]


names = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
pairs = st.lists(st.tuples(names, names), max_size=12)
hosts = st.from_regex(r"[a-z]{1,8}(\.[a-z]{2,5}){1,2}", fullmatch=True)
ports = st.sampled_from(["", ":80", ":443", ":8443", ":1234"])
paths = st.from_regex(r"/[A-Za-z0-9_\-/]{0,20}", fullmatch=True)
queries = st.from_regex(
    r"([a-z]{1,4}=[A-Za-z0-9%+]{0,6}(&[a-z]{1,4}=[A-Za-z0-9]{0,4}){0,2})?", fullmatch=True
)
schemes = st.sampled_from(["https", "http"])


def oracle(url, fields, sign):
    grouped = Fields()
    for name, value in fields:
        grouped.setdefault(name, []).append(value)
    return RequestValidator(TOKEN).validate(url, grouped, sign)


@given(schemes, hosts, ports, ports, paths, queries, pairs)
def test_whatever_the_vendors_validator_accepts_we_accept(
    scheme, host, port, signed_port, path, query, fields
):
    target = path + (f"?{query}" if query else "")
    url, signed_url = f"{scheme}://{host}{port}{target}", f"{scheme}://{host}{signed_port}{target}"
    # To the validator AccountSid is a field as any other.
    assume(not any(name == "AccountSid" for name, _ in fields) and "AccountSid" not in query)
    encoded = [(name.encode(), value.encode()) for name, value in fields]
    signed = signature.sign(signed_url, encoded, TOKEN)
    assert signed == RequestValidator(TOKEN).compute_signature(signed_url, _grouped(fields))
    req = request(url, urlencode(fields).encode(), sign=signed)
    if oracle(url, fields, signed):
        assert verify(req)
    elif signed_port not in ("", port) and port:
        # Nor may we accept a port that is neither the configured one nor the scheme's own.
        assert fault(req) is SignatureFault.MISMATCH


def _grouped(fields):
    grouped = Fields()
    for name, value in fields:
        grouped.setdefault(name, []).append(value)
    return grouped


@given(schemes, hosts, ports, paths, pairs, st.data())
def test_any_changed_field_is_refused_as_the_vendors_validator_refuses_it(
    scheme, host, port, path, fields, data
):
    url = f"{scheme}://{host}{port}{path}"
    assume(fields and not any(name == "AccountSid" for name, _ in fields))
    signed = RequestValidator(TOKEN).compute_signature(url, _grouped(fields))
    index = data.draw(st.integers(0, len(fields) - 1))
    changed = list(fields)
    changed[index] = (fields[index][0], fields[index][1] + "!")
    accepted = oracle(url, changed, signed)
    req = request(url, urlencode(changed).encode(), sign=signed)
    if accepted:
        assert verify(req)
    else:
        assert fault(req) is SignatureFault.MISMATCH


@given(hosts, paths, st.binary(min_size=1, max_size=60), st.booleans())
def test_json_bodies_agree_with_the_vendors_validator(host, path, body, keep):
    text = body.decode("utf-8", "replace")
    digest = sha256(text.encode()).hexdigest()
    url = f"https://{host}{path}?bodySHA256={digest}"
    signed = RequestValidator(TOKEN).compute_signature(url, {})
    sent = text if keep else text + "x"
    req = request(url, sent.encode(), sign=signed, headers={"content-type": "application/json"})
    assert RequestValidator(TOKEN).validate(url, sent, signed) is keep
    if keep:
        assert verify(req)
    else:
        assert fault(req) is SignatureFault.BODY_MISMATCH


@given(
    st.sampled_from(["GET", "POST", "PUT", "", "get"]),
    st.text(max_size=30),
    st.text(max_size=60),
    st.binary(max_size=200),
    st.dictionaries(
        st.sampled_from(["x-twilio-signature", SHARED, "content-type", "upgrade", "host"]),
        st.text(max_size=40),
    ),
    st.lists(st.text(max_size=30), max_size=3),
)
def test_hostile_requests_raise_nothing_but_signature_errors(method, path, query, body, headers, origins):
    req = HttpRequest(method, tuple(origins), path, query, headers, body)
    with pytest.raises(SignatureError):
        verify(req, shared_keys={"k1": "secret"})
