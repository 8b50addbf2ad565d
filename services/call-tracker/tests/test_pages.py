"""The pages of calls, on the whole service over an in-memory bus and a real database."""

import csv
import io
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import httpx
import pytest
from events_of_calls import NOON, Call
from test_api import Service, furnish, serving, settings_for

from call_tracker.pages.export import safe_cell
from call_tracker.settings import TrackerSettings
from offhook.bus.testing import memory_bus
from offhook.events import CallRequested, HangUp, Observe, Transfer
from offhook.settings import SettingsError, read_settings
from offhook.telemetry.tracing import call_trace_id
from offhook.topics import CALL_COMMANDS


class Reader:
    """Somebody who reads pages without script, by key."""

    def __init__(self, service: Service, key: str = "key-1") -> None:
        self.client = httpx.AsyncClient(
            transport=httpx.ASGITransport(service.app),
            base_url="http://tracker",
            headers={"Authorization": f"Bearer {key}", "Accept": "text/html"},
        )

    async def reads(self, path: str, status: int = 200) -> str:
        answer = await self.client.get(path)
        assert answer.status_code == status, answer.text
        return answer.text


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    settings = settings_for(f"sqlite+aiosqlite:///{tmp_path / 'store.db'}", tmp_path)
    settings = settings.model_copy(
        update={
            "trace_url_template": "https://traces.example/t/{trace_id}",
            "logs_url_template": "https://logs.example/?run=%7Bworkflow_run_id%7D&trace={trace_id}",
        }
    )
    async with memory_bus(service="call-tracker") as bus:
        await furnish(bus)
        async with serving(settings, bus) as service:
            yield service


async def test_nobody_sees_pages_without_a_login(service: Service) -> None:
    for path in ("/calls", "/calls/run-1", "/calls.csv"):
        answer = await service.nobody.get(f"http://tracker{path}", headers={"Accept": "text/html"})
        assert (answer.status_code, answer.headers["location"].partition("?")[0]) == (303, "/login")


async def test_the_first_page_says_what_to_do(service: Service) -> None:
    assert "No calls yet" in await Reader(service).reads("/calls")


async def test_a_call_is_its_users_alone(service: Service) -> None:
    await service.tell(*Call().twilio_outbound())
    mine, theirs = Reader(service), Reader(service, "key-2")
    assert "call-run-1" in await mine.reads("/calls")
    assert "hung up after 6.0 s" in await mine.reads("/calls/run-1")
    assert "call-run-1" not in await theirs.reads("/calls")
    assert "run-1" not in (await theirs.client.get("/calls.csv")).text
    for path in ("/calls/run-1", "/calls/run-1/hangup"):
        assert "There is no such call" in await theirs.reads(path, 404)
    assert await theirs.reads("/calls/run-1/live") == "retry: 2000\n\nevent: gone\ndata: {}\n\n"


async def test_filters_narrow_the_list_and_what_makes_no_sense_is_said(service: Service) -> None:
    await service.tell(
        *Call("run-a", call_id="CA1").twilio_outbound(), Call("run-b", call_id="CA2").received(5)
    )
    reader = Reader(service)
    assert "call-run-b" not in await reader.reads("/calls?end_reason=callee-hung-up")
    assert "call-run-a" not in await reader.reads("/calls?status=live")
    assert "call-run-b" in await reader.reads("/calls?q=CA2")
    assert "No call matches" in await reader.reads("/calls?q=CA9")
    assert "At least 4 digits" in await reader.reads("/calls?number=12")
    for nonsense in ("yesterday", "0001-01-01T00:00", "9999-12-31T23:59-12:00"):
        assert "A date and a time" in await reader.reads(f"/calls?since={nonsense}")
    assert "There is no such status" in await reader.reads("/calls?status=%3Cscript%3E")


async def test_the_page_of_a_call_has_all_that_was_told(service: Service) -> None:
    call = Call()
    await service.tell(*call.twilio_outbound(), call.status("going-strange", 4, detail="<b>weird</b>"))
    text = await Reader(service).reads("/calls/run-1")
    assert "Provider said “going-strange”" in text
    assert "&lt;b&gt;weird&lt;/b&gt;" in text
    assert "<b>weird" not in text
    assert 'href="#event-1"' in text
    assert 'id="event-1"' in text
    trace_id = call_trace_id("run-1")
    assert f'href="https://traces.example/t/{trace_id}"' in text
    assert f'href="https://logs.example/?run=run-1&amp;trace={trace_id}"' in text
    assert "CA1" in text


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("TRACE_URL_TEMPLATE", "https://traces.example/{workflow_run_id}"),
        ("LOGS_URL_TEMPLATE", "https://logs.example/"),
        ("LOGS_URL_TEMPLATE", "javascript:alert('{trace_id}')"),
    ],
)
def test_a_link_that_leads_to_no_call_is_refused_at_the_start(
    setting: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"OFFHOOK_{setting}", value)
    with pytest.raises(SettingsError, match=f"OFFHOOK_{setting}"):
        read_settings(TrackerSettings)


