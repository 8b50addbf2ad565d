"""One trace tells a whole call, whoever had a part in it; it leads to the call's page and its log lines, and they back to it."""

import asyncio
import contextlib
import json
import os
import re
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree

import httpx
import pytest
import pytest_asyncio
from canaries import SHAPES, Canary, Places, files_below, search, search_numbers
from installation import API_KEYS, PROVIDERS, Finished, Installation, Json, agent_that
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from carrier_sim import BargeIn, Callee, Caller, HangUp, Say, StayUntilHungUp, Wait, WaitForAgent
from offhook.telemetry import spans
from offhook.telemetry.tracing import call_span_context, call_trace_id
from offhook_agent import Call, CallEnded, Turn, TurnDetector, chime
from offhook_dev.otlp import Seen, Trace, TraceStore
from offhook_dev.ports import free_port
from offhook_dev.simulated import PERSON, credentials
from offhook_dev.stack import DEMO_USER, SERVICES
from offhook_dev.trace_picture import draw

pytestmark = [
    pytest.mark.real,
    pytest.mark.observability,
    pytest.mark.asyncio(loop_scope="session"),
]

TALK: Final = (WaitForAgent(timeout_s=60), Say(0.6), StayUntilHungUp(60))
DIRECTIONS: Final = ("inbound", "outbound")
TRACES: Final = "https://traces.example/trace/{trace_id}"
LOGS: Final = 'https://logs.example/explore?q={service="offhook"}|="{workflow_run_id}"&t={trace_id}'
# A provider's clock may tell whole seconds.
CLOCK_NS: Final = 2_000_000_000
# Loggers that speak of one call at a time, in each service.
OF_CALLS: Final = re.compile(
    r"webhook_gateway\.gateway|media_bridge\.(call|facts)|number_sync\.orders\.(dial|hang_up|transfer)"
)


@dataclass
class Scene:
    """All calls of this module, over, and everything that was seen of them."""

    installation: Installation
    traces: TraceStore
    calls: dict[str, Finished]
    contexts: dict[str, list[str]]
    numbers: set[str] = field(default_factory=set)

    def trace_of(self, name: str) -> Trace:
        return self.traces.trace(call_trace_id(self.calls[name].run))

    def logs(self) -> dict[str, list[Json]]:
        """The log lines of each service."""
        home = self.installation.home / "stack" / "logs"
        return {
            name: [json.loads(line) for line in (home / f"{name}.log").read_text().splitlines()]
            for name in SERVICES
        }


def agent_of(contexts: dict[str, list[str]]) -> Any:
    """An agent that does what its workflow's metadata says, under `do`."""

    async def on_call(call: Call) -> None:
        contexts.setdefault(call.workflow_run_id, []).append(call.traceparent or "")
        plan = call.metadata.get("do", "greet")
        if plan != "talk":
            await call.play(chime(sample_rate=call.sample_rate))
            await call.played()
        if plan == "die" and call.resume is None:
            raise RuntimeError("this agent dies in its first call")
        if plan == "talk":
            await call.play(chime(sample_rate=call.sample_rate) * 20)
            turns = TurnDetector(call.sample_rate)
            async for audio in call.audio():
                if turns.hear(audio) is Turn.STARTED:
                    await call.clear()
                    return
        elif isinstance(plan, dict):
            with contextlib.suppress(CallEnded):
                await call.transfer(plan["to"])
            async for _ in call.audio():
                pass

    return on_call


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def scene(_kafka_can_be_had: None, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    async with contextlib.AsyncExitStack() as open_:
        traces = await open_.enter_async_context(TraceStore())
        env = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": traces.url,
            "OTEL_BSP_SCHEDULE_DELAY": "200",
            "NO_PROXY": "127.0.0.1,localhost",
            "OFFHOOK_TRACE_URL_TEMPLATE": TRACES,
            "OFFHOOK_LOGS_URL_TEMPLATE": LOGS,
        }
        home = tmp_path_factory.mktemp("traces")
        installation = await open_.enter_async_context(
            Installation(home, service_env=dict.fromkeys(SERVICES, env))
        )
        contexts: dict[str, list[str]] = {}
        url = await open_.enter_async_context(agent_that(agent_of(contexts)))
        calls = await calls_of(installation, url)
        numbers = {PERSON, *(call.report.from_number for call in calls.values())}
        numbers |= {call.report.to_number for call in calls.values()}
        yield Scene(installation, traces, calls, contexts, numbers)


