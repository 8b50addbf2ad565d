"""Bad days of the REST APIs, as the official SDKs meet them, and what the simulator tells about requests."""

import asyncio
import json
import time
from typing import Any

import aiohttp
import pytest
import requests
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from twilio.base.exceptions import TwilioRestException
from twilio.http.http_client import TwilioHttpClient
from twilio.rest import Client

from carrier_sim import CarrierSim, RestFault, provision
from carrier_sim.rest_log import RateLimits

SID = "AC" + "1" * 32
TOKEN = "twilio-auth-token"
OURS = "+14155550100"
APPLICATION = "aaaaaaaa-bbbb-4ccc-8ddd-0123456789ab"
KEY, SECRET = "abcd1234", "NotARealSecret1"


def twilio_client(sim: CarrierSim, timeout_s: float = 30) -> Client:
    http = TwilioHttpClient(pool_connections=True, timeout=timeout_s)
    http.session.verify = str(sim.ca_pem)
    http.session.trust_env = False
    client = Client(SID, TOKEN, http_client=http)
    client.api.base_url = sim.base_url
    return client


@pytest.fixture
def twilio(sim: CarrierSim) -> Client:
    sim.twilio.add_account(SID, TOKEN).add_number(OURS)
    return twilio_client(sim)


@pytest.fixture
def application(sim: CarrierSim, private_key: str) -> None:
    sim.vonage.add_application(
        APPLICATION, private_key=private_key, api_key=KEY, api_secret=SECRET, answer_url="https://old.example/a"
    )  # fmt: skip
    sim.vonage.add_number(APPLICATION, "14155550101")


async def fetch(client: Client) -> Any:
    return await asyncio.to_thread(client.api.accounts(SID).fetch)


async def ask(sim: CarrierSim, path: str, method: str = "GET", **options: Any) -> requests.Response:
    def send() -> requests.Response:
        with requests.Session() as session:
            session.trust_env = False
            return session.request(method, sim.base_url + path, verify=str(sim.ca_pem), **options)

    return await asyncio.to_thread(send)


@pytest.mark.parametrize(
    ("status", "code"), [(401, 20003), (403, 20006), (404, 20404), (429, 20429), (500, 20500), (503, 20503)]
)
async def test_a_status_comes_in_twilios_own_words(
    sim: CarrierSim, twilio: Client, status: int, code: int
) -> None:
    sim.rest_faults = [RestFault(status=status, times=1)]
    with pytest.raises(TwilioRestException) as error:
        await fetch(twilio)
    assert (error.value.status, error.value.code) == (status, code)
    assert (await fetch(twilio)).sid == SID


async def test_a_code_and_a_time_to_wait_are_sent_as_asked(sim: CarrierSim, twilio: Client) -> None:
    sim.rest_faults = [RestFault(status=403, code=20008, retry_after=7)]
    answer = await ask(sim, f"/2010-04-01/Accounts/{SID}.json", auth=(SID, TOKEN))
    assert (answer.status_code, answer.json()["code"], answer.headers["Retry-After"]) == (403, 20008, "7")


async def test_vonages_two_families_of_apis_have_their_own_shapes(sim: CarrierSim, application: None) -> None:
    sim.rest_faults = [RestFault(provider="vonage", status=429, retry_after=3)]
    new = await ask(sim, f"/v2/applications/{APPLICATION}", auth=(KEY, SECRET))
    old = await ask(sim, "/account/numbers", auth=(KEY, SECRET))
    assert (new.status_code, new.json()["title"], new.headers["Retry-After"]) == (429, "Rate Limit Hit", "3")
    assert (old.status_code, old.json()) == (429, {"error-code": "429", "error-code-label": "throttled"})


async def test_a_rule_hits_only_the_requests_it_names_so_often_as_it_says(
    sim: CarrierSim, twilio: Client, application: None
) -> None:
    sim.rest_faults = [
        RestFault(provider="twilio", method="post", path="*/IncomingPhoneNumbers/*", status=500, skip=1, times=1),
        RestFault(account=KEY, status=401),
    ]  # fmt: skip
    (number,) = await asyncio.to_thread(twilio.incoming_phone_numbers.list)
    change = twilio.incoming_phone_numbers(number.sid).update
    await asyncio.to_thread(change, friendly_name="one")
    with pytest.raises(TwilioRestException) as error:
        await asyncio.to_thread(change, friendly_name="two")
    assert error.value.status == 500
    assert (await asyncio.to_thread(change, friendly_name="three")).friendly_name == "three"
    assert (await ask(sim, "/account/get-balance", auth=(KEY, SECRET))).status_code == 401


