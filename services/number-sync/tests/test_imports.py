"""The numbers an account owns at the carrier simulator, listed and imported."""

import asyncio
from typing import Any

import httpx
import pytest
from running_number_sync import OTHER_TWILIO, TWILIO, RunService, Service, at

from carrier_sim import CarrierSim
from carrier_sim.rest_faults import RestFault
from offhook.records import NumberRecord
from offhook.topics import NUMBERS

C = "/telephony-configurations"

on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


async def configuration(
    api: httpx.AsyncClient, credentials: dict[str, str] = TWILIO, name: str = "Main"
) -> str:
    made = await api.post(C, json={"name": name, "provider": "twilio", "credentials": credentials})
    assert made.status_code == 201, made.text
    return f"{C}/{made.json()['configuration_id']}"


async def available(api: httpx.AsyncClient, one: str, **params: Any) -> dict[str, Any]:
    answer = await api.get(f"{one}/available-numbers", params=params)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


@pytest.fixture
def owner(carrier: CarrierSim) -> Any:
    return carrier.twilio.add_account(TWILIO["account_sid"], TWILIO["auth_token"])


async def add(service: Service, one: str, number: str) -> None:
    answer = await service.api.post(f"{one}/phone-numbers", json={"number": number})
    assert answer.status_code == 201, answer.text


async def test_the_accounts_numbers_are_listed_with_where_they_are_already(
    run_service: RunService, carrier: CarrierSim, owner: Any
) -> None:
    for last, name in enumerate(("Front desk", "Shop", "Sales", "Fax"), start=1):
        owner.add_number(f"+1415555000{last}", friendly_name=name)
    owner.number("+14155550004").change(voice=False)
    async with run_service(**at(carrier)) as service:
        one = await configuration(service.api)
        other = await configuration(service.api, name="Other")
        foreign = await configuration(service.as_user("bob"))
        await add(service, one, "+14155550001")
        await add(service, other, "+14155550002")
        taken = await service.as_user("bob").post(f"{foreign}/phone-numbers", json={"number": "+14155550003"})
        assert taken.status_code == 201
        listed = await available(service.api, one)
        assert listed["next_cursor"] is None
        seen = [
            (item["number"][-1], item["name"], item["voice"], item["added"], item["elsewhere"])
            for item in listed["available_numbers"]
        ]
        assert seen == [
            ("1", "Front desk", True, True, False),
            ("2", "Shop", True, False, True),
            ("3", "Sales", True, False, False),  # somebody else only says that he has it
            ("4", "Fax", False, False, False),
        ]


@on_sqlite
async def test_a_long_list_comes_in_pages_and_the_provider_is_asked_once(
    run_service: RunService, carrier: CarrierSim, owner: Any
) -> None:
    for index in range(5):
        owner.add_number(f"+1415555000{index}")
    async with run_service(**at(carrier)) as service:
        one = await configuration(service.api)
        carrier.rest_log.forget()
        seen: list[str] = []
        cursor: str | None = None
        while True:
            page = await available(service.api, one, limit=2, **({"cursor": cursor} if cursor else {}))
            seen += [item["number"] for item in page["available_numbers"]]
            cursor = page["next_cursor"]
            if cursor is None:
                break
        assert seen == [f"+1415555000{index}" for index in range(5)]
        listings = [
            request
            for request in carrier.rest_log.requests()
            if request.method == "GET" and "IncomingPhoneNumbers" in request.path
        ]
        assert len(listings) == 1


async def test_ticked_numbers_come_in_and_the_others_get_their_reason(
    run_service: RunService, carrier: CarrierSim, owner: Any
) -> None:
    owner.add_number("+14155550001", friendly_name="Front desk")
    owner.add_number("+14155550002")
    owner.add_number("+14155550003", voice=False)
    owner.add_number("+14155550004")
    owner.add_number("+14155550005")
    async with run_service(**at(carrier)) as service:
        one = await configuration(service.api)
        other = await configuration(service.api, name="Other")
        foreign = await configuration(service.as_user("bob"), OTHER_TWILIO, "Bob's")
        await add(service, other, "+14155550004")
        taken = await service.as_user("bob").post(f"{foreign}/phone-numbers", json={"number": "+14155550005"})
        assert taken.status_code == 201
        workflow = await service.api.post(
            "/workflows", json={"name": "W", "agent_url": "wss://a.example.com"}
        )
        workflow_id = workflow.json()["workflow_id"]
        ticked = [f"+1415555000{last}" for last in (1, 2, 3, 4, 5, 9, 1)]
        answer = await service.api.post(
            f"{one}/phone-numbers/import", json={"numbers": ticked, "workflow_id": workflow_id}
        )
        assert answer.status_code == 200, answer.text
        imported, refused = answer.json()["imported"], answer.json()["refused"]
        assert [(item["number"], item["label"], item["workflow_id"]) for item in imported] == [
            ("+14155550001", "Front desk", workflow_id),
            ("+14155550002", "", workflow_id),
            ("+14155550005", "", workflow_id),
        ]
        reasons = {item["number"][-1]: item["reason"] for item in refused}
        assert set(reasons) == {"3", "4", "9"}
        assert "cannot take calls" in reasons["3"]
        assert "'Other'" in reasons["4"]
        assert "does not own" in reasons["9"]
        records = [one for one in (await service.newest(NUMBERS)).values() if isinstance(one, NumberRecord)]
        assert {"+14155550001", "+14155550002"} <= {record.e164 for record in records}


