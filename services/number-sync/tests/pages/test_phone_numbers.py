"""The pages of phone numbers, and the import."""

from typing import Any

from browsing import Browser
from making import C, a_configuration, a_number, a_workflow, id_of
from running_number_sync import OTHER_TWILIO, Service
from sqlalchemy import insert, update

from carrier_sim import CarrierSim
from carrier_sim.rest_faults import RestFault
from number_sync.database import Database
from number_sync.schema import number_calls, number_states

FAR = 4_000_000_000_000  # ms: later than any comparison of a test


async def standing(service: Service, number: str, **values: Any) -> None:
    """As if the provider had been compared with this outcome."""
    database = Database(service.database_url)
    async with database.write() as connection:
        await connection.execute(
            update(number_states)
            .where(number_states.c.number_id == id_of(number))
            .values(due_at=FAR, version=number_states.c.version + 1, **values)
        )
    await database.close()


async def call(service: Service, number: str, **values: Any) -> None:
    """As if a call had come in."""
    database = Database(service.database_url)
    async with database.write() as connection:
        await connection.execute(
            insert(number_calls).values(number_id=id_of(number), workflow_run_id="run", at=1, **values)
        )
    await database.close()


async def test_a_number_is_added_in_national_form_with_its_country(ada: Browser, service: Service) -> None:
    one = await a_configuration(service)
    workflow = await a_workflow(service)
    form = await ada.open(f"{one}/phone-numbers/new")
    # The only workflow there is, is chosen already.
    assert form.form(f"{one}/phone-numbers/new")["workflow_id"] == [id_of(workflow)]
    page = await form.send(
        f"{one}/phone-numbers/new", {"number": "020 7946 0000", "country": "GB", "label": "London"}
    )
    assert page.path.startswith(f"{one}/phone-numbers/")
    assert "+44 20 7946 0000 is added." in page.text
    stored = (await service.api.get(page.path)).json()
    assert stored["number"] == "+442079460000"
    assert stored["workflow_id"] == id_of(workflow)
    assert stored["active"]


async def test_a_number_that_cannot_be_is_told_with_an_example_and_nothing_is_lost(
    ada: Browser, service: Service
) -> None:
    one = await a_configuration(service)
    there = f"{one}/phone-numbers/new"
    form = await ada.open(there)
    page = await form.send(there, {"number": "12", "label": "Front & back", "active": None})
    assert page.status == 422
    assert "a number looks like +" in page.error("number")
    again = page.form(there)
    assert again["number"] == ["12"]
    assert again["label"] == ["Front & back"]
    assert "active" not in again
    assert (await form.send(there, {"number": " "})).error("number").startswith("Type a phone number")
    assert (await form.send(there, {"number": "+14155551234", "label": "x" * 101})).error("label")


async def test_a_taken_number_names_its_holder_beside_the_number(ada: Browser, service: Service) -> None:
    one = await a_configuration(service)
    await a_number(service, one, "+14155551234")
    other = await a_configuration(service, name="Other", credentials=OTHER_TWILIO)
    there = f"{other}/phone-numbers/new"
    page = await (await ada.open(there)).send(there, {"number": "+1 415 555 1234"})
    assert page.status == 409
    assert "your configuration 'Main'" in page.error("number")


async def test_a_workflow_that_is_gone_is_told_beside_it(ada: Browser, service: Service) -> None:
    one = await a_configuration(service)
    there = f"{one}/phone-numbers/new"
    foreign = id_of(await a_workflow(service, user="bob"))
    page = await (await ada.open(there)).send(there, {"number": "+14155551234", "workflow_id": foreign})
    assert page.status == 422
    assert "deleted meanwhile" in page.error("workflow_id")


