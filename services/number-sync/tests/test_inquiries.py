"""Questions to the carrier simulator that somebody waits for."""

import asyncio

import pytest
from running_number_sync import OTHER_TWILIO, TWILIO

from carrier_sim import CarrierSim
from carrier_sim.rest_faults import RestFault
from number_sync.inquiries import Inquiries
from number_sync.sync.pacing import Pacer, RestingError
from offhook.providers import registry
from offhook.providers.base import RestError

SID = TWILIO["account_sid"]


def inquiries(carrier: CarrierSim, *, pacer: Pacer | None = None, concurrency: int = 8) -> Inquiries:
    return Inquiries(
        rest_of=registry.rest,
        api_url=lambda provider: carrier.base_url,
        pacer=pacer,
        concurrency=concurrency,
    )


async def check(asking: Inquiries, credentials: dict[str, str] = TWILIO, within_s: float = 8) -> str:
    facts = await asking.ask(
        "twilio",
        credentials["account_sid"],
        credentials,
        "check",
        lambda rest: rest.check(),
        within_s=within_s,
    )
    return facts.account


async def test_an_answer_is_passed_on_and_so_is_a_refusal(carrier: CarrierSim) -> None:
    carrier.twilio.add_account(SID, TWILIO["auth_token"])
    assert await check(inquiries(carrier)) == SID
    with pytest.raises(RestError) as refused:
        await check(inquiries(carrier), {**TWILIO, "auth_token": "0" * 32})
    assert refused.value.kind == "credentials"


async def test_a_provider_that_hangs_is_left_behind_and_delays_no_more_than_the_deadline(
    carrier: CarrierSim,
) -> None:
    carrier.twilio.add_account(SID, TWILIO["auth_token"])
    carrier.rest_faults = [RestFault(do="silence", times=1)]
    asking = inquiries(carrier, concurrency=1)
    # The second waits for the only slot, which the first still holds.
    results = await asyncio.gather(*(check(asking, within_s=0.2) for _ in range(2)), return_exceptions=True)
    assert [type(result) for result in results] == [RestError, RestError]
    assert {str(result) for result in results} == {"no answer within 0.2 s"}


async def test_an_account_that_asks_too_much_rests_for_everybody_and_others_do_not(
    carrier: CarrierSim,
) -> None:
    for credentials in (TWILIO, OTHER_TWILIO):
        carrier.twilio.add_account(credentials["account_sid"], credentials["auth_token"])
    carrier.rest_faults = [RestFault(status=429, retry_after=300, account=SID)]
    pacer = Pacer(1000.0)
    asking = inquiries(carrier, pacer=pacer)
    with pytest.raises(RestError) as busy:
        await check(asking)
    assert (busy.value.kind, busy.value.retry_after_s) == ("busy", 300)
    assert pacer.rests_for("twilio", SID) > 0
    asked = len(carrier.rest_log.requests())
    with pytest.raises(RestingError):
        await check(asking)
    assert len(carrier.rest_log.requests()) == asked
    assert await check(asking, OTHER_TWILIO) == OTHER_TWILIO["account_sid"]


async def test_an_account_whose_requests_wait_for_their_turn_keeps_nobody_else_waiting(
    carrier: CarrierSim,
) -> None:
    for credentials in (TWILIO, OTHER_TWILIO):
        carrier.twilio.add_account(credentials["account_sid"], credentials["auth_token"])
    asking = inquiries(carrier, pacer=Pacer(0.01), concurrency=2)
    many = [asyncio.create_task(check(asking, within_s=300)) for _ in range(6)]
    try:
        async with asyncio.timeout(60):
            while not carrier.rest_log.requests():  # the next turn of this account comes after 100 s
                await asyncio.sleep(0.01)
        sid = await check(asking, OTHER_TWILIO, within_s=60)
        assert sid == OTHER_TWILIO["account_sid"]
    finally:
        for each in many:
            each.cancel()
        await asyncio.wait(many)