async def calls_of(installation: Installation, url: str) -> dict[str, Finished]:
    """Every kind of call, side by side."""
    taker = Callee(0.3, "answer", Caller((Say(1.0), Wait(0.5), HangUp()), at_once=True))
    someone = Callee(0.3, "answer", Caller(TALK))
    greets = await installation.workflow(url)
    plans = {
        "dies": await installation.workflow(url, metadata={"do": "die"}),
        "talks": await installation.workflow(url, metadata={"do": "talk"}),
        "unreachable": await installation.workflow(f"ws://127.0.0.1:{free_port()}"),
    }
    inbound = {provider: await installation.number(provider, greets) for provider in PROVIDERS}
    numbers = {name: await installation.number("twilio", workflow) for name, workflow in plans.items()}
    for provider in PROVIDERS:
        transfers = await installation.workflow(url, metadata={"do": {"to": installation.callee(taker)}})
        numbers[f"transferred {provider}"] = await installation.number(provider, transfers)
    await installation.known()
    interrupts = (BargeIn(after_s=0.8, seconds=0.8), StayUntilHungUp(60))
    work: dict[str, Any] = {
        **{f"{one} inbound": installation.call(one, number, *TALK) for one, number in inbound.items()},
        **{f"{one} outbound": installation.dial(one, greets, someone) for one in PROVIDERS},
        "dies": installation.call("twilio", numbers["dies"], *TALK),
        "talks": installation.call("twilio", numbers["talks"], *interrupts),
        "unreachable": installation.call("twilio", numbers["unreachable"], StayUntilHungUp(60)),
        **{
            f"transferred {one}": installation.call(one, numbers[f"transferred {one}"], StayUntilHungUp(60))
            for one in PROVIDERS
        },
    }
    return dict(zip(work, await asyncio.gather(*work.values()), strict=True))


async def complete(scene: Scene, name: str) -> Trace:
    """The trace of a call, when everything that happened to the call has been handled."""
    call = scene.calls[name]
    told = {event["id"] for event in call.record["events"]}

    def whole(trace: Trace) -> bool:
        handled = {
            span.attributes["messaging.message.id"]
            for span in of_kind(trace, "CONSUMER")
            if span.service == spans.TRACKER
        }
        return bool(trace.roots) and not trace.orphans and told <= handled

    return await scene.traces.wait_for(call_trace_id(call.run), whole, within_s=60.0)


async def requests_of(scene: Scene, links: set[str]) -> dict[str, Seen]:
    """The requests at our services by their ids, once all of `links` are there: each has a trace of its own."""
    async with asyncio.timeout(60):
        while True:
            served = {span.id: span for span in scene.traces.spans() if span.kind == "SERVER"}
            if links <= served.keys():
                return served
            await asyncio.sleep(0.1)


def of_kind(trace: Trace, kind: str) -> list[Seen]:
    return [span for span in trace.spans if span.kind == kind]


def names_under(trace: Trace, span: Seen) -> set[str]:
    return {child.name for child in trace.children_of(span)}


ALL_CALLS: Final = (
    *(f"{provider} {direction}" for provider in PROVIDERS for direction in DIRECTIONS),
    "dies",
    "talks",
    "unreachable",
    *(f"transferred {provider}" for provider in PROVIDERS),
)
each_call = pytest.mark.parametrize("name", ALL_CALLS)


@each_call
async def test_a_call_is_one_tree_from_all_who_had_a_part_in_it(scene: Scene, name: str) -> None:
    trace = await complete(scene, name)
    call = scene.calls[name]
    (root,) = trace.roots
    assert (root.name, root.service, root.id) == (
        spans.CALL, spans.TRACKER, f"{call_span_context(call.run).span_id:016x}",
    )  # fmt: skip
    assert trace.orphans == []
    assert all(span.run == call.run for span in trace.spans)
    ordered = name.endswith("outbound") or name.startswith("transferred") or name == "twilio inbound"
    everybody = {spans.GATEWAY, spans.BRIDGE, spans.TRACKER}
    assert trace.services >= (everybody | {spans.NUMBER_SYNC} if ordered else everybody)
    assert {spans.INSTRUCTIONS, spans.STATUS, spans.MEDIA_SESSION} <= {span.name for span in trace.spans}
    assert len(of_kind(trace, "PRODUCER")) < 60, "\n".join(trace.lines())


