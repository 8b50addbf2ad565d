"""The API, on both databases."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
from running_number_sync import OTHER_TWILIO, PUBLIC_URL, TWILIO, RunService, Service, unsealed

from offhook.records import ConfigurationRecord, NumberRecord, PublicUrlRecord, WorkflowRecord
from offhook.security.keyring import new_key
from offhook.topics import CONFIGURATIONS, NUMBERS, SETTINGS, WORKFLOWS
from offhook_dev.postgres import PostgresServer

C = "/telephony-configurations"


async def make_configuration(api: httpx.AsyncClient, name: str = "Main", **more: Any) -> dict[str, Any]:
    body = {"name": name, "provider": "twilio", "credentials": TWILIO, **more}
    answer = await api.post(C, json=body)
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    assert answer.headers["location"].endswith(found["configuration_id"])
    return found


async def make_workflow(api: httpx.AsyncClient, name: str = "Desk", **more: Any) -> dict[str, Any]:
    answer = await api.post(
        "/workflows", json={"name": name, "agent_url": "wss://agent.example.com/call", **more}
    )
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def make_number(api: httpx.AsyncClient, configuration: dict[str, Any], **body: Any) -> dict[str, Any]:
    answer = await api.post(f"{C}/{configuration['configuration_id']}/phone-numbers", json=body)
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


def plain(number: dict[str, Any]) -> dict[str, Any]:
    """A number without where it stands at the provider, which changes by itself."""
    return {name: value for name, value in number.items() if name != "sync"}


def problem(answer: httpx.Response, status: int) -> str:
    """The sentence of a problem."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["status"] == status
    return str(body["detail"])


# What only looks at the input need not be tried on both databases.
on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

# --- who ---------------------------------------------------------------------------------------------------------------


@on_sqlite
@pytest.mark.parametrize("path", [C, f"{C}/x", f"{C}/x/phone-numbers", "/workflows", f"{C}/providers"])
async def test_every_route_needs_a_key(service: Service, path: str) -> None:
    problem(await service.as_user(None).get(path), 401)
    stranger = httpx.Headers({"Authorization": "Bearer nonsense"})
    problem(await service.as_user(None).get(path, headers=stranger), 401)


async def test_what_belongs_to_somebody_else_does_not_exist(service: Service) -> None:
    ada, bob = service.api, service.as_user("bob")
    configuration = await make_configuration(ada)
    workflow = await make_workflow(ada)
    number = await make_number(ada, configuration, number="+14155551234")
    own = await make_configuration(bob, credentials=OTHER_TWILIO)
    one = f"{C}/{configuration['configuration_id']}"
    one_number = f"{one}/phone-numbers/{number['number_id']}"
    one_workflow = f"/workflows/{workflow['workflow_id']}"
    for path in (one, one_number, one_workflow, f"{one}/phone-numbers"):
        problem(await bob.get(path), 404)
    for path in (f"{one}/test", f"{one}/default", f"{one_number}/check"):
        problem(await bob.post(path), 404)
    for path in (one, one_number, one_workflow):
        problem(await bob.patch(path, json={}), 404)
        problem(await bob.delete(path), 404)
    problem(await bob.post(f"{one}/phone-numbers", json={"number": "+14155550100"}), 404)
    foreign = {"number": "+14155550100", "workflow_id": workflow["workflow_id"]}
    problem(await bob.post(f"{C}/{own['configuration_id']}/phone-numbers", json=foreign), 404)
    # His own configuration does not make somebody else's number his.
    problem(await bob.get(f"{C}/{own['configuration_id']}/phone-numbers/{number['number_id']}"), 404)
    assert [item["configuration_id"] for item in (await bob.get(C)).json()["configurations"]] == [
        own["configuration_id"]
    ]
    assert (await bob.get("/workflows")).json()["workflows"] == []
    assert (await ada.get(one_number)).json()["number"] == "+14155551234"


@pytest.mark.parametrize("nonsense", ["x", "%00", "a%20b", "ä", "'; --", "x" * 300])
async def test_an_id_that_cannot_be_one_is_not_found(api: httpx.AsyncClient, nonsense: str) -> None:
    for path in (f"{C}/{nonsense}", f"{C}/{nonsense}/phone-numbers", f"/workflows/{nonsense}"):
        problem(await api.get(path), 404)


