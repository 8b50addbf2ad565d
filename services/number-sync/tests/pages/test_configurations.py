"""The pages of configurations, as a person without script sees them."""

from typing import Any

import pytest
from browsing import Browser
from making import C, a_configuration, a_number, id_of
from running_number_sync import OTHER_TWILIO, PUBLIC_URL, TWILIO, RunService, Service, at

from carrier_sim import CarrierSim
from carrier_sim.rest_faults import RestFault
from offhook.providers import registry
from offhook.providers.base import credential_fields

NEW = f"{C}/new"


def filled(**changes: str) -> dict[str, str]:
    values = {f"credentials.{name}": value for name, value in TWILIO.items()}
    return {"name": "Main", **values, **changes}


async def test_a_new_user_is_told_what_to_do_first(ada: Browser) -> None:
    page = await ada.open(C)
    assert page.status == 200
    assert "No configuration yet" in page.text
    assert "Four steps to your first call" in page.text
    assert NEW in page.links()
    assert f"Providers reach this installation at {PUBLIC_URL}" in page.text


async def test_without_a_public_url_the_page_says_how_to_get_one(run_service: RunService) -> None:
    async with run_service(public_url=None) as service:
        page = await (await Browser(service).log_in()).open(C)
        assert "it has no public URL" in page.text
        assert "OFFHOOK_PUBLIC_URL" in page.text


async def test_every_provider_can_be_chosen_and_asks_for_its_own_fields(ada: Browser) -> None:
    chooser = await ada.open(NEW)
    for adapter in registry.PROVIDERS.values():
        assert f"{NEW}?provider={adapter.name}" in chooser.links()
        page = await ada.open(f"{NEW}?provider={adapter.name}")
        form = page.form(NEW)
        for field in credential_fields(adapter.credentials_model):
            assert f"credentials.{field.name}" in form
            assert field.label in page.text
            assert (f'<textarea id="f-credentials.{field.name}"' in page.html) == field.multiline


async def test_a_saved_configuration_is_tried_and_the_next_page_says_what_came_out(ada: Browser) -> None:
    form = await ada.open(f"{NEW}?provider=twilio")
    page = await form.send(NEW, filled())
    assert page.status == 200
    assert page.path.startswith(f"{C}/")
    assert "Main is saved." in page.text
    assert 'data-state="verified"' in page.html
    assert "The provider knows this account as" in page.text
    assert "No phone number yet" in page.text
    assert f"{page.path}/import" in page.links()


async def test_calling_rules_are_typed_in_words_and_kept(service: Service, ada: Browser) -> None:
    url = await a_configuration(service)
    rules = f"{url}/calling-rules"
    assert rules in (page := await ada.open(url)).links()
    assert "Countries Every country" in page.text
    sent = {
        "dialling_rules.countries": ["GB", "DE"],
        "dialling_rules.denied_prefixes": "+44 900\n\n+44 905",
        "max_concurrent_calls": "12",
    }
    page = await (await ada.open(rules)).send(rules, sent)
    assert page.path == url
    assert "Countries Germany, United Kingdom" in page.text
    assert "Never allowed +44900, +44905" in page.text
    assert "At most 12" in page.text
    again = (await ada.open(rules)).form(rules)
    assert again["dialling_rules.countries"] == ["DE", "GB"]
    assert again["dialling_rules.denied_prefixes"] == ["+44900\n+44905"]


async def test_calling_rules_that_cannot_be_are_objected_to_at_their_fields(
    service: Service, ada: Browser
) -> None:
    rules = f"{await a_configuration(service)}/calling-rules"
    wrong = {"max_concurrent_calls": "many", "max_calls_per_s": "0"}
    page = await (await ada.open(rules)).send(rules, wrong)
    assert page.status == 422
    assert "A whole number from 1" in page.error("max_concurrent_calls")
    assert "A number from 0.01" in page.error("max_calls_per_s")
    page = await (await ada.open(rules)).send(rules, {"dialling_rules.allowed_prefixes": "020"})
    assert "+ and the first digits" in page.error("dialling_rules.allowed_prefixes")
    assert page.form(rules)["dialling_rules.allowed_prefixes"] == ["020"]