@pytest.mark.parametrize("do", ["html", "truncated", "wrong-shape", "huge"])
async def test_garbage_is_garbage_with_a_good_status(sim: CarrierSim, twilio: Client, do: Any) -> None:
    sim.rest_faults = [RestFault(do=do, huge_bytes=3_000_000)]
    answer = await ask(sim, f"/2010-04-01/Accounts/{SID}.json", auth=(SID, TOKEN))
    assert answer.status_code == 200
    if do == "huge":
        assert len(answer.json()["filler"]) == 3_000_000
        assert "Content-Length" not in answer.headers
    elif do == "wrong-shape":
        assert isinstance(answer.json(), list)
    else:
        with pytest.raises(ValueError, match=r"Expecting|Unterminated"):
            answer.json()
        assert answer.text.startswith("<!DOCTYPE html>" if do == "html" else "{")


@pytest.mark.parametrize("work", [True, False])
async def test_a_cut_connection_leaves_open_whether_the_work_was_done(
    sim: CarrierSim, twilio: Client, work: bool
) -> None:
    sim.rest_faults = [RestFault(do="cut", method="POST", work=work)]
    (number,) = sim.twilio.accounts[SID].numbers.values()
    with pytest.raises(requests.ConnectionError):
        await asyncio.to_thread(twilio.incoming_phone_numbers(number.sid).update, friendly_name="new")
    assert (number.friendly_name == "new") is work


async def test_silence_lasts_until_the_client_gives_up(sim: CarrierSim, twilio: Client) -> None:
    sim.rest_faults = [RestFault(do="silence")]
    with pytest.raises(requests.ReadTimeout):
        await ask(sim, f"/2010-04-01/Accounts/{SID}.json", auth=(SID, TOKEN), timeout=(30, 0.5))


async def test_a_silent_carrier_can_be_stopped(private_key: str) -> None:
    async with CarrierSim() as sim:
        sim.twilio.add_account(SID, TOKEN)
        sim.rest_faults = [RestFault(do="silence")]
        waiting = asyncio.create_task(fetch(twilio_client(sim, timeout_s=300)))
        while sim.rest_faults and not sim._gate.faults.to_list()[0]["hit"]:
            await asyncio.sleep(0.01)
    with pytest.raises(requests.ConnectionError):
        await waiting


async def test_a_slow_answer_is_a_good_answer(sim: CarrierSim, twilio: Client) -> None:
    sim.rest_faults = [RestFault(do="slow", delay_s=0.3)]
    began = time.monotonic()
    assert (await fetch(twilio)).sid == SID
    assert time.monotonic() - began >= 0.3


def test_requests_are_admitted_up_to_the_limit_in_any_second() -> None:
    limits = RateLimits()
    limits.set(SID, 3)
    assert [limits.admits(SID, now) for now in (0.0, 0.1, 0.2, 0.9)] == [True, True, True, False]
    assert limits.admits(KEY, 0.9), "it has no limit"
    assert [limits.admits(SID, now) for now in (1.05, 1.06, 1.15, 1.16)] == [True, False, True, False]


def test_a_slow_account_gets_one_request_in_so_many_seconds() -> None:
    limits = RateLimits()
    limits.set(SID, 0.5)
    assert [limits.admits(SID, now) for now in (0.0, 1.9, 2.1, 4.0, 4.2)] == [True, False, True, False, True]


async def test_an_account_over_its_rate_is_refused_and_another_is_not(
    sim: CarrierSim, twilio: Client, application: None
) -> None:
    sim.limit_requests(SID, 0.001)
    assert (await fetch(twilio)).status == "active"
    with pytest.raises(TwilioRestException) as error:
        await fetch(twilio)
    assert (error.value.status, error.value.code) == (429, 20429)
    for _ in range(2):
        assert (await ask(sim, "/account/get-balance", auth=(KEY, SECRET))).status_code == 200
    assert (sim.rest_log.count(SID), sim.rest_log.refused(SID), sim.rest_log.refused(KEY)) == (2, 1, 0)


@pytest.mark.parametrize("status", ["suspended", "closed"])
async def test_an_account_that_is_not_active_is_shown_and_everything_else_refused(
    sim: CarrierSim, twilio: Client, status: Any
) -> None:
    sim.twilio.accounts[SID].status = status
    assert (await fetch(twilio)).status == status
    with pytest.raises(TwilioRestException) as error:
        await asyncio.to_thread(twilio.calls("CA" + "0" * 32).fetch)
    assert (error.value.status, error.value.code) == (403, 20005)
    with pytest.raises(LookupError, match=status):
        await sim.twilio.call_in("+14155550143", OURS)