# --- configurations ------------------------------------------------------------------------------------------------------


@on_sqlite
async def test_the_providers_and_their_fields_come_from_the_adapters(api: httpx.AsyncClient) -> None:
    providers = {one["name"]: one for one in (await api.get(f"{C}/providers")).json()["providers"]}
    assert set(providers) >= {"twilio", "vonage"}
    fields = {field["name"]: field for field in providers["twilio"]["credentials"]}
    assert fields["account_sid"]["required"]
    assert not fields["account_sid"]["secret"]
    assert fields["auth_token"]["secret"]


async def test_a_configuration_is_created_read_and_published(service: Service) -> None:
    made = await make_configuration(service.api, default_for_outbound=True)
    assert made["account"] == TWILIO["account_sid"]
    assert made["credentials"]["account_sid"] == TWILIO["account_sid"]
    assert made["credentials"]["auth_token"] == "••••••••2345"
    assert made["credentials"]["api_key_secret"] is None
    assert made["webhooks"]["inbound_url"] == f"{PUBLIC_URL}/api/v1/telephony/inbound/run"
    identity = made["configuration_id"]
    assert (await service.api.get(f"{C}/{identity}")).json() == made
    record = (await service.newest(CONFIGURATIONS))[identity]
    assert isinstance(record, ConfigurationRecord)
    assert (record.user_id, record.provider, record.account) == ("ada", "twilio", TWILIO["account_sid"])
    assert record.default_for_outbound
    opened = unsealed(record.sealed_credentials, identity)
    assert opened == TWILIO


async def test_stray_spaces_around_credentials_are_trimmed(service: Service) -> None:
    spaced = {name: f"  {value}\n" for name, value in TWILIO.items()}
    made = await make_configuration(service.api, credentials=spaced)
    assert made["account"] == TWILIO["account_sid"]


async def test_names_are_unique_for_one_user_only(service: Service) -> None:
    first = await make_configuration(service.api, "Main")
    again = {"name": " Main ", "provider": "twilio", "credentials": OTHER_TWILIO}
    assert "'Main'" in problem(await service.api.post(C, json=again), 409)
    other = await make_configuration(service.api, "Other", credentials=OTHER_TWILIO)
    renamed = await service.api.patch(f"{C}/{other['configuration_id']}", json={"name": "Main"})
    assert "'Main'" in problem(renamed, 409)
    same = await service.api.patch(f"{C}/{first['configuration_id']}", json={"name": "Main"})
    assert same.status_code == 200
    await make_configuration(service.as_user("bob"), "Main")


async def test_the_provider_is_fixed(service: Service) -> None:
    made = await make_configuration(service.api)
    path = f"{C}/{made['configuration_id']}"
    assert "fixed" in problem(await service.api.patch(path, json={"provider": "vonage"}), 400)
    assert (await service.api.patch(path, json={"provider": "twilio", "name": "New"})).json()["name"] == "New"


@on_sqlite
@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"provider": "acme"}, "provider"),
        ({"credentials": {"account_sid": "wrong", "auth_token": "t"}}, "account_sid"),
        ({"credentials": {"account_sid": TWILIO["account_sid"]}}, "auth_token"),
        ({"credentials": {**TWILIO, "colour": "blue"}}, "colour"),
        ({"credentials": {**TWILIO, "auth_token": "x" * 9000}}, "auth_token"),
        ({"credentials": {**TWILIO, "auth_token": "••••••••2345"}}, "auth_token"),
        ({"credentials": "none"}, "credentials"),
        ({"name": ""}, "name"),
        ({"name": "x" * 101}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"colour": "blue"}, "colour"),
        ({"configuration_id": "mine"}, "configuration_id"),
    ],
)
async def test_what_cannot_be_accepted_is_named(
    api: httpx.AsyncClient, change: dict[str, Any], field: str
) -> None:
    body = {"name": "Main", "provider": "twilio", "credentials": TWILIO, **change}
    answer = await api.post(C, json=body)
    problem(answer, 422)
    assert any(field in str(error["location"]) for error in answer.json()["errors"])
    assert TWILIO["auth_token"] not in answer.text
    assert (await api.get(C)).json()["configurations"] == []


