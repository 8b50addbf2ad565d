"""The pages of workflows."""

from typing import Any

import pytest
from browsing import Browser
from making import a_configuration, a_number, a_workflow, id_of
from running_number_sync import Service

from number_sync.pages import reading

NEW = "/workflows/new"
SECRET = "Bearer canary-header-value-1234567"


def filled(**changes: str) -> dict[str, str]:
    return {"name": "Desk", "agent_url": "wss://agent.example.com/call", **changes}


async def test_without_workflows_the_page_says_what_one_is(ada: Browser) -> None:
    page = await ada.open("/workflows")
    assert "No workflow yet" in page.text
    assert NEW in page.links()


async def test_a_workflow_is_made_with_all_that_its_form_has(ada: Browser, service: Service) -> None:
    page = await (await ada.open(NEW)).send(
        NEW,
        filled(
            **{
                "agent_protocol": "twilio",
                "sample_rate": "24000",
                "header.0.name": "Authorization",
                "header.0.value": SECRET,
                "record_audio": "on",
                "fallback.message": "Auf Wiederhören.",
                "fallback.language": "de-DE",
            }
        ),
    )
    assert "Desk is saved." in page.text
    stored = (await service.api.get(page.path)).json()
    assert (stored["agent_protocol"], stored["sample_rate"], stored["record_audio"]) == (
        "twilio",
        24000,
        True,
    )
    assert stored["fallback"] == {"message": "Auf Wiederhören.", "language": "de-DE"}
    assert list(stored["headers"]) == ["Authorization"]
    assert SECRET not in page.html
    assert "agent.example.com" in (await ada.open("/workflows")).text


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": ""}, "name"),
        ({"agent_url": "https://agent.example.com"}, "agent_url"),
        ({"agent_url": ""}, "agent_url"),
        ({"sample_rate": "44100"}, "sample_rate"),
        ({"agent_protocol": "morse"}, "agent_protocol"),
        ({"fallback.language": "klingon!"}, "fallback.language"),
        ({"fallback.message": "x" * 1001}, "fallback.message"),
        ({"header.0.name": "Host", "header.0.value": "x"}, "header.0.value"),
        ({"header.3.name": "X-A"}, "header.3.value"),
        ({"header.1.value": "x"}, "header.1.name"),
        ({"header.0.name": "X-A", "header.0.value": "1", "header.1.name": "x-a"}, "header.1.name"),
    ],
)
async def test_what_is_wrong_is_told_beside_its_field_and_the_rest_is_kept(
    ada: Browser, changes: dict[str, str], field: str
) -> None:
    page = await (await ada.open(NEW)).send(NEW, filled(**changes))
    assert page.status == 422
    assert page.error(field)
    kept = page.form(NEW)
    for name, value in filled(**changes).items():
        if not name.endswith(".value") and name not in ("sample_rate", "agent_protocol"):
            assert kept[name] == [value]


async def test_a_header_kept_empty_keeps_its_value_and_one_without_a_name_goes(
    ada: Browser, service: Service
) -> None:
    workflow = await a_workflow(service, headers={"Authorization": SECRET, "X-Old": "old-value-of-header"})
    form = await ada.open(workflow)
    assert SECRET not in form.html
    page = await form.send(workflow, {"name": "Renamed", "header.1.name": "", "header.1.value": ""})
    assert "Saved." in page.text
    stored = (await service.api.get(workflow)).json()
    assert stored["name"] == "Renamed"
    assert list(stored["headers"]) == ["Authorization"]


async def test_a_form_that_is_out_of_date_undoes_nothing(ada: Browser, service: Service) -> None:
    workflow = await a_workflow(service)
    old = await ada.open(workflow)
    await (await ada.open(workflow)).send(workflow, {"agent_url": "wss://new.example.com/call"})
    refused = await old.send(workflow, {"name": "Reception"})
    assert refused.status == 409
    assert "changed since the page was loaded" in refused.text
    stored = (await service.api.get(workflow)).json()
    assert (stored["name"], stored["agent_url"]) == ("Desk", "wss://new.example.com/call")


async def test_a_secret_header_is_not_in_the_form_that_comes_back(ada: Browser) -> None:
    sent = filled(**{"name": "", "header.0.name": "Authorization", "header.0.value": SECRET})
    page = await (await ada.open(NEW)).send(NEW, sent)
    assert page.status == 422
    assert SECRET not in page.html
    assert page.form(NEW)["header.0.name"] == ["Authorization"]