async def test_a_time_that_no_clock_can_show_does_not_hide_the_call(service: Service) -> None:
    never = datetime.fromisoformat("9999-12-31T23:59:59-12:00")
    call = Call()
    odd = call.status("ringing", 1)
    told = [call.requested(), replace(odd, data=odd.data.model_copy(update={"provider_time": never}))]
    await service.tell(*told)
    assert "Ringing" in await Reader(service).reads("/calls/run-1")


async def test_a_failed_call_says_what_to_do(service: Service) -> None:
    call = Call()
    await service.tell(call.requested(), call.dial_failed())
    text = await Reader(service).reads("/calls/run-1")
    assert "The provider did not accept the call" in text
    assert "What to do:" in text
    assert "21211: invalid To" in text


async def test_what_people_ask_for_goes_to_the_provider(service: Service) -> None:
    call = Call()
    await service.tell(*call.twilio_outbound()[:7])
    reader = Reader(service)
    refused = await reader.client.post("/calls/run-1/transfer", data={"to": "12", "mode": "cold"})
    assert refused.status_code == 422
    assert 'value="12"' in refused.text
    for what, data in (
        ("look-up", {}),
        ("transfer", {"to": "+442079460000", "mode": "warm"}),
        ("hangup", {}),
    ):
        answer = await reader.client.post(
            f"/calls/run-1/{what}", data=data, headers={"Content-Type": "application/x-www-form-urlencoded"}
        )
        assert (answer.status_code, answer.headers.get("location")) == (303, "/calls/run-1"), answer.text
    commands = await service.told(CALL_COMMANDS, 3)
    assert [type(command) for command in commands] == [Observe, Transfer, HangUp]


async def test_the_export_holds_all_calls_of_the_filter_and_no_formula(service: Service) -> None:
    events = [
        event
        for number in range(7)
        for event in [Call(f"run-{number}", call_id=f"CA{number}").received(number)]
    ]
    told = Call("run-x", call_id="CAX").requested(20)
    assert isinstance(told.data, CallRequested)
    await service.tell(*events, told)
    answer = await Reader(service).client.get("/calls.csv")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [row["workflow_run_id"] for row in rows] == ["run-x", *(f"run-{n}" for n in reversed(range(7)))]
    assert rows[0]["to_number"] == "+14155550199"
    assert rows[0]["workflow"] == "w"
    assert rows[-1]["requested_at"].startswith(NOON.isoformat()[:19])
    only = (await Reader(service).client.get("/calls.csv?direction=outbound")).text
    assert [row["workflow_run_id"] for row in csv.DictReader(io.StringIO(only))] == ["run-x"]


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("+14155550100", "+14155550100"),
        ("-0.0085", "-0.0085"),
        ("=1+1", "'=1+1"),
        ("+1+cmd|' /C calc'!A0", "'+1+cmd|' /C calc'!A0"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\t=1"),
        ("-1;=2", "'-1;=2"),
    ],
)
def test_no_cell_is_computed(text: str, cell: str) -> None:
    assert safe_cell(text) == cell


async def test_a_call_that_was_given_up_and_goes_on_all_the_same_can_be_hung_up(service: Service) -> None:
    call = Call()
    await service.tell(call.requested(), call.dial_failed(48, code="outcome-unknown"))
    reader = Reader(service)
    assert "/calls/run-1/hangup" not in await reader.reads("/calls/run-1")
    assert (await service.mine.post("/calls/run-1/hangup")).status_code == 409
    await service.tell(call.originated(50), call.status("answered", 51, sequence=2), call.media_started(52))
    assert "/calls/run-1/hangup" in await reader.reads("/calls/run-1")
    assert (await service.mine.post("/calls/run-1/hangup")).status_code == 202
    (command,) = await service.told(CALL_COMMANDS, 1)
    assert isinstance(command, HangUp)
    assert command.provider_call_id == "CA1"