async def test_a_number_is_changed_and_the_number_itself_stays(ada: Browser, service: Service) -> None:
    one = await a_configuration(service)
    number = await a_number(service, one, "+14155551234")
    workflow = await a_workflow(service)
    page = await (await ada.open(number)).send(
        number, {"label": "Desk", "workflow_id": id_of(workflow), "active": None, "default_caller_id": "on"}
    )
    assert page.path == number
    stored = (await service.api.get(number)).json()
    assert (stored["label"], stored["workflow_id"]) == ("Desk", id_of(workflow))
    assert (stored["active"], stored["default_caller_id"]) == (False, True)
    listed = await ada.open(one)
    assert "Inactive" in listed.text
    assert "default caller ID" in listed.text


async def test_a_form_that_is_out_of_date_undoes_nothing(ada: Browser, service: Service) -> None:
    number = await a_number(service, await a_configuration(service), "+14155551234")
    old = await ada.open(number)
    workflow = id_of(await a_workflow(service))
    await (await ada.open(number)).send(number, {"workflow_id": workflow})
    refused = await old.send(number, {"label": "Desk"})
    assert refused.status == 409
    assert "changed since the page was loaded" in refused.text
    stored = (await service.api.get(number)).json()
    assert (stored["label"], stored["workflow_id"]) == ("", workflow)
    # Whoever has seen that may do it.
    await refused.send(number, {"workflow_id": workflow})
    assert (await service.api.get(number)).json()["label"] == "Desk"


async def test_a_failure_stands_with_its_remedy_beside_the_number_and_on_its_page(
    ada: Browser, service: Service
) -> None:
    one = await a_configuration(service)
    number = await a_number(service, one, "+14155551234", active=False)
    await standing(service, number, state="failed", sentence="It is not in this account.", remedy="Buy <it>.")
    for path in (one, number):
        page = await ada.open(path)
        assert 'data-state="failed"' in page.html
        assert "It is not in this account." in page.text
        assert "What to do: Buy <it>." in page.text
    assert "1 failed" in (await ada.open(C)).text


async def test_the_page_of_a_number_shows_what_is_wanted_found_drifted_and_was_there_before(
    ada: Browser, service: Service
) -> None:
    one = await a_configuration(service)
    number = await a_number(service, one, "+14155551234", active=False)
    difference = {"setting": "VoiceUrl", "wanted": "https://ours.example", "found": "https://theirs.example"}
    await standing(
        service,
        number,
        state="drifted",
        differs=[difference],
        compared=["VoiceMethod", "VoiceUrl"],
        wanted={"VoiceMethod": "POST", "VoiceUrl": "https://ours.example"},
        before={"VoiceUrl": "https://before.example", "VoiceFallbackUrl": ""},
        last_drift={"at": 1_700_000_000_000, "differs": [difference], "repaired": False},
        compared_at=1_700_000_000_000,
    )
    page = await ada.open(number)
    for text in ("https://ours.example", "https://theirs.example", "https://before.example", "VoiceMethod"):
        assert text in page.text
    assert "not set" in page.text
    assert '<time datetime="2023-11-14T22:13:20Z"' in page.html
    assert "They have not been set right." in page.text


async def test_check_now_comes_back_to_the_page_it_was_pressed_on(ada: Browser, service: Service) -> None:
    one = await a_configuration(service)
    number = await a_number(service, one, "+14155551234")
    assert (await (await ada.open(number)).send(f"{number}/check")).path == number
    page = await (await ada.open(one)).send(f"{number}/check")
    assert page.path == one
    assert "The provider is being asked." in page.text


async def test_removing_asks_what_happens_at_the_provider(ada: Browser, service: Service) -> None:
    one = await a_configuration(service)
    number = await a_number(service, one, "+14155551234")
    form = await ada.open(f"{number}/remove")
    assert form.form(f"{number}/remove")["at_provider"] == ["detach"]
    unsaid = await form.send(f"{number}/remove", {"at_provider": None})
    assert unsaid.error("at_provider")
    page = await form.send(f"{number}/remove", {"at_provider": "leave"})
    assert page.path == one
    assert "+1 415-555-1234 is removed." in page.text
    assert (await ada.open(number)).status == 404