@on_sqlite
async def test_a_refused_secret_is_not_repeated(api: httpx.AsyncClient) -> None:
    vonage = {
        "application_id": "aaaaaaaa-bbbb-cccc-dddd-0123456789ab",
        "private_key": "canary-that-is-no-pem",
        "api_key": "abcd1234",
        "api_secret": "canary-api-secret",
        "signature_secret": "canary-signature-secret",
    }
    for body in (
        {"name": "V", "provider": "vonage", "credentials": vonage},
        {"name": "V", "provider": "vonage", "credentials": {**vonage, "private_key": ["canary"]}},
        {"name": "V", "provider": "twilio", "credentials": {"account_sid": "canary", "auth_token": "canary"}},
        {"name": ["canary"], "provider": {"canary": 1}, "credentials": vonage},
    ):
        answer = await api.post(C, json=body)
        problem(answer, 422)
        assert "canary" not in answer.text
    broken = await api.post(C, content=b'{"name": "canary', headers={"content-type": "application/json"})
    problem(broken, 422)
    assert "canary" not in broken.text


@pytest.mark.parametrize("shown", ["own", "********", "****2345", "•", "xxxxxxxx"])
async def test_a_mask_sent_back_keeps_the_stored_secret(service: Service, shown: str) -> None:
    made = await make_configuration(service.api)
    identity = made["configuration_id"]
    credentials = {**made["credentials"]}
    if shown != "own":
        credentials["auth_token"] = shown
    answer = await service.api.patch(f"{C}/{identity}", json={"name": "Renamed", "credentials": credentials})
    assert answer.status_code == 200, answer.text
    assert answer.json()["credentials"] == made["credentials"]
    record = (await service.newest(CONFIGURATIONS))[identity]
    assert isinstance(record, ConfigurationRecord)
    assert unsealed(record.sealed_credentials, identity) == TWILIO


@on_sqlite
async def test_a_lost_key_spoils_no_list_and_secrets_can_be_entered_again(run_service: RunService) -> None:
    async with run_service() as service:
        one = f"{C}/{(await make_configuration(service.api))['configuration_id']}"
        workflow = f"/workflows/{(await make_workflow(service.api, headers={'X-A': 'old'}))['workflow_id']}"
    async with run_service(keyring=new_key("k2")) as service:
        await make_configuration(service.api, "Other")
        await make_workflow(service.api, headers={"X-A": "new"})
        lost, other = (await service.api.get(C)).json()["configurations"]
        assert lost["credentials"] is None
        assert (lost["verification"]["state"], lost["verification"]["code"]) == ("refused", "key-lost")
        assert "Enter them again" in lost["verification"]["sentence"]
        assert other["credentials"]["auth_token"] == "••••••••2345"
        assert (await service.api.post(f"{one}/test")).json()["code"] == "key-lost"
        half = {"account_sid": TWILIO["account_sid"]}
        problem(await service.api.patch(one, json={"credentials": half}), 422)
        answer = await service.api.patch(one, json={"credentials": TWILIO})
        assert answer.status_code == 200, answer.text
        assert answer.json()["account"] == TWILIO["account_sid"]
        assert answer.json()["verification"]["code"] != "key-lost"

        assert [item["headers"] for item in (await service.api.get("/workflows")).json()["workflows"]] == [
            None,
            {"X-A": "••••••••"},
        ]
        renamed = await service.api.patch(workflow, json={"name": "New"})
        assert (renamed.json()["name"], renamed.json()["headers"]) == ("New", None)
        # What is lost cannot be kept by its mask.
        problem(await service.api.patch(workflow, json={"headers": {"X-A": "••••••••"}}), 422)
        entered = await service.api.patch(workflow, json={"headers": {"X-A": "again"}})
        assert entered.json()["headers"] == {"X-A": "••••••••"}


async def test_one_credential_can_be_changed_added_and_removed(service: Service) -> None:
    made = await make_configuration(service.api)
    path = f"{C}/{made['configuration_id']}"
    second = "abcdef0123456789abcdef0123456789"
    added = await service.api.patch(path, json={"credentials": {"auth_token_secondary": second}})
    assert added.json()["credentials"]["auth_token_secondary"] == "••••••••6789"
    assert added.json()["credentials"]["auth_token"] == "••••••••2345"
    removed = await service.api.patch(path, json={"credentials": {"auth_token_secondary": None}})
    assert removed.json()["credentials"]["auth_token_secondary"] is None
    missing = await service.api.patch(path, json={"credentials": {"auth_token": None}})
    assert "auth_token" in problem(missing, 422)