async def test_a_workflow_can_be_given_a_number_that_nobody_answers(ada: Browser, service: Service) -> None:
    one = await a_configuration(service)
    number = await a_number(service, one, "+14155551234")
    workflow = await a_workflow(service)
    form = await ada.open(workflow)
    assert "It answers no number yet." in form.text
    page = await form.send(f"{workflow}/numbers", {"number_id": id_of(number)})
    assert "Desk answers +1 415-555-1234 now." in page.text
    assert (await service.api.get(number)).json()["workflow_id"] == id_of(workflow)
    assert number in page.links()


async def test_a_number_that_another_workflow_answers_by_now_stays_with_it(
    ada: Browser, service: Service
) -> None:
    one = await a_configuration(service)
    number = await a_number(service, one, "+14155551234")
    workflow = await a_workflow(service)
    other = id_of(await a_workflow(service, name="Other"))
    form = await ada.open(workflow)
    await service.api.patch(number, json={"workflow_id": other})
    page = await form.send(f"{workflow}/numbers", {"number_id": id_of(number)})
    assert page.status == 422
    assert "Another workflow answers this number by now" in page.text
    assert (await service.api.get(number)).json()["workflow_id"] == other


async def test_a_number_that_somebody_changes_meanwhile_is_not_given_away_unseen(
    ada: Browser, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = await a_configuration(service)
    number = await a_number(service, one, "+14155551234")
    workflow = await a_workflow(service)
    form = await ada.open(workflow)
    read = reading.numbers_by_id

    async def then_changed(*arguments: Any) -> Any:
        found = await read(*arguments)
        await service.api.patch(number, json={"label": "Shop"})
        return found

    monkeypatch.setattr(reading, "numbers_by_id", then_changed)
    page = await form.send(f"{workflow}/numbers", {"number_id": id_of(number)})
    assert page.status == 409
    assert "It answers no number yet." in page.text
    assert (await service.api.get(number)).json()["workflow_id"] is None


async def test_trying_an_agent_that_is_not_there_tells_why_and_what_to_do(
    ada: Browser, service: Service
) -> None:
    workflow = await a_workflow(service, agent_url="ws://127.0.0.1:1/call", headers={"Authorization": SECRET})
    form = await ada.open(workflow)
    page = await form.send(f"{workflow}/try")
    assert page.status == 200
    assert "What to do:" in page.text
    assert SECRET not in page.html
    live = await form.send(f"{workflow}/try", Accept="application/json")
    answer = live.response.json()
    assert 'id="trial"' in answer["fragments"]["trial"]
    assert answer["notice"]


async def test_deleting_asks_and_is_refused_with_the_reason_while_numbers_use_it(
    ada: Browser, service: Service
) -> None:
    workflow = await a_workflow(service)
    question = await ada.open(f"{workflow}/delete")
    one = await a_configuration(service)
    number = await a_number(service, one, "+14155551234", workflow_id=id_of(workflow))
    refused = await question.send(f"{workflow}/delete")
    assert refused.status == 409
    assert "answers +14155551234 (Main)" in refused.text
    assert "cannot be deleted" in (await ada.open(workflow)).text
    assert (await service.api.delete(number)).status_code == 204
    page = await (await ada.open(f"{workflow}/delete")).send(f"{workflow}/delete")
    assert page.path == "/workflows"
    assert "Desk is deleted." in page.text


async def test_what_is_somebody_elses_is_not_found(bob: Browser, service: Service) -> None:
    workflow = await a_workflow(service)
    number = await a_number(service, await a_configuration(service), "+14155551234")
    token = (await bob.open(NEW)).form(NEW)["csrf"]
    for path in (workflow, f"{workflow}/delete"):
        assert (await bob.open(path)).status == 404
    for path in (workflow, f"{workflow}/delete", f"{workflow}/try", f"{workflow}/numbers"):
        assert (await bob.post(path, {"csrf": token, "number_id": id_of(number)})).status == 404
    own = await a_workflow(service, user="bob", name="Bob's")
    page = await bob.post(f"{own}/numbers", {"csrf": token, "number_id": id_of(number)})
    assert page.status == 422
    assert (await service.api.get(number)).json()["workflow_id"] is None