async def test_forms_that_are_older_than_a_change_undo_nothing(service: Service, ada: Browser) -> None:
    one = await a_configuration(service)
    edit, rules = await ada.open(f"{one}/edit"), await ada.open(f"{one}/calling-rules")
    changes = {"credentials": OTHER_TWILIO, "dialling_rules": {"denied_prefixes": ["+1900"]}}
    changed = (await service.api.patch(one, json=changes)).json()
    refused = await edit.send(f"{one}/edit", {"name": "Renamed only"})
    assert refused.status == 409
    assert "changed since the page was loaded" in refused.text
    assert refused.error("name") == ""
    # The form that comes back is as old as it was.
    assert (await refused.send(f"{one}/edit")).status == 409
    refused = await rules.send(f"{one}/calling-rules", {"max_concurrent_calls": "3"})
    assert refused.status == 409
    assert (await refused.send(f"{one}/calling-rules")).status == 409
    assert (await service.api.get(one)).json() == changed


async def test_a_wrong_token_is_saved_and_told_with_its_remedy(ada: Browser) -> None:
    form = await ada.open(f"{NEW}?provider=twilio")
    wrong = filled(**{"credentials.auth_token": "0" * 32})
    page = await form.send(NEW, wrong)
    assert 'data-state="refused"' in page.html
    assert "auth token" in page.text.lower()
    assert "0" * 32 not in page.html


async def test_a_provider_that_does_not_answer_leaves_it_not_verified(
    ada: Browser, carrier: CarrierSim
) -> None:
    carrier.rest_faults = [RestFault(do="status", status=503)]
    form = await ada.open(f"{NEW}?provider=twilio")
    page = await form.send(NEW, filled())
    assert 'data-state="not-verified"' in page.html


async def test_each_empty_field_is_told_beside_it_and_nothing_else_is_lost(ada: Browser) -> None:
    form = await ada.open(f"{NEW}?provider=twilio")
    page = await form.send(NEW, {"name": "", "credentials.api_key_sid": "SK1 & <co>"})
    assert page.status == 422
    for field in ("name", "credentials.account_sid", "credentials.auth_token"):
        assert page.error(field) == "This is needed."
    assert page.error("credentials.auth_token_secondary") == ""
    assert "SK1 &amp; &lt;co&gt;" in page.html


async def test_a_secret_is_not_in_the_form_that_comes_back(ada: Browser) -> None:
    form = await ada.open(f"{NEW}?provider=twilio")
    page = await form.send(NEW, filled(name=""))
    assert page.status == 422
    assert page.form(NEW)["credentials.account_sid"] == [TWILIO["account_sid"]]
    assert page.form(NEW)["credentials.auth_token"] == [""]
    assert TWILIO["auth_token"] not in page.html


async def test_a_value_of_the_wrong_shape_is_told_in_words(ada: Browser) -> None:
    form = await ada.open(f"{NEW}?provider=twilio")
    page = await form.send(NEW, filled(**{"credentials.account_sid": "PN1"}))
    assert page.error("credentials.account_sid").startswith("This does not look right. Starts with AC")


async def test_a_taken_name_is_told_beside_the_name(ada: Browser, service: Service) -> None:
    await a_configuration(service)
    form = await ada.open(f"{NEW}?provider=twilio")
    page = await form.send(NEW, filled())
    assert page.status == 409
    assert "already have a configuration named 'Main'" in page.error("name")


async def test_the_script_gets_the_same_objections_as_json(ada: Browser) -> None:
    form = await ada.open(f"{NEW}?provider=twilio")
    page = await form.send(NEW, {"name": ""}, Accept="application/json")
    assert page.status == 422
    errors = {one["location"][1]: one["message"] for one in page.response.json()["errors"]}
    assert errors["name"] == errors["credentials.account_sid"] == "This is needed."


async def test_the_list_shows_provider_credentials_numbers_pause_and_default(
    ada: Browser, service: Service
) -> None:
    one = await a_configuration(service, default_for_outbound=True)
    await a_configuration(service, name="Spare", credentials=OTHER_TWILIO, paused=True)
    await a_number(service, one, "+14155551234")
    page = await ada.open(C)
    assert "default for outbound" in page.text
    assert "Paused" in page.text
    assert "none yet" in page.text
    assert TWILIO["account_sid"] in page.text
    assert any(link.startswith(f"{one}?state=") for link in page.links())