@each_call
async def test_the_root_says_what_became_of_the_call(scene: Scene, name: str) -> None:
    (root,) = (await complete(scene, name)).roots
    record = scene.calls[name].record
    for attribute, value in (
        ("user_id", DEMO_USER),
        ("provider", record["provider"]),
        ("direction", record["direction"]),
        ("status", record["status"]),
        ("end_reason", record["end_reason"]),
        ("ended_by", record["ended_by"]),
        ("call_url", f"{scene.installation.origin}/calls/{record['workflow_run_id']}"),
    ):
        assert root.attributes.get(f"offhook.{attribute}") == value, attribute
    assert root.error == ("agent-unreachable" if name == "unreachable" else None)


@each_call
async def test_every_event_is_sent_and_handled_once_below_what_caused_it(scene: Scene, name: str) -> None:
    trace = await complete(scene, name)
    sent = {span.id: span for span in of_kind(trace, "PRODUCER")}
    for handling in of_kind(trace, "CONSUMER"):
        sending = sent[handling.parent]
        for attribute in ("messaging.message.id", "messaging.destination.name", "offhook.event_type"):
            assert handling.attributes[attribute] == sending.attributes[attribute]
        assert handling.began >= sending.began
        assert handling.attributes["messaging.system"] == "kafka"
        assert handling.name == f"process {sending.attributes['messaging.destination.name']}"
    told = {event["id"] for event in scene.calls[name].record["events"]}
    by_tracker = [
        span.attributes["messaging.message.id"]
        for span in of_kind(trace, "CONSUMER")
        if span.service == spans.TRACKER
    ]
    assert told <= set(by_tracker)
    assert {span.attributes["offhook.destination"] for span in sent.values()} == {"kafka"}


@each_call
async def test_times_are_nested(scene: Scene, name: str) -> None:
    trace = await complete(scene, name)
    (root,) = trace.roots
    for span in trace.spans:
        assert span.ended >= span.began
        parent = trace.parent_of(span)
        if parent is None:
            continue
        slack = CLOCK_NS if parent is root else 0
        assert span.began >= parent.began - slack, (span.name, parent.name)
        if span.name in (spans.AGENT, spans.AGENT_CONNECT, spans.AGENT_REDIAL) or span.kind == "CLIENT":
            assert span.ended <= parent.ended, (span.name, parent.name)
    record = scene.calls[name].record
    assert abs(root.ended - nanoseconds(record["ended_at"])) < CLOCK_NS
    (session, *_) = trace.named(spans.MEDIA_SESSION)
    assert session.ended - session.began < root.ended - root.began + CLOCK_NS


def nanoseconds(moment: str) -> int:
    return int(datetime.fromisoformat(moment).timestamp() * 1e9)


@each_call
async def test_proven_requests_are_linked_with_what_was_answered(scene: Scene, name: str) -> None:
    trace = await complete(scene, name)
    answered = [*trace.named(spans.INSTRUCTIONS), *trace.named(spans.STATUS)]
    served = await requests_of(scene, {link for span in answered for link in span.links})
    for span in answered:
        assert span.attributes["offhook.verified"] is True
        (link,) = span.links
        request = served[link]
        assert (request.service, request.trace != span.trace) == (spans.GATEWAY, True)
        assert request.attributes["offhook.verified"] is True
        assert request.attributes["http.response.status_code"] in (200, 204)


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_an_outbound_call_is_followed_from_the_wish_to_the_provider(
    scene: Scene, provider: str
) -> None:
    trace = await complete(scene, f"{provider} outbound")
    (root,) = trace.roots
    (asked,) = trace.named(spans.CALL_ASKED)
    assert (asked.parent, len(asked.links)) == (root.id, 1)
    (dial,) = trace.named("dial")
    assert (dial.service, dial.kind) == (spans.NUMBER_SYNC, "CLIENT")
    assert dial.attributes["http.response.status_code"] == 201
    assert dial.attributes["offhook.attempt"] == 1
    way = [dial]
    while (parent := trace.parent_of(way[-1])) is not None:
        way.append(parent)
    assert [span.name for span in way] == [
        "dial", "order originate", "process telephony.call-commands.v1", "send telephony.call-commands.v1", spans.CALL_ASKED,
        spans.CALL,
    ]  # fmt: skip
    assert "offhook.call.originated.v1" in {
        child.attributes.get("offhook.event_type") for child in trace.children_of(way[1])
    }