async def test_one_configuration_is_the_default_for_outbound(service: Service) -> None:
    first = await make_configuration(service.api, "One", default_for_outbound=True)
    second = await make_configuration(service.api, "Two", default_for_outbound=True)
    foreign = await make_configuration(service.as_user("bob"), "Three", default_for_outbound=True)
    records = await service.newest(CONFIGURATIONS)

    def is_default(one: dict[str, Any]) -> bool:
        record = records[one["configuration_id"]]
        assert isinstance(record, ConfigurationRecord)
        return record.default_for_outbound

    assert [is_default(one) for one in (first, second, foreign)] == [False, True, True]
    await service.api.patch(f"{C}/{first['configuration_id']}", json={"default_for_outbound": True})
    records = await service.newest(CONFIGURATIONS)
    assert [is_default(one) for one in (first, second, foreign)] == [True, False, True]
    answer = await service.api.post(f"{C}/{second['configuration_id']}/default")
    assert answer.json()["default_for_outbound"]
    records = await service.newest(CONFIGURATIONS)
    assert [is_default(one) for one in (first, second, foreign)] == [False, True, True]
    problem(await service.api.post(f"{C}/{foreign['configuration_id']}/default"), 404)


async def test_those_who_change_the_default_at_once_do_not_fail_each_other(service: Service) -> None:
    made = [await make_configuration(service.api, f"C{index}") for index in range(4)]
    paths = [f"{C}/{one['configuration_id']}" for one in made]
    answers = await asyncio.gather(
        *(service.api.patch(path, json={"default_for_outbound": True}) for path in paths)
    )
    assert [answer.status_code for answer in answers] == [200] * 4
    defaults = [item["default_for_outbound"] for item in (await service.api.get(C)).json()["configurations"]]
    assert defaults.count(True) == 1


async def test_of_those_who_take_a_name_or_number_at_once_one_gets_it(service: Service) -> None:
    body = {"name": "Main", "provider": "twilio", "credentials": TWILIO}
    answers = await asyncio.gather(*(service.api.post(C, json=body) for _ in range(4)))
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409]
    other = await make_configuration(service.api, "Other")
    [first] = [answer.json() for answer in answers if answer.status_code == 201]
    paths = [f"{C}/{one['configuration_id']}/phone-numbers" for one in (first, other)]
    taken = await asyncio.gather(*(service.api.post(path, json={"number": "+14155551234"}) for path in paths))
    assert sorted(answer.status_code for answer in taken) == [201, 409]


@on_sqlite
@pytest.mark.real
async def test_while_the_store_is_away_the_answer_says_so_and_it_goes_on_when_it_is_back(
    run_service: RunService, servers_directory: Path
) -> None:
    server = PostgresServer(servers_directory / "postgres-that-goes-away", fsync=False)
    await server.start()
    try:
        async with run_service(database_url=server.url) as service:
            await make_workflow(service.api)
            await server.stop()
            assert "store" in problem(await service.api.get("/workflows"), 503)
            await server.start()
            assert len((await service.api.get("/workflows")).json()["workflows"]) == 1
    finally:
        await server.stop()


@pytest.mark.parametrize("how", ["detach", "leave"])
async def test_a_configuration_with_numbers_is_deleted_only_with_them(service: Service, how: str) -> None:
    made = await make_configuration(service.api)
    number = await make_number(service.api, made, number="+14155551234")
    path = f"{C}/{made['configuration_id']}"
    for keep in ({}, {"numbers": "keep"}):
        assert "+14155551234" in problem(await service.api.delete(path, params=keep), 409)
    assert (await service.api.delete(path, params={"numbers": how})).status_code == 204
    problem(await service.api.get(path), 404)
    assert await service.newest(CONFIGURATIONS) == {}
    assert number["number_id"] not in await service.newest(NUMBERS)
    # The number is free again.
    await make_number(service.api, await make_configuration(service.api), number="+14155551234")