async def test_hundreds_of_numbers_come_page_by_page_each_once(sim: CarrierSim, twilio: Client) -> None:
    account = sim.twilio.accounts[SID]
    wanted = {OURS} | {account.add_number(f"+1415556{n:04}").phone_number for n in range(620)}
    found = await asyncio.to_thread(twilio.incoming_phone_numbers.list, page_size=100)
    assert len(found) == 621
    assert {n.phone_number for n in found} == wanted
    assert sim.rest_log.count(SID) == 7


async def test_vonages_pages_end_with_the_last_number(sim: CarrierSim, application: None) -> None:
    for n in range(249):
        sim.vonage.add_number(None, f"1415556{n:04}", api_key=KEY)
    found: list[str] = []
    for index in (1, 2, 3, 4):
        params = {"size": 100, "index": index}
        page = (await ask(sim, "/account/numbers", auth=(KEY, SECRET), params=params)).json()
        assert page["count"] == 250
        found += [number["msisdn"] for number in page["numbers"]]
    assert len(found) == len(set(found)) == 250


# --- over the control API ---------------------------------------------------------------------------------------------------


async def control(sim: CarrierSim, method: str, path: str, data: Any = None) -> tuple[int, Any]:
    answer = await ask(sim, f"/_sim/{path}", method, json=data)
    return answer.status_code, answer.json() if answer.content else None


async def test_rules_are_set_shown_with_their_counts_and_dropped(sim: CarrierSim, twilio: Client) -> None:
    rule = {"do": "status", "status": 503, "path": "*/Accounts/*", "times": 2}
    assert (await control(sim, "PUT", "rest-faults", {"rules": [rule]}))[0] == 200
    with pytest.raises(TwilioRestException):
        await fetch(twilio)
    assert await control(sim, "GET", "rest-faults") == (200, {"rules": [rule | {"matched": 1, "hit": 1}]})
    assert (await control(sim, "DELETE", "rest-faults"))[0] == 204
    assert (await fetch(twilio)).sid == SID


@pytest.mark.parametrize(
    "rule", [{"do": "explode"}, {"status": 200}, {"status": 401, "surprise": 1}, {"do": "cut", "times": -1}], ids=str
)  # fmt: skip
async def test_a_rule_that_cannot_be_is_refused_and_the_others_stay(sim: CarrierSim, rule: Any) -> None:
    sim.rest_faults = [RestFault(status=500)]
    status, problem = await control(sim, "PUT", "rest-faults", [rule])
    assert status == 422
    assert problem["detail"]
    assert len(sim.rest_faults) == 1


async def test_the_log_tells_every_request_and_no_secret(
    sim: CarrierSim, twilio: Client, application: None
) -> None:
    sim.rest_faults = [RestFault(do="cut", path="/account/get-balance")]
    await fetch(twilio)
    await ask(sim, f"/account/numbers?api_key={KEY}&api_secret={SECRET}")
    with pytest.raises(requests.ConnectionError):
        await ask(sim, "/account/get-balance", auth=(KEY, SECRET))
    _, log = await control(sim, "GET", "rest-log")
    told = [(r["account"], r["method"], r["path"], r["status"], r["fault"]) for r in log["requests"]]
    assert told == [
        (SID, "GET", f"/2010-04-01/Accounts/{SID}.json", 200, None),
        (KEY, "GET", "/account/numbers", 200, None),
        (KEY, "GET", "/account/get-balance", None, "cut"),
    ]
    assert log["accounts"][KEY] == {"requests": 2, "refused": 0}
    assert SECRET not in json.dumps(log)
    assert TOKEN not in json.dumps(log)
    _, only = await control(sim, "GET", f"rest-log?account={SID}")
    assert len(only["requests"]) == 1
    await control(sim, "DELETE", "rest-log")
    assert sim.rest_log.count(SID) == 0


async def test_numbers_are_changed_added_and_released_behind_the_customers_back(
    sim: CarrierSim, twilio: Client, application: None
) -> None:
    change = {"voice_url": "https://elsewhere.example/voice", "trunk_sid": "TK" + "0" * 32}
    status, shown = await control(sim, "PUT", f"numbers/{OURS}", change)
    assert status == 200
    assert shown["voice_url"] == change["voice_url"]
    (number,) = await asyncio.to_thread(twilio.incoming_phone_numbers.list)
    assert (number.voice_url, number.trunk_sid) == (change["voice_url"], change["trunk_sid"])
    with pytest.raises(LookupError, match="TK"):
        await sim.twilio.call_in("+14155550143", OURS)
    assert (await control(sim, "PUT", f"numbers/{OURS}", {"sms_url": ""}))[0] == 422
    status, shown = await control(sim, "PUT", "numbers/14155550101", {"app_id": None, "voice": False})
    assert (status, shown["app_id"], shown["voice"]) == (200, None, False)
    assert (await control(sim, "PUT", "numbers/14155550101", {"app_id": "another"}))[0] == 404
    assert (await control(sim, "POST", "numbers", {"account": SID, "numbers": ["+14155550177"]}))[0] == 201
    assert (await control(sim, "DELETE", f"numbers/{OURS}"))[0] == 204
    found = await asyncio.to_thread(twilio.incoming_phone_numbers.list)
    assert [n.phone_number for n in found] == ["+14155550177"]