async def test_an_agent_that_dies_is_seen_and_so_is_the_next_one(scene: Scene) -> None:
    trace = await complete(scene, "dies")
    (session,) = trace.named(spans.MEDIA_SESSION)
    (first,) = trace.named(spans.AGENT_CONNECT)
    (second,) = trace.named(spans.AGENT_REDIAL)
    lost, kept = trace.named(spans.AGENT)
    assert {one.parent for one in (first, second, lost, kept)} == {session.id}
    assert first.ended <= lost.began <= lost.ended <= second.began <= second.ended <= kept.began
    assert (lost.error, lost.attributes["offhook.close_code"], kept.error) == ("lost", 1011, None)
    assert session.attributes["offhook.agent_connects"] == 2


async def test_an_agent_that_cannot_be_reached_is_an_error_with_its_host(scene: Scene) -> None:
    trace = await complete(scene, "unreachable")
    (session,) = trace.named(spans.MEDIA_SESSION)
    tries = [*trace.named(spans.AGENT_CONNECT), *trace.named(spans.AGENT_REDIAL)]
    assert len(tries) > 1
    assert {(one.error, one.attributes["server.address"]) for one in tries} == {("error", "127.0.0.1")}
    assert session.error == "agent-unreachable"


async def test_an_interruption_is_seen_once_and_no_frame_ever(scene: Scene) -> None:
    trace = await complete(scene, "talks")
    (session,) = trace.named(spans.MEDIA_SESSION)
    (interruption,) = trace.named(spans.INTERRUPTION)
    assert interruption.parent == session.id
    assert interruption.attributes["offhook.discarded_ms"] > 0
    assert session.attributes["offhook.interruptions"] == 1
    assert len(trace.spans) < 60


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_transfer_is_followed_from_the_agent_to_the_provider(scene: Scene, provider: str) -> None:
    trace = await complete(scene, f"transferred {provider}")
    (asked,) = trace.named(spans.TRANSFER_ASKED)
    assert (asked.service, asked.attributes["offhook.mode"]) == (spans.BRIDGE, "cold")
    (order,) = trace.named("order transfer")
    assert "transfer" in names_under(trace, order)
    way = [order]
    while (parent := trace.parent_of(way[-1])) is not None:
        way.append(parent)
    assert [span.name for span in way[-3:]] == [spans.TRANSFER_ASKED, spans.MEDIA_SESSION, spans.CALL]


@each_call
async def test_the_agent_goes_on_from_its_connection(scene: Scene, name: str) -> None:
    trace = await complete(scene, name)
    connects = [*trace.named(spans.AGENT_CONNECT), *trace.named(spans.AGENT_REDIAL)]
    taken = [span for span in connects if span.error is None]
    given = scene.contexts.get(scene.calls[name].run, [])
    assert given == [f"00-{span.trace}-{span.id}-01" for span in taken]


async def test_nothing_leaves_but_what_has_a_name(scene: Scene) -> None:
    await asyncio.gather(*(complete(scene, name) for name in ALL_CALLS))
    known = {one.name for one in spans.SPANS}
    for span in scene.traces.spans():
        assert set(span.attributes) <= set(spans.ATTRIBUTES)
        plain = re.sub(r"^(send|process) telephony\.[a-z-]+\.v1$", r"\1", span.name)
        if span.kind == "SERVER" and span.run is None:
            plain = "HTTP"
            assert "?" not in span.name
        assert plain in known, span.name
        service = next(one for one in spans.SPANS if one.name == plain).services
        assert span.service in service


async def test_no_secret_and_no_number_is_exported_or_logged(scene: Scene) -> None:
    await asyncio.gather(*(complete(scene, name) for name in ALL_CALLS))
    installation = scene.installation
    places: Places = {
        "traces": scene.traces.content(),
        "traces on the wire": b"\n".join(scene.traces.bodies),
        **files_below(installation.home / "stack" / "logs", *(f"{name}.log" for name in SERVICES)),
    }
    planted = [Canary(name, value.rpartition(":")[2]) for name, value in installation.secrets.items()]
    planted += [Canary(user, key) for user, key in API_KEYS.items()]
    for provider, keys in credentials(installation.home).items():
        planted += [
            Canary(f"{provider} {name}", value)
            for name, value in keys.items()
            if name not in ("account_sid", "application_id", "api_key")
        ]
    assert search([one for one in planted if len(one.value) >= 16], places) == []
    assert search_numbers(scene.numbers, places) == []
    for place, content in places.items():
        # Without the country's code, and as people write them.
        for number in scene.numbers:
            national = number.lstrip("+")[1:]
            pattern = rb"(?<!\d)" + rb"[\s().-]{0,2}".join(
                part.encode() for part in (national[:3], national[3:6], national[6:])
            )
            assert re.search(pattern + rb"(?!\d)", content) is None, (place, number)
        # Twilio's signatures: 20 bytes in base64.
        assert re.search(rb"(?<![A-Za-z0-9+/])[A-Za-z0-9+/]{27}=", content) is None, place
        assert re.search(rb"(?i)\bsips?:", content) is None, place
        assert not any(shape.search(content) for shape in SHAPES.values()), place