async def test_markup_in_names_is_shown_and_not_run(ada: Browser, service: Service) -> None:
    bad = "<script>alert(1)</script>\"'><img src=x>"
    one = await a_configuration(service, name=bad)
    workflow_name = "<b>Desk</b>"
    answer = await service.api.post("/workflows", json={"name": workflow_name, "agent_url": "wss://a/x"})
    workflow = f"/workflows/{answer.json()['workflow_id']}"
    number = await a_number(service, one, "+14155551234", label=bad, workflow_id=id_of(workflow))
    pages = [C, one, f"{one}/edit", f"{one}/delete", f"{one}/import", f"{one}/phone-numbers/new"]
    pages += [number, f"{number}/remove", "/workflows", workflow, f"{workflow}/delete"]
    for path in pages:
        page = await ada.open(path)
        assert page.status == 200, path
        for raw in ("<script>alert", "<img src=x", "<b>Desk"):
            assert raw not in page.html, path


async def test_the_test_button_tells_what_the_provider_says_now(
    ada: Browser, service: Service, account: Any
) -> None:
    one = await a_configuration(service)
    page = await (await ada.open(one)).send(f"{one}/test")
    assert page.path == one
    assert "Tested. The provider knows this account as" in page.text


async def test_pause_default_and_repair_are_switched_one_by_one(ada: Browser, service: Service) -> None:
    one = await a_configuration(service)

    async def switch(name: str, value: str) -> Any:
        page = await ada.open(one)
        token = page.form(f"{one}/test")["csrf"]
        assert (await ada.post(one, {"csrf": token, name: value})).status == 200
        return (await service.api.get(one)).json()

    assert (await switch("paused", "true"))["paused"]
    assert "This configuration is paused" in (await ada.open(one)).text
    changed = await switch("default_for_outbound", "true")
    assert changed["default_for_outbound"]
    assert changed["paused"]
    assert not (await switch("repair_drift", "false"))["repair_drift"]
    assert not (await switch("paused", "false"))["paused"]


async def test_the_webhook_urls_are_shown(ada: Browser, service: Service) -> None:
    page = await ada.open(await a_configuration(service))
    assert f"{PUBLIC_URL}/api/v1/telephony/inbound/run" in page.text


async def test_an_edit_keeps_the_secrets_that_are_left_empty_or_sent_as_masks(
    ada: Browser, service: Service
) -> None:
    one = await a_configuration(service)
    form = await ada.open(f"{one}/edit")
    assert "Stored: ••••••••2345" in form.text
    page = await form.send(f"{one}/edit", {"name": "Renamed"})
    assert page.path == one
    await (await ada.open(f"{one}/edit")).send(f"{one}/edit", {"credentials.auth_token": "••••••••2345"})
    answer = (await service.api.post(f"{one}/test")).json()
    assert answer["state"] == "verified"
    assert (await service.api.get(one)).json()["name"] == "Renamed"


async def test_a_new_secret_is_tried_at_once_and_an_optional_one_can_be_removed(
    ada: Browser, service: Service
) -> None:
    one = await a_configuration(service)
    second = {"credentials.auth_token_secondary": "c" * 32}
    page = await (await ada.open(f"{one}/edit")).send(f"{one}/edit", second)
    assert 'data-state="verified"' in page.html
    form = await ada.open(f"{one}/edit")
    assert "Remove the stored secondary auth token" in form.text
    await form.send(f"{one}/edit", {"remove.credentials.auth_token_secondary": "on"})
    stored = (await service.api.get(one)).json()["credentials"]
    assert stored["auth_token_secondary"] is None
    assert stored["auth_token"] is not None
    page = await (await ada.open(f"{one}/edit")).send(f"{one}/edit", {"credentials.auth_token": "0" * 32})
    assert 'data-state="refused"' in page.html


async def test_a_mistyped_account_lets_no_numbers_go_and_the_form_says_how_many_it_would(
    ada: Browser, service: Service
) -> None:
    one = await a_configuration(service)
    await a_number(service, one, "+14155551234")
    form = await ada.open(f"{one}/edit")
    page = await form.send(f"{one}/edit", {"credentials.account_sid": OTHER_TWILIO["account_sid"]})
    assert page.status == 422
    assert "1 phone number is set up at the present one" in page.text
    assert (await service.api.get(one)).json()["account"] == TWILIO["account_sid"]


