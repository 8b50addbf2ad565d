"""Who answered, from the wish at the dial to the provider's own callback, at both simulated carriers over real HTTP."""

import asyncio

import pytest

from carrier_sim import Callee, CarrierSim, SimConfig
from offhook.providers.base import Dial, HttpRequest
from offhook.providers.registry import PROVIDERS, rest

OURS, THEIRS = "+14155550100", "+14155550123"
APPLICATION = "aaaaaaaa-0000-4000-8000-000000000001"
TWILIO = {"account_sid": "AC" + "0" * 32, "auth_token": "token"}
INSTRUCTIONS = {
    "twilio": (b'<Response><Pause length="10"/></Response>', "text/xml"),
    "vonage": (b'[{"action":"wait","timeout":10}]', "application/json"),
}


@pytest.fixture
async def plain_sim(monkeypatch):
    """Carriers that ask http URLs as well."""
    async with CarrierSim(SimConfig(allow_plain=True)) as simulation:
        for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("SSL_CERT_FILE", str(simulation.ca_pem))
        yield simulation


@pytest.fixture
def credentials(plain_sim, private_key):
    plain_sim.twilio.add_account(TWILIO["account_sid"], "token").add_number(OURS)
    plain_sim.vonage.add_application(APPLICATION, api_key="k", api_secret="s", private_key=private_key)
    vonage = {
        "application_id": APPLICATION,
        "private_key": private_key,
        "api_key": "k",
        "signature_secret": "s",
    }
    return {"twilio": TWILIO, "vonage": vonage}


@pytest.mark.parametrize("provider", sorted(PROVIDERS))
@pytest.mark.parametrize(
    ("callee", "answered_by"), [(Callee(0.1), "human"), (Callee.machine(0.5), "machine")]
)
async def test_who_answered_is_told_beside_the_call_and_changes_no_state(
    plain_sim, rest_api, credentials, provider, callee, answered_by
):
    body, content_type = INSTRUCTIONS[provider]
    rest_api.answer(200, body, Content_Type=content_type)
    plain_sim.callees[THEIRS] = callee
    url = rest_api.url
    call = Dial(OURS, THEIRS, f"{url}/answer", f"{url}/told", f"{url}/x", 20, 60, "detect", f"{url}/told")
    dialled = await asyncio.to_thread(
        lambda: rest(provider)(credentials[provider], plain_sim.base_url).dial(call)
    )

    def reports():
        webhooks = PROVIDERS[provider].webhooks
        for sent in [sent for sent in rest_api.sent if sent.path == "/told"]:
            yield webhooks.parse_status(HttpRequest("POST", (url,), "/told", "", sent.headers, sent.body))

    async with asyncio.timeout(30):
        while not (told := [report for report in reports() if report.answered_by is not None]):
            await asyncio.sleep(0.05)
    assert {report.answered_by for report in told} == {answered_by}
    assert told[0].provider_call_id == dialled.provider_call_id
    assert told[0].status is None
    assert answered_by in {word.partition("_")[0] for word in told[0].raw.values()}