@each_call
async def test_every_log_line_of_a_call_names_call_user_and_trace(scene: Scene, name: str) -> None:
    run = scene.calls[name].run
    told = {
        service: [line for line in lines if run in json.dumps(line)]
        for service, lines in scene.logs().items()
    }
    assert all(told[service] for service in (spans.GATEWAY, spans.BRIDGE, spans.TRACKER))
    assert told[spans.NUMBER_SYNC] or not name.endswith("outbound")
    for line in (line for lines in told.values() for line in lines):
        assert line["workflow_run_id"] == run
        assert (line["user_id"], line["trace_id"]) == (DEMO_USER, call_trace_id(run)), line


async def test_who_speaks_of_calls_always_says_of_which(scene: Scene) -> None:
    lines = [line for lines in scene.logs().values() for line in lines if OF_CALLS.fullmatch(line["logger"])]
    assert lines
    assert [line for line in lines if not line.get("workflow_run_id") or not line.get("user_id")] == []


async def test_from_a_failed_call_one_reaches_trace_logs_and_page_from_each_other(scene: Scene) -> None:
    call = scene.calls["unreachable"]
    trace_id = call_trace_id(call.run)
    (root,) = (await complete(scene, "unreachable")).roots
    # From the trace to the page…
    page = await read_page(scene.installation, str(root.attributes["offhook.call_url"]))
    assert call.run in page
    # …from the page to trace and logs…
    links = [link.replace("&amp;", "&") for link in re.findall(r'href="([^"]+)"', page)]
    assert TRACES.replace("{trace_id}", trace_id) in links
    (logs,) = [link for link in links if link.startswith("https://logs.example/")]
    assert call.run in logs
    assert trace_id in logs
    # …and from the logs to both.
    (end,) = [
        line
        for line in scene.logs()[spans.TRACKER]
        if line["event"] == "call ended" and line["workflow_run_id"] == call.run
    ]
    assert (end["trace_id"], end["call_url"]) == (trace_id, root.attributes["offhook.call_url"])
    assert end["end_reason"] == "agent-unreachable"


async def test_a_trace_can_be_drawn(scene: Scene) -> None:
    """The documentation's pictures are made here: OFFHOOK_PICTURES=docs/images/traces."""
    titles = {
        "twilio outbound": "An outbound call, from the wish to the last word",
        "dies": "An inbound call whose agent dies, and the next one goes on",
    }
    for name, title in titles.items():
        trace = await complete(scene, name)
        picture = draw(trace, title)
        drawn = ElementTree.fromstring(picture)
        bars = [one for one in drawn.iter("{http://www.w3.org/2000/svg}rect") if one.get("height") == "12"]
        assert len(bars) == len(trace.spans)
        if folder := os.environ.get("OFFHOOK_PICTURES"):
            Path(folder).mkdir(parents=True, exist_ok=True)
            (Path(folder) / f"{name.replace(' ', '-')}.svg").write_text(picture)


async def test_a_span_that_is_exported_again_is_seen_once() -> None:
    request = ExportTraceServiceRequest()
    request.resource_spans.add().scope_spans.add().spans.add(trace_id=b"t" * 16, span_id=b"s" * 8)
    async with TraceStore() as store, httpx.AsyncClient(trust_env=False) as exporter:
        for _ in range(2):
            await exporter.post(f"{store.url}/v1/traces", content=request.SerializeToString())
        assert len(store.requests) == 2
        assert len(store.spans()) == 1


async def read_page(installation: Installation, url: str) -> str:
    """As a person does who follows a link and logs in."""
    trust = ssl.create_default_context(cafile=str(Path(installation.stack.address.ca_file)))
    async with httpx.AsyncClient(verify=trust, trust_env=False, follow_redirects=True, timeout=20) as browser:
        login = await browser.get(url, headers={"Accept": "text/html"})
        assert login.url.path == "/login"
        answer = await browser.post(
            str(login.url), data={"key": API_KEYS[DEMO_USER], "next": httpx.URL(url).path}
        )
        assert answer.status_code == 200, answer.text
        return answer.text