async def test_lists_come_in_pages(service: Service) -> None:
    made = [(await make_workflow(service.api, f"W{index}"))["workflow_id"] for index in range(5)]
    seen: list[str] = []
    cursor: str | None = None
    while True:
        params: dict[str, str | int] = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        page = (await service.api.get("/workflows", params=params)).json()
        assert len(page["workflows"]) <= 2
        seen += [item["workflow_id"] for item in page["workflows"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert sorted(seen) == sorted(made)
    assert len(seen) == 5
    problem(await service.api.get("/workflows", params={"limit": 100000}), 422)
    problem(await service.api.get("/workflows", params={"cursor": "nothing"}), 422)


# --- numbers -------------------------------------------------------------------------------------------------------------


async def test_a_number_is_completed_stored_and_published(service: Service) -> None:
    configuration = await make_configuration(service.api)
    workflow = await make_workflow(service.api)
    made = await make_number(
        service.api,
        configuration,
        number="020 7946 0000",
        country="GB",
        label="London",
        workflow_id=workflow["workflow_id"],
        default_caller_id=True,
    )
    assert made["number"] == "+442079460000"
    path = f"{C}/{configuration['configuration_id']}/phone-numbers"
    assert plain((await service.api.get(f"{path}/{made['number_id']}")).json()) == plain(made)
    listed = (await service.api.get(path)).json()
    assert [plain(number) for number in listed["phone_numbers"]] == [plain(made)]
    assert listed["next_cursor"] is None
    record = (await service.newest(NUMBERS))[made["number_id"]]
    assert record == NumberRecord(
        number_id=made["number_id"],
        configuration_id=configuration["configuration_id"],
        user_id="ada",
        e164="+442079460000",
        label="London",
        workflow_id=workflow["workflow_id"],
        default_caller_id=True,
    )


async def test_a_country_does_not_change_an_international_number(service: Service) -> None:
    configuration = await make_configuration(service.api)
    made = await make_number(service.api, configuration, number="+14155551234", country="GB")
    assert made["number"] == "+14155551234"


async def test_an_invalid_number_gets_the_reason_and_an_example(service: Service) -> None:
    configuration = await make_configuration(service.api)
    path = f"{C}/{configuration['configuration_id']}/phone-numbers"
    sentence = problem(await service.api.post(path, json={"number": "12", "country": "GB"}), 422)
    assert "too few digits" in sentence
    assert "+44" in sentence


async def test_a_number_belongs_to_one_configuration(service: Service) -> None:
    first = await make_configuration(service.api, "First")
    second = await make_configuration(service.api, "Second")
    await make_number(service.api, first, number="+14155551234")
    again = {"number": "+1 415 555 1234"}
    for configuration in (first, second):
        answer = await service.api.post(f"{C}/{configuration['configuration_id']}/phone-numbers", json=again)
        assert "'First'" in problem(answer, 409)
    foreign = await make_configuration(service.as_user("bob"), "Bob's")
    answer = await service.as_user("bob").post(f"{C}/{foreign['configuration_id']}/phone-numbers", json=again)
    assert "First" not in problem(answer, 409)


async def test_one_number_is_the_default_caller_id_of_its_configuration(service: Service) -> None:
    configuration = await make_configuration(service.api, "One")
    other = await make_configuration(service.api, "Two")
    numbers = [
        await make_number(service.api, configuration, number="+14155551230", default_caller_id=True),
        await make_number(service.api, configuration, number="+14155551231", default_caller_id=True),
        await make_number(service.api, other, number="+14155551232", default_caller_id=True),
    ]

    async def defaults() -> list[bool]:
        records = await service.newest(NUMBERS)
        found = [records[number["number_id"]] for number in numbers]
        return [record.default_caller_id for record in found if isinstance(record, NumberRecord)]

    assert await defaults() == [False, True, True]
    path = f"{C}/{configuration['configuration_id']}/phone-numbers/{numbers[0]['number_id']}"
    await service.api.patch(path, json={"default_caller_id": True})
    assert await defaults() == [True, False, True]


@pytest.mark.parametrize("how", ["detach", "leave"])
async def test_a_number_changes_only_in_what_is_sent(service: Service, how: str) -> None:
    configuration = await make_configuration(service.api)
    workflow = await make_workflow(service.api)
    made = await make_number(
        service.api, configuration, number="+14155551234", label="Old", workflow_id=workflow["workflow_id"]
    )
    path = f"{C}/{configuration['configuration_id']}/phone-numbers/{made['number_id']}"
    changed = (await service.api.patch(path, json={"label": "New"})).json()
    assert plain(changed) | {"updated_at": made["updated_at"]} == plain(made) | {"label": "New"}
    assert (await service.api.patch(path, json={"workflow_id": None})).json()["workflow_id"] is None
    problem(await service.api.patch(path, json={"number": "+14155551235"}), 422)
    problem(await service.api.patch(path, json={"workflow_id": "nothing"}), 404)
    problem(await service.api.delete(path, params={"at_provider": "maybe"}), 422)
    assert (await service.api.delete(path, params={"at_provider": how})).status_code == 204
    assert made["number_id"] not in await service.newest(NUMBERS)


# --- workflows -----------------------------------------------------------------------------------------------------------


async def test_a_workflow_is_stored_and_published_with_sealed_headers(service: Service) -> None:
    made = await make_workflow(
        service.api,
        agent_protocol="twilio",
        sample_rate=8000,
        headers={"Authorization": "Bearer canary", "X-Tenant": "canary-tenant"},
        record_audio=True,
        fallback={"message": "Bis morgen.", "language": "de-DE"},
        metadata={"team": "ö", "n": [1, None, {"x": True}]},
    )
    assert made["headers"] == {"Authorization": "••••••••", "X-Tenant": "••••••••"}
    assert (await service.api.get(f"/workflows/{made['workflow_id']}")).json() == made
    record = (await service.newest(WORKFLOWS))[made["workflow_id"]]
    assert isinstance(record, WorkflowRecord)
    assert record.metadata == {"team": "ö", "n": [1, None, {"x": True}]}
    assert record.fallback.message == "Bis morgen."
    assert record.sealed_headers is not None
    assert "canary" not in record.sealed_headers


async def test_headers_sent_back_as_masks_stay(service: Service) -> None:
    made = await make_workflow(service.api, headers={"Authorization": "Bearer old", "X-Old": "gone"})
    path = f"/workflows/{made['workflow_id']}"
    headers = {"authorization": made["headers"]["Authorization"], "X-New": "new"}
    changed = (await service.api.patch(path, json={"headers": headers})).json()
    assert set(changed["headers"]) == {"authorization", "X-New"}
    record = (await service.newest(WORKFLOWS))[made["workflow_id"]]
    assert isinstance(record, WorkflowRecord)
    assert record.sealed_headers is not None
    opened = unsealed(record.sealed_headers, made["workflow_id"])
    assert opened == {"authorization": "Bearer old", "X-New": "new"}
    problem(await service.api.patch(path, json={"headers": {"X-Other": "••••••••"}}), 422)


@on_sqlite
@pytest.mark.parametrize(
    "url",
    [
        "https://agent.example.com",
        "agent.example.com",
        "wss://",
        "wss:///call",
        "wss://user:pw@agent.example.com/",
        "wss://user@agent.example.com/",
        "wss://@agent.example.com/",
        "wss://agent.example.com/#x",
        "wss://agent.example.com:99999/",
        "wss://agent.example.com/a b",
        "wss://agent.example.com/\r\nX: y",
        "wss://[::1/",
        "wss://ä.example.com/",
        "wss://agent.example.com/" + "x" * 2100,
        "ws://169.254.169.254/latest/meta-data/",
        "ws://[fe80::1]/",
    ],
)
async def test_an_agent_url_is_a_plain_websocket_url(api: httpx.AsyncClient, url: str) -> None:
    answer = await api.post("/workflows", json={"name": "W", "agent_url": url})
    assert "agent_url" in problem(answer, 422)
    assert "pw@" not in answer.text


@on_sqlite
async def test_where_the_operator_lists_hosts_an_agent_is_one_of_them(run_service: RunService) -> None:
    async with run_service(agent_hosts="*.agents.svc, agent.example.com") as service:
        refused = await service.api.post(
            "/workflows", json={"name": "W", "agent_url": "wss://evil.example.com/"}
        )
        assert "agent_url" in problem(refused, 422)
        assert "OFFHOOK_AGENT_HOSTS" in refused.text
        made = await make_workflow(service.api, agent_url="ws://echo.agents.svc:8080/")
        path = f"/workflows/{made['workflow_id']}"
        moved = await service.api.patch(path, json={"agent_url": "ws://127.0.0.1/"})
        assert "agent_url" in problem(moved, 422)
        assert (await service.api.patch(path, json={"name": "V"})).status_code == 200


@on_sqlite
@pytest.mark.parametrize("url", ["ws://127.0.0.1:9000/", "wss://agent.example.com", "wss://[::1]:1/x?y=1"])
async def test_plain_websocket_urls_are_accepted(api: httpx.AsyncClient, url: str) -> None:
    assert (await make_workflow(api, agent_url=url))["agent_url"] == url


@on_sqlite
@pytest.mark.parametrize(
    "change",
    [
        {"headers": {"Host": "x"}},
        {"headers": {"Sec-WebSocket-Protocol": "x"}},
        {"headers": {"X Y": "x"}},
        {"headers": {"X": "a\r\nb"}},
        {"headers": {"X": ""}},
        {"headers": {"X": "a", "x": "b"}},
        {"headers": {f"X-{index}": "a" for index in range(21)}},
        {"headers": {"X": "a" * 5000}},
        {"metadata": {"x": "a" * 5000}},
        {"metadata": ["list"]},
        {"sample_rate": 44100},
        {"agent_protocol": "sip"},
        {"fallback": {"message": "", "language": "en"}},
        {"fallback": {"message": "x" * 1001}},
        {"fallback": {"message": "x", "language": "english please"}},
        {"name": "   "},
    ],
)
async def test_what_no_workflow_can_have_is_refused(api: httpx.AsyncClient, change: dict[str, Any]) -> None:
    problem(
        await api.post("/workflows", json={"name": "W", "agent_url": "wss://a.example.com", **change}), 422
    )


@pytest.mark.parametrize(
    "body", [b'{"x": NaN}', b'{"x": "\\ud800"}', b"[" * 100000, b'{"x": 1e999}', b"\xff"]
)
async def test_json_that_cannot_be_stored_is_refused(api: httpx.AsyncClient, body: bytes) -> None:
    content = b'{"name": "W", "agent_url": "wss://a.example.com", "metadata": ' + body + b"}"
    answer = await api.post("/workflows", content=content, headers={"content-type": "application/json"})
    assert answer.status_code in (400, 422), answer.text
    assert answer.headers["content-type"] == "application/problem+json"


async def test_a_workflow_that_numbers_use_stays(service: Service) -> None:
    configuration = await make_configuration(service.api)
    workflow = await make_workflow(service.api)
    number = await make_number(
        service.api, configuration, number="+14155551234", workflow_id=workflow["workflow_id"]
    )
    path = f"/workflows/{workflow['workflow_id']}"
    sentence = problem(await service.api.delete(path), 409)
    assert "+14155551234" in sentence
    assert "Main" in sentence
    await service.api.patch(
        f"{C}/{configuration['configuration_id']}/phone-numbers/{number['number_id']}",
        json={"workflow_id": None},
    )
    assert (await service.api.delete(path)).status_code == 204
    assert await service.newest(WORKFLOWS) == {}


# --- the installation ----------------------------------------------------------------------------------------------------


async def test_the_public_url_is_published_and_retracted(run_service: RunService) -> None:
    async with run_service() as service:
        expected = {PublicUrlRecord.KEY: PublicUrlRecord(url=PUBLIC_URL)}
        assert await service.newest(SETTINGS) == expected
    async with run_service(public_url=None) as service:
        assert await service.newest(SETTINGS) == {}
        made = await make_configuration(service.api)
        assert made["webhooks"] is None


async def test_a_topic_that_was_emptied_is_whole_again_after_a_restart(run_service: RunService) -> None:
    async with run_service() as service:
        configuration = await make_configuration(service.api)
        await make_workflow(service.api)
        await make_number(service.api, configuration, number="+14155551234")
        before = [await service.newest(topic) for topic in (CONFIGURATIONS, NUMBERS, WORKFLOWS, SETTINGS)]
    # A new cluster: every topic is empty.
    async with run_service() as service:
        after = [await service.newest(topic) for topic in (CONFIGURATIONS, NUMBERS, WORKFLOWS, SETTINGS)]
    assert before == after
    assert all(len(records) == 1 for records in after)