async def test_the_guide_follows_the_call_that_comes_in_and_goes_when_it_is_answered(
    ada: Browser, service: Service
) -> None:
    one = await a_configuration(service)
    workflow = await a_workflow(service)
    number = await a_number(service, one, "+14155551234", workflow_id=id_of(workflow))
    assert "Call +1 415-555-1234 from any phone" in (await ada.open(C)).text
    await call(service, number, status="ringing")
    assert "The call came in and rings" in (await ada.open(C)).text
    database = Database(service.database_url)
    async with database.write() as connection:
        # A later call that nobody takes does not bring it back.
        await connection.execute(update(number_calls).values(status="no-answer", answered_at=2))
    await database.close()
    assert "Four steps" not in (await ada.open(C)).text


async def test_live_pieces_are_the_pieces_of_the_page(ada: Browser, service: Service) -> None:
    one = await a_configuration(service)
    number = await a_number(service, one, "+14155551234", label="</div><script>")
    for path, pieces in (
        (C, {"guide", "configuration-list"}),
        (one, {"guide", "configuration-state", "number-list"}),
        (number, {"guide", "number-head", "number-sync"}),
    ):
        page = await ada.open(path)
        found = await ada.first_live(f"{path}/live")
        assert set(found) == pieces
        for name, html in found.items():
            assert f'id="{name}"' in page.html
            assert html.split(">", 1)[0].find(f'id="{name}"') > 0
            assert "<script>" not in html


# --- import


async def test_the_accounts_numbers_are_listed_ticked_and_added_with_a_workflow(
    ada: Browser, service: Service, account: Any
) -> None:
    for last, name in enumerate(("Front <b>desk</b>", "Shop", "Fax"), start=1):
        account.add_number(f"+1415555000{last}", friendly_name=name)
    account.number("+14155550003").change(voice=False)
    one = await a_configuration(service)
    workflow = await a_workflow(service)
    form = await ada.open(f"{one}/import")
    assert "Front <b>desk</b>" in form.text
    assert "<b>desk" not in form.html
    assert "Takes no calls" in form.text
    unticked = await form.send(f"{one}/import")
    assert unticked.error("numbers") == "Tick the numbers to add."
    page = await form.send(f"{one}/import", {"numbers": ["+14155550001", "+14155550002"]})
    assert page.path == one
    assert "2 numbers were added." in page.text
    numbers = (await service.api.get(f"{one}/phone-numbers")).json()["phone_numbers"]
    assert {number["workflow_id"] for number in numbers} == {id_of(workflow)}
    assert (await ada.open(f"{one}/import")).text.count("Added") == 2


async def test_an_import_of_nothing_leads_to_the_list(ada: Browser, service: Service, account: Any) -> None:
    account.add_number("+14155550001")
    one = await a_configuration(service)
    page = await (await ada.open(f"{one}/import")).send(f"{one}/import")
    assert page.status == 422
    assert '<a href="#f-numbers">Tick the numbers to add.</a>' in page.html
    assert 'id="f-numbers"' in page.html


async def test_a_number_that_cannot_be_added_is_told_and_the_others_are(
    ada: Browser, service: Service, account: Any
) -> None:
    account.add_number("+14155550001")
    one = await a_configuration(service)
    form = await ada.open(f"{one}/import")
    page = await form.send(f"{one}/import", {"numbers": ["+14155550001", "+14155559999"]})
    assert page.status == 409
    assert "1 number was added. Not added: +14155559999: this account does not own it" in page.text


async def test_an_account_without_numbers_says_what_to_do(ada: Browser, service: Service) -> None:
    page = await ada.open(f"{await a_configuration(service)}/import")
    assert page.status == 200
    assert "This account has no numbers" in page.text


async def test_a_provider_in_trouble_is_told_with_its_remedy_and_a_way_on(
    ada: Browser, service: Service, carrier: CarrierSim
) -> None:
    one = await a_configuration(service)
    carrier.rest_faults = [RestFault(do="status", status=503)]
    page = await ada.open(f"{one}/import")
    assert page.status == 200
    assert "did not tell which numbers there are" in page.text
    assert "What to do:" in page.text
    assert f"{one}/phone-numbers/new" in page.links()
