"""What the webhook log says of refused requests, signed by the vendors' own libraries for something else."""

import json
import sys
import time

import pytest
from starlette.datastructures import ImmutableMultiDict
from twilio.request_validator import RequestValidator

from offhook.events import NearMiss
from offhook.providers.twilio import signature
from offhook.records import PublicUrlRecord
from offhook.topics import CONFIGURATIONS, SETTINGS
from webhook_gateway import diagnosis, refusals
from webhook_gateway.budget import Budget

WRONG = "https://wrong.example.com"


async def near_misses(rig):
    (entry,) = await rig.audits()
    assert not entry.verified
    return entry.near_misses


@pytest.mark.parametrize(
    ("origin", "headers", "expected"),
    [
        ("http://voice.example.com", {}, NearMiss.OTHER_URL),
        ("https://voice.example.com:8443", {}, NearMiss.OTHER_URL),
        (WRONG, {"x-forwarded-host": "inner:80, wrong.example.com"}, NearMiss.FORWARDED_URL),
        (WRONG, {"forwarded": 'for=10.0.0.1;host="wrong.example.com";proto=https'}, NearMiss.FORWARDED_URL),
        ("http://wrong.example.com", {"x-forwarded-host": "wrong.example.com"}, NearMiss.FORWARDED_URL),
    ],
)
async def test_another_address_that_was_signed_is_named(rig, origin, headers, expected):
    assert (await rig.twilio(origin=origin, headers=headers)).status_code == 403
    assert await near_misses(rig) == (f"{expected} {origin}{rig.inbound}",)


async def test_the_port_of_the_address_is_named_although_the_provider_leaves_it_out_of_what_it_signs(rig):
    await rig.twilio(origin=WRONG, headers={"host": "wrong.example.com:9443"})
    assert await near_misses(rig) == (f"forwarded-url {WRONG}:9443{rig.inbound}",)


async def test_of_an_account_with_a_proven_holder_only_his_secret_is_tried(rig):
    elsewhere = {"origin": WRONG, "headers": {"x-forwarded-host": "wrong.example.com"}}
    for name in ("a1", "a2", "a3"):
        claimed = {"account_sid": rig.sid, "auth_token": "a-token-of-my-own"}
        await rig.put(CONFIGURATIONS, name, rig.configuration(name, "u9", "twilio", claimed))
    held = {"account_sid": rig.sid, "auth_token": "the-auth-token-of-tenant-one"}
    mine = rig.configuration("c1", "u1", "twilio", held, verification="verified")
    await rig.put(CONFIGURATIONS, "c1", mine)
    await rig.bus.settle()
    await rig.twilio(token="a-token-of-my-own", **elsewhere)
    await rig.twilio(**elsewhere)
    entries = await rig.audits(2)
    assert [entry.near_misses for entry in entries] == [(), (f"forwarded-url {WRONG}{rig.inbound}",)]


async def test_an_address_that_was_public_before_is_called_a_former_one(rig):
    await rig.put(SETTINGS, PublicUrlRecord.KEY, PublicUrlRecord(url="https://new.example.com"))
    await rig.bus.settle()
    await rig.twilio()
    assert await near_misses(rig) == (f"former-url {rig.public_url}{rig.inbound}",)


@pytest.mark.parametrize(
    ("signed", "sent", "expected"),
    [
        ("", "?a=1", NearMiss.QUERY_DROPPED),
        ("?a=x%20y", "?a=x+y", NearMiss.QUERY_ENCODING),
        ("/", "", NearMiss.SLASH),
    ],
)
async def test_an_address_that_a_proxy_rewrote_is_explained(rig, signed, sent, expected):
    pairs = rig.twilio_fields()
    path = rig.status("run-1")
    validator = RequestValidator("the-auth-token-of-tenant-one")
    signature = validator.compute_signature(rig.public_url + path + signed, ImmutableMultiDict(pairs))
    assert (await rig.twilio(path + sent, pairs, signature=signature)).status_code == 403
    (found,) = await near_misses(rig)
    assert found.startswith(expected)


