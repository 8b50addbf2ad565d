"""The form of a test call, as it is delivered. What the browser does with it, the tests of the whole installation show."""

import json

from browsing import Browser
from making import a_configuration, a_number, a_workflow, id_of
from running_number_sync import Service

CALLS = "/api/v1/calls"


async def test_without_a_number_the_page_says_what_a_call_needs(service: Service, ada: Browser) -> None:
    page = await ada.open(await a_workflow(service))
    assert "A call needs an active phone number" in page.text
    assert "data-call=" not in page.html


async def test_a_workflow_calls_from_a_number_that_it_answers_unless_told_otherwise(
    service: Service, ada: Browser, bob: Browser
) -> None:
    configuration, workflow = await a_configuration(service), await a_workflow(service)
    await a_number(service, configuration, "+14155550101")
    await a_number(service, configuration, "+14155550102", active=False)
    await a_number(service, configuration, "+14155550103", workflow_id=id_of(workflow))
    page = await ada.open(workflow)
    form = page.form(CALLS)
    assert form["workflow_id"] == [id_of(workflow)]
    assert form["from"] == ["+14155550103"]
    assert form["machine_detection"] == ["off"]
    offered = page.html.partition('id="f-from"')[2].partition("</select>")[0]
    assert "+14155550101" in offered
    assert "+14155550102" not in offered
    assert "+1415555" not in (await bob.open(await a_workflow(service, "bob"))).html


async def test_a_number_calls_with_the_workflow_that_answers_it(service: Service, ada: Browser) -> None:
    configuration = await a_configuration(service)
    number = await a_number(service, configuration, "+14155550101")
    assert "There is no workflow yet" in (await ada.open(number)).text
    await a_workflow(service, name="Alpha")
    workflow = await a_workflow(service, name="Beta")
    await service.api.patch(number, json={"workflow_id": id_of(workflow)})
    form = (await ada.open(number)).form(CALLS)
    assert form["from"] == ["+14155550101"]
    assert form["workflow_id"] == [id_of(workflow)]
    await service.api.patch(number, json={"active": False})
    assert "This number is not active" in (await ada.open(number)).text


async def test_the_form_waits_for_script_and_says_so(service: Service, ada: Browser) -> None:
    await a_number(service, await a_configuration(service), "+14155550101")
    page = await ada.open(await a_workflow(service))
    assert "Placing a call from this page needs script" in page.text
    opening = page.html.partition("data-call=")[2].partition(">")[0]
    assert opening.endswith("hidden")
    reasons = json.loads(opening.partition('data-reasons="')[2].partition('"')[0].replace("&#34;", '"'))
    assert reasons["country-not-allowed"] == "to"