async def test_who_only_says_that_he_has_a_number_gives_way_to_the_account_that_has_it(
    run_service: RunService, carrier: CarrierSim, owner: Any
) -> None:
    owner.add_number("+14155550001")
    owner.add_number("+14155550002")
    async with run_service(**at(carrier)) as service:
        one, bob = await configuration(service.api), service.as_user("bob")
        claim = await configuration(bob, OTHER_TWILIO)
        wrong = (await bob.post(f"{claim}/phone-numbers", json={"number": "+14155550001"})).json()
        shared = await configuration(bob, name="The same account")
        workflow = (
            await bob.post("/workflows", json={"name": "W", "agent_url": "wss://a.example.com"})
        ).json()
        seen = await bob.post(
            f"{shared}/phone-numbers",
            json={"number": "+14155550002", "workflow_id": workflow["workflow_id"]},
        )
        path = f"{shared}/phone-numbers/{seen.json()['number_id']}"
        async with asyncio.timeout(30):
            while (await bob.get(path)).json()["sync"]["state"] != "synced":
                await asyncio.sleep(0.05)
        both = ["+14155550001", "+14155550002"]
        added = await service.api.post(f"{one}/phone-numbers", json={"number": both[0]})
        assert (added.status_code, "import it" in added.text) == (409, True)
        answer = (await service.api.post(f"{one}/phone-numbers/import", json={"numbers": both})).json()
        assert [item["number"] for item in answer["imported"]] == both[:1]
        assert "somebody else's" in answer["refused"][0]["reason"]
        assert (await bob.get(f"{claim}/phone-numbers/{wrong['number_id']}")).status_code == 404
        assert (await bob.get(path)).status_code == 200
        records = await service.newest(NUMBERS)
        assert wrong["number_id"] not in records


async def test_who_has_imported_a_number_keeps_it_although_nobody_answers_it(
    run_service: RunService, carrier: CarrierSim, owner: Any
) -> None:
    owner.add_number("+14155550001")
    wanted = {"numbers": ["+14155550001"]}
    async with run_service(**at(carrier)) as service:
        bob = service.as_user("bob")
        first, second = await configuration(bob), await configuration(service.api)
        [kept] = (await bob.post(f"{first}/phone-numbers/import", json=wanted)).json()["imported"]
        path = f"{first}/phone-numbers/{kept['number_id']}"
        async with asyncio.timeout(30):
            while (await bob.get(path)).json()["sync"]["state"] != "detached":
                await asyncio.sleep(0.05)
        answer = (await service.api.post(f"{second}/phone-numbers/import", json=wanted)).json()
        assert answer["imported"] == []
        assert "somebody else's" in answer["refused"][0]["reason"]
        assert (await bob.get(path)).status_code == 200
        [listed] = (await available(service.api, second))["available_numbers"]
        assert listed["elsewhere"]


@on_sqlite
@pytest.mark.parametrize(
    ("fault", "status", "code", "retry_after"),
    [
        (RestFault(status=401, code=20003), 502, "credentials-refused", None),
        (RestFault(status=429, retry_after=7), 503, "rate-limited", "7"),
        (RestFault(status=500), 503, "provider-unavailable", None),
        (RestFault(do="html"), 503, "answer-unreadable", None),
        (RestFault(do="cut"), 503, "no-answer", None),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
async def test_a_provider_that_does_not_tell_its_numbers_is_a_problem_with_a_remedy(
    run_service: RunService,
    carrier: CarrierSim,
    owner: Any,
    fault: RestFault,
    status: int,
    code: str,
    retry_after: str | None,
) -> None:
    async with run_service(**at(carrier)) as service:
        one = await configuration(service.api)
        carrier.rest_faults = [fault]
        for answer in (
            await service.api.get(f"{one}/available-numbers"),
            await service.api.post(f"{one}/phone-numbers/import", json={"numbers": ["+14155550001"]}),
        ):
            assert answer.status_code == status, answer.text
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["code"] == code
            assert answer.json()["remedy"]
            assert answer.headers.get("retry-after") == retry_after
            assert TWILIO["auth_token"] not in answer.text


@on_sqlite
async def test_only_the_owner_of_a_configuration_sees_what_its_account_owns(
    run_service: RunService, carrier: CarrierSim, owner: Any
) -> None:
    owner.add_number("+14155550001")
    async with run_service(**at(carrier)) as service:
        one = await configuration(service.api)
        carrier.rest_log.forget()
        bob = service.as_user("bob")
        assert (await bob.get(f"{one}/available-numbers")).status_code == 404
        wanted = {"numbers": ["+14155550001"]}
        assert (await bob.post(f"{one}/phone-numbers/import", json=wanted)).status_code == 404
        foreign_workflow = await bob.post(
            "/workflows", json={"name": "W", "agent_url": "wss://a.example.com"}
        )
        wanted |= {"workflow_id": foreign_workflow.json()["workflow_id"]}
        assert (await service.api.post(f"{one}/phone-numbers/import", json=wanted)).status_code == 404
        assert (await service.api.get(f"{one}/phone-numbers")).json()["phone_numbers"] == []


@on_sqlite
@pytest.mark.parametrize("numbers", [[], ["4155550001"], ["+1"] * 501, ["+1415x"], "+14155550001"])
async def test_what_cannot_be_a_list_of_numbers_is_refused(service: Service, numbers: Any) -> None:
    one = await configuration(service.api)
    answer = await service.api.post(f"{one}/phone-numbers/import", json={"numbers": numbers})
    assert answer.status_code == 422, answer.text