async def test_an_account_is_changed_behind_the_customers_back(
    sim: CarrierSim, twilio: Client, application: None
) -> None:
    status, shown = await control(sim, "PUT", f"accounts/{SID}", {"status": "suspended", "requests_per_s": 5})
    assert (status, shown["status"], shown["requests_per_s"]) == (200, "suspended", 5)
    assert (await fetch(twilio)).status == "suspended"
    await control(sim, "PUT", f"accounts/{SID}", {"secret": "another"})
    with pytest.raises(TwilioRestException) as error:
        await fetch(twilio)
    assert error.value.code == 20003
    await control(sim, "PUT", f"accounts/{KEY}", {"secret": "another"})
    assert (await ask(sim, "/account/get-balance", auth=(KEY, "another"))).status_code == 200
    assert (await control(sim, "PUT", f"accounts/{KEY}", {"status": "closed"}))[0] == 422
    assert (await control(sim, "GET", "accounts/AC"))[0] == 404


async def test_an_application_is_changed_behind_the_customers_back(
    sim: CarrierSim, application: None
) -> None:
    change = {
        "answer_url": "https://new.example/a",
        "event_url": "https://new.example/e",
        "signed_callbacks": False,
    }
    assert (await control(sim, "PUT", f"applications/{APPLICATION}", change))[0] == 200
    shown = (await ask(sim, f"/v2/applications/{APPLICATION}", auth=(KEY, SECRET))).json()
    voice = shown["capabilities"]["voice"]
    assert voice["webhooks"]["answer_url"] == {"address": "https://new.example/a", "http_method": "GET"}
    assert voice["signed_callbacks"] is False
    _, shown = await control(
        sim, "PUT", f"applications/{APPLICATION}", {"answer_url": None, "event_method": "GET"}
    )
    webhooks = shown["capabilities"]["voice"]["webhooks"]
    assert webhooks == {"event_url": {"address": "https://new.example/e", "http_method": "GET"}}


async def test_another_key_pair_is_made_and_its_public_half_is_shown(
    sim: CarrierSim, application: None, private_key: str
) -> None:
    before = sim.vonage.applications[APPLICATION].public_key
    _, shown = await control(sim, "PUT", f"applications/{APPLICATION}", {"new_key": True})
    key = load_pem_private_key(shown["private_key"].encode(), None)
    assert key.key_size == 2048  # type: ignore[union-attr]
    told = (await ask(sim, f"/v2/applications/{APPLICATION}", auth=(KEY, SECRET))).json()
    assert told["keys"]["public_key"] == shown["public_key"] != before
    assert (await control(sim, "PUT", f"applications/{APPLICATION}", {"public_key": "PEM"}))[0] == 422


async def test_a_file_can_say_all_of_it(tmp_path: Any, private_key: str) -> None:
    (tmp_path / "key.pem").write_text(private_key)
    (tmp_path / "sim.yaml").write_text(f"""
twilio:
  accounts:
    - account_sid: {SID}
      auth_token: {TOKEN}
      status: suspended
      requests_per_s: 5
      numbers: [{{number: "{OURS}", trunk_sid: TK1, voice: false}}]
vonage:
  applications:
    - application_id: {APPLICATION}
      private_key_file: key.pem
      api_key: {KEY}
      api_secret: {SECRET}
      signed_callbacks: false
      requests_per_s: 2
      spare_numbers: ["+14155550101"]
rest_faults:
  - {{do: status, status: 429, retry_after: 2, times: 1}}
""")
    simulation = provision.read(tmp_path / "sim.yaml")
    async with CarrierSim(simulation.config()) as sim:
        simulation.provision(sim)
        assert sim.rest_faults == (RestFault(status=429, retry_after=2, times=1),)
        assert sim.twilio.accounts[SID].status == "suspended"
        assert sim.vonage.numbers["14155550101"].app_id is None
        assert sim.vonage.applications[APPLICATION].voice["signed_callbacks"] is False
        async with aiohttp.ClientSession() as session:
            url = f"{sim.base_url}/_sim/accounts/{KEY}"
            assert (await (await session.get(url, ssl=False)).json())["requests_per_s"] == 2