async def test_the_secret_of_another_configuration_of_the_same_user_is_named_and_nobody_elses(rig):
    mine = rig.configuration(
        "c4", "u1", "twilio", {"account_sid": "AC" + "9" * 32, "auth_token": "the-token-of-the-other"}
    )
    await rig.put(CONFIGURATIONS, "c4", mine)
    await rig.bus.settle()
    await rig.twilio(token="the-token-of-the-other")
    await rig.twilio(token=rig.other_token)
    entries = await rig.audits(2)
    assert [entry.near_misses for entry in entries] == [("other-credentials c4",), ()]


async def test_an_account_nobody_has_is_compared_with_every_secret_for_the_operator(rig):
    await rig.twilio(AccountSid="AC" + "7" * 32)
    (entry,) = await rig.audits()
    assert (entry.reason, entry.near_misses) == ("unknown-account", ("other-credentials c1",))


EVENT = {"uuid": "aaaaaaaa-bbbb-cccc-dddd-0123456789ab", "status": "busy"}
SPACED = json.dumps(EVENT).encode()


@pytest.mark.parametrize(
    ("signed", "sent"), [(SPACED, SPACED + b"\n"), (json.dumps(EVENT, indent=2).encode(), SPACED)]
)
async def test_a_body_that_was_changed_on_the_way_is_said_to_be(rig, signed, sent):
    await rig.vonage(rig.status("run-1"), body=sent, token=rig.vonage_token(signed))
    assert await near_misses(rig) == ("body-changed",)


def test_no_body_is_nested_so_deeply_that_it_cannot_be_looked_at():
    # Near the interpreter's limit some can be read and not be written; where, depends on the frames above.
    for depth in range(sys.getrecursionlimit()):
        assert diagnosis._bodies(b"[" * depth + b"1.5" + b"]" * depth)


def test_a_body_does_not_grow_much_by_being_written_anew():
    deep, wide = 500, b"1," * 5000 + b"1"
    for depth in (1, 30, deep):
        body = b"[" * depth + wide + b"]" * depth
        assert max(map(len, diagnosis._bodies(body))) < 50 * len(body)


@pytest.mark.parametrize("off_s", [-900, -7200, 600, 3600])
async def test_a_clock_that_is_wrong_is_told_with_its_error(rig, off_s):
    await rig.vonage(rig.status("run-1"), iat=int(time.time()) + off_s)
    (found,) = await near_misses(rig)
    word, seconds = found.split()
    assert word == "clock"
    assert abs(int(seconds) - off_s) <= 10


async def test_a_forged_request_has_no_near_miss_and_costs_a_bounded_number_of_tries(rig, monkeypatch):
    tries = []
    verify = signature.verify
    monkeypatch.setattr(signature, "verify", lambda *args, **more: tries.append(1) or verify(*args, **more))
    many = {"x-forwarded-host": ",".join(f"h{n}.example.com" for n in range(50)), "x-original-uri": "/x?y=z"}
    await rig.twilio(rig.status("run-1") + "?a=b%20c", signature="AAAA", headers=many)
    assert await near_misses(rig) == ()
    assert len(tries) <= diagnosis.MAX_TRIES + 1


def test_a_flood_for_one_account_leaves_room_for_another():
    budget = Budget(clock=lambda: 0.0)
    flood = [budget.take("twilio:AC1") for _ in range(1000)]
    invented = [budget.take(None) for _ in range(1000)]
    assert (flood.count(True), invented.count(True)) == (20, 10)
    assert budget.take("twilio:AC2")


async def test_what_is_not_looked_at_is_said_to_be_and_kept_nowhere(start_rig, monkeypatch):
    monkeypatch.setattr(refusals, "Budget", lambda: Budget(clock=lambda: 0.0))
    async with start_rig() as rig:
        for _ in range(21):
            await rig.twilio(signature="AAAA")
        last = (await rig.audits(21))[-1]
    assert (last.near_misses, last.sealed_request) == (("not-looked",), None)