async def test_deleting_asks_what_happens_to_the_numbers(ada: Browser, service: Service) -> None:
    one = await a_configuration(service)
    await a_number(service, one, "+14155551234")
    page = await ada.open(f"{one}/delete")
    assert "+1 415-555-1234" in page.text
    assert page.form(f"{one}/delete")["numbers"] == ["detach"]
    unsaid = await page.send(f"{one}/delete", {"numbers": None})
    assert unsaid.error("numbers") == "Choose what happens to its numbers."
    assert (await service.api.get(one)).status_code == 200
    gone = await page.send(f"{one}/delete", {"numbers": "leave"})
    assert gone.path == C
    assert "Main is deleted." in gone.text
    assert (await ada.open(one)).status == 404


async def test_numbers_added_while_the_question_was_open_are_not_lost(ada: Browser, service: Service) -> None:
    one = await a_configuration(service)
    page = await ada.open(f"{one}/delete")
    await a_number(service, one, "+14155551234")
    again = await page.send(f"{one}/delete")
    assert again.status == 409
    assert "Choose what happens to them" in again.text
    assert (await service.api.get(one)).status_code == 200


async def test_numbers_are_shown_page_by_page_and_by_state(ada: Browser, service: Service) -> None:
    one = await a_configuration(service)
    for last in range(60):
        await a_number(service, one, f"+141555500{last:02}", active=False)
    first = await ada.open(one)
    assert first.text.count("Check now") == 50
    following = next(link for link in first.links() if "after=" in link).replace("&amp;", "&")
    second = await ada.open(following)
    assert second.text.count("Check now") == 10
    assert "No number is in this state" in (await ada.open(f"{one}?state=failed")).text


async def test_what_is_somebody_elses_is_not_found(ada: Browser, bob: Browser, service: Service) -> None:
    one = await a_configuration(service)
    number = await a_number(service, one, "+14155551234")
    paths = ["", "/live", "/edit", "/delete", "/import", "/phone-numbers/new"]
    for path in [one + path for path in paths] + [number, f"{number}/live", f"{number}/remove"]:
        page = await bob.open(path)
        assert page.status == 404, path
        assert "Main" not in page.text
    token = (await bob.open("/workflows/new")).form("/workflows/new")["csrf"]
    posts = [one, f"{one}/test", f"{one}/edit", f"{one}/delete", f"{one}/import", f"{one}/phone-numbers/new"]
    posts += [number, f"{number}/check", f"{number}/remove"]
    for path in posts:
        sent = {"csrf": token, "name": "x", "numbers": "leave", "at_provider": "leave", "paused": "true"}
        assert (await bob.post(path, sent)).status == 404, path
    assert (await service.api.get(one)).json()["name"] == "Main"
    assert (await ada.open(number)).status == 200


async def test_a_form_from_elsewhere_changes_nothing(ada: Browser, service: Service) -> None:
    one = await a_configuration(service)
    for values in ({"paused": "true"}, {"paused": "true", "csrf": "forged"}):
        assert (await ada.post(one, values)).status == 403
    assert not (await service.api.get(one)).json()["paused"]


async def test_nobody_sees_a_page_without_a_login(service: Service) -> None:
    stranger = Browser(service)
    for path in (C, NEW, f"{C}/x", f"{C}/x/import", "/workflows", "/workflows/new"):
        assert (await stranger.open(path)).path == "/login"


@pytest.mark.parametrize("nonsense", ["x", "%00", "a%20b", "ä", "'; --"])
async def test_an_address_that_cannot_be_is_not_found(ada: Browser, nonsense: str) -> None:
    assert (await ada.open(f"{C}/{nonsense}")).status == 404
    assert (await ada.open(f"/workflows/{nonsense}")).status == 404


async def test_a_lost_key_is_told_and_the_credentials_can_be_given_again(
    run_service: RunService, carrier: CarrierSim, account: Any
) -> None:
    import base64

    async with run_service(**at(carrier)) as service:
        one = await a_configuration(service)
    other = "k2:" + base64.b64encode(b"o" * 32).decode()
    async with run_service(keyring=other, **at(carrier)) as service:
        ada = await Browser(service).log_in()
        assert 'data-state="refused"' in (await ada.open(C)).html
        form = await ada.open(f"{one}/edit")
        assert "cannot be opened" in form.text
        page = await form.send(f"{one}/edit", filled())
        assert 'data-state="verified"' in page.html
