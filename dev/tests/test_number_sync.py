"""Numbers stay as they should be at their providers: the real stack behind a tunnel, and both simulated carriers."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, Final

import pytest
import pytest_asyncio
from aiohttp import web
from installation import Installation, Json
from public_url import verifies_against

from carrier_sim import CarrierSim, HangUp, RestFault, Say, WaitForAgent
from carrier_sim.twilio.accounts import Number as TwilioNumber
from carrier_sim.vonage.applications import new_private_key
from offhook.identities import INBOUND_FALLBACK_PATH, INBOUND_PATH, status_path
from offhook_dev.edge import make_certificate
from offhook_dev.ports import free_port

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="session")]

OLD: Final = "https://their-old-server.example.com/voice"
ELSEWHERE: Final = "https://somebody-else.example.com/voice"
TALK: Final = (WaitForAgent(timeout_s=60), Say(0.8), WaitForAgent(timeout_s=60), HangUp())

CROWD: Final = 500
# Twice the service's own pace, for requests that were held up and come in one second with the next ones.
CROWD_LIMIT_PER_S: Final = 8.0
# At four requests a second 500 numbers take 125 s, and looking at them some more; in less than at five they are not done.
CROWD_PACE_PER_S: Final = 5.0
CROWD_WITHIN_S: Final = 600.0

# Intervals of seconds where an operator has minutes; the pace is the one everybody has.
PACE: Final = {
    "OFFHOOK_SYNC_INTERVAL_S": "2",
    "OFFHOOK_SYNC_RETRY_S": "0.3",
    "OFFHOOK_PROVIDER_TIMEOUT_S": "15",
    "OFFHOOK_PROVIDER_DEADLINE_S": "30",
}


class Tunnel:
    """What a Cloudflare tunnel tells at its metrics address."""

    def __init__(self) -> None:
        self.host = "first-of-its-names.trycloudflare.com"
        self.metrics_url = ""

    @property
    def url(self) -> str:
        return f"https://{self.host}"

    async def serve(self, opened: contextlib.AsyncExitStack) -> None:
        async def tell(_: web.Request) -> web.Response:
            return web.json_response({"hostname": self.host}, content_type="text/plain")

        app = web.Application()
        app.router.add_get("/quicktunnel", tell)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        opened.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.metrics_url = f"http://127.0.0.1:{runner.addresses[0][1]}"


@dataclass
class Held:
    """A number here, and the account it belongs to."""

    provider: str
    account: str
    configuration: str
    e164: str
    path: str = ""
    application: str = ""


@dataclass
class Town:
    """The installation behind its tunnel. Every test has accounts of its own, so that all keep their own pace."""

    installation: Installation
    tunnel: Tunnel
    workflow: str = ""
    crowd: "asyncio.Task[Held] | None" = None
    _serial: Any = field(default_factory=lambda: itertools.count(1))

    @property
    def sim(self) -> CarrierSim:
        return self.installation.sim

    # --- at the carriers

    def at_twilio(self, held: Held) -> TwilioNumber:
        found = self.sim.twilio.accounts[held.account].number(held.e164)
        assert found is not None
        return found

    def fault(self, held: Held, **fault: Any) -> RestFault:
        """From now on, for this account."""
        rule = RestFault(account=held.account, **fault)
        self.sim.rest_faults = (*self.sim.rest_faults, rule)
        return rule

    def mend(self, rule: RestFault) -> None:
        self.sim.rest_faults = tuple(each for each in self.sim.rest_faults if each is not rule)

    # --- what a user does

    async def account(self, provider: str = "twilio", **more: Any) -> Held:
        """An account with one number, which is set up for another server, and its configuration."""
        serial = next(self._serial)
        e164 = f"+1415557{serial:04d}"
        if provider == "twilio":
            account, application = f"AC{0xABC0000 + serial:032x}", ""
            keys = {"account_sid": account, "auth_token": f"not-a-real-auth-token-{serial:010d}"}
            self.sim.twilio.add_account(account, keys["auth_token"]).add_number(
                e164, voice_url=OLD, voice_method="GET", status_callback=OLD
            )
        else:
            account, application = f"key{serial:05d}", f"bbbbbbbb-0000-4000-8000-{serial:012d}"
            private_key = await asyncio.to_thread(new_private_key)
            keys = {"application_id": application, "api_key": account, "api_secret": "NotARealSecret1"}
            keys |= {"signature_secret": f"not-a-real-signature-secret-{serial:010d}"}
            self.sim.vonage.add_application(**keys, private_key=private_key, answer_url=OLD)
            self.sim.vonage.add_number(None, e164, api_key=account)
            keys |= {"private_key": private_key}
        made = await self.installation.demo.post(
            "/telephony-configurations",
            {"name": f"{provider} {serial}", "provider": provider, "credentials": keys, **more},
        )
        assert made["verification"]["state"] == "verified", made
        return Held(provider, account, str(made["configuration_id"]), e164, application=application)

    async def add(self, held: Held, *, workflow: bool = True) -> Held:
        path = f"/telephony-configurations/{held.configuration}/phone-numbers"
        body = {"number": held.e164, "workflow_id": self.workflow if workflow else None}
        made = await self.installation.demo.post(path, body)
        return Held(
            held.provider, held.account, held.configuration, held.e164,
            f"{path}/{made['number_id']}", held.application,
        )  # fmt: skip

    async def change(self, path: str, **body: Any) -> None:
        answer = await self.installation.demo.client.patch(path, json=body)
        assert answer.is_success, answer.text

    async def sync(self, held: Held) -> Json:
        answer = await self.installation.demo.client.get(held.path)
        assert answer.status_code == 200, answer.text
        told: Json = answer.json()["sync"]
        return told

    async def until(self, held: Held, holds: Callable[[Json], bool], within_s: float = 120.0) -> Json:
        """What is told of the number once it `holds`. Raises `AssertionError` with what there is."""
        told: Json = {}
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while not holds(told := await self.sync(held)):
                    await asyncio.sleep(0.2)
                return told
        raise AssertionError(f"{held.e164} never came to what was expected: {told}")

    async def synced(self, held: Held) -> Json:
        return await self.until(held, lambda told: told["state"] == "synced" and told["reason"] is None)

    async def compared_again(self, held: Held) -> Json:
        """After the next comparison that began from now on."""
        before = (await self.sync(held))["compared_at"]
        first = await self.until(held, lambda told: told["compared_at"] != before)
        return await self.until(held, lambda told: told["compared_at"] != first["compared_at"])


def is_ours(number: TwilioNumber, url: str) -> bool:
    """Whether a Twilio number is set up for calls to come to `url`."""
    addresses = [setting.split("#")[0] for setting in (number.voice_url, number.voice_fallback_url)]
    return (
        addresses == [url + INBOUND_PATH, url + INBOUND_FALLBACK_PATH]
        and number.status_callback.split("#")[0] == url + status_path()
        and {number.voice_method, number.voice_fallback_method, number.status_callback_method} == {"POST"}
    )


async def eventually(holds: Callable[[], bool], within_s: float = 120.0) -> None:
    async with asyncio.timeout(within_s):
        while not holds():
            await asyncio.sleep(0.1)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def town(_kafka_can_be_had: None, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Town]:
    """A running stack that is reached through a tunnel; the crowd's numbers begin to be set at once."""
    home = tmp_path_factory.mktemp("numbers")
    async with contextlib.AsyncExitStack() as opened:
        tunnel = Tunnel()
        await tunnel.serve(opened)
        port = free_port()
        carriers = dict.fromkeys(
            ("OFFHOOK_TWILIO_API_URL", "OFFHOOK_VONAGE_API_URL"), f"https://127.0.0.1:{port}"
        )
        followed = {"OFFHOOK_PUBLIC_URL": "", "OFFHOOK_TUNNEL_METRICS_URL": tunnel.metrics_url}
        installation = Installation(home, service_env={"number-sync": {**PACE, **carriers, **followed}})
        # The carriers answer number-sync themselves here, and find the tunnel's names at this machine's edge.
        installation.sim.config.port = port
        installation.sim.config.resolve = Edge(installation)
        make_certificate(home / "stack", "*.trycloudflare.com")
        running = Town(await opened.enter_async_context(installation), tunnel)
        running.workflow = await installation.workflow()
        running.crowd = asyncio.create_task(gather_the_crowd(running))
        installation._keep(running.crowd)
        yield running


class Edge(dict[str, str]):
    """Every name of a tunnel is this machine's."""

    def __init__(self, installation: Installation) -> None:
        super().__init__()
        self._installation = installation

    def get(self, host: str, default: Any = None) -> Any:
        port = self._installation.origin.rpartition(":")[2]
        return f"127.0.0.1:{port}" if host.endswith(".trycloudflare.com") else default


async def gather_the_crowd(town: Town) -> Held:
    """An account with 500 numbers and a limit of requests in a second, all to be set."""
    held = await town.account()
    town.sim.limit_requests(held.account, CROWD_LIMIT_PER_S)
    numbers = [f"+1212556{number:04d}" for number in range(CROWD - 1)]
    for number in numbers:
        town.sim.twilio.accounts[held.account].add_number(number, voice_url=OLD)
    path = f"/telephony-configurations/{held.configuration}/phone-numbers/import"
    body = {"numbers": [held.e164, *numbers], "workflow_id": town.workflow}
    answer = await town.installation.demo.client.post(path, json=body)
    assert answer.is_success, answer.text
    assert (len(answer.json()["imported"]), answer.json()["refused"]) == (CROWD, [])
    return held


@pytest.mark.parametrize("provider", ["twilio", "vonage"])
async def test_a_number_that_is_added_is_set_up_and_its_calls_are_answered(town: Town, provider: str) -> None:
    held = await town.account(provider)
    if provider == "vonage":
        application = town.sim.vonage.applications[held.application]
        application.resource |= {"name": "Theirs", "privacy": {"improve_ai": False}}
        application.resource["capabilities"]["voice"]["region"] = "eu-west"
    held = await town.add(held)
    told = await town.synced(held)
    assert told["differs"] == []
    assert told["pushed_at"] is not None
    if provider == "twilio":
        assert is_ours(town.at_twilio(held), town.tunnel.url)
        assert "VoiceUrl" in told["compared"]
        assert "rc=2" in town.at_twilio(held).voice_url.partition("#")[2]
    else:
        resource = application.resource
        assert town.sim.vonage.numbers[held.e164.lstrip("+")].app_id == held.application
        found = {
            name: application.webhook(name) for name in ("answer_url", "fallback_answer_url", "event_url")
        }
        assert {name: (hook.address, hook.method) for name, hook in found.items() if hook} == {
            "answer_url": (town.tunnel.url + INBOUND_PATH, "POST"),
            "fallback_answer_url": (town.tunnel.url + INBOUND_FALLBACK_PATH, "POST"),
            "event_url": (town.tunnel.url + status_path(), "POST"),
        }
        assert resource["capabilities"]["voice"]["signed_callbacks"] is True
        assert resource["capabilities"]["voice"]["region"] == "eu-west"
        assert (resource["name"], resource["privacy"]) == ("Theirs", {"improve_ai": False})
    await town.installation.known()
    finished = await town.installation.call(provider, held.e164, *TALK)
    assert finished.objections == []
    assert finished.record["status"] == "completed"
    assert finished.report.agent_audio_ms > 500


async def test_what_somebody_changes_is_shown_as_drift_and_repaired(town: Town) -> None:
    held = await town.add(await town.account())
    await town.synced(held)
    town.at_twilio(held).change(voice_url=ELSEWHERE, voice_method="GET")
    told = await town.until(held, lambda told: bool(told["last_drift"] and told["last_drift"]["repaired"]))
    assert told["state"] == "synced"
    assert {each["setting"]: each["found"] for each in told["last_drift"]["differs"]} == {
        "VoiceUrl": ELSEWHERE,
        "VoiceMethod": "GET",
    }
    assert is_ours(town.at_twilio(held), town.tunnel.url)


async def test_with_repairs_off_drift_is_only_shown_until_they_are_on(town: Town) -> None:
    held = await town.add(await town.account(repair_drift=False))
    await town.synced(held)
    town.at_twilio(held).change(voice_url=ELSEWHERE)
    told = await town.until(held, lambda told: told["state"] == "drifted")
    assert [(each["setting"], each["found"]) for each in told["differs"]] == [("VoiceUrl", ELSEWHERE)]
    assert "VoiceUrl" in told["sentence"]
    assert told["remedy"]
    told = await town.compared_again(held)
    assert (told["state"], town.at_twilio(held).voice_url) == ("drifted", ELSEWHERE)
    await town.change(f"/telephony-configurations/{held.configuration}", repair_drift=True)
    await town.synced(held)
    assert is_ours(town.at_twilio(held), town.tunnel.url)


async def test_a_cleared_number_is_as_it_was_before(town: Town) -> None:
    held = await town.add(await town.account())
    await town.synced(held)
    await town.change(held.path, workflow_id=None)
    told = await town.until(held, lambda told: told["state"] == "detached")
    assert told["reason"] == "no-workflow"
    number = town.at_twilio(held)
    assert (number.voice_url, number.voice_method, number.status_callback) == (OLD, "GET", OLD)
    assert number.voice_fallback_url == ""


async def test_clearing_a_number_leaves_alone_what_somebody_else_has_set(town: Town) -> None:
    held = await town.add(await town.account(repair_drift=False))
    await town.synced(held)
    town.at_twilio(held).change(voice_url=ELSEWHERE)
    await town.until(held, lambda told: told["state"] == "drifted")
    await town.change(held.path, active=False)
    told = await town.until(held, lambda told: told["state"] == "detached")
    assert told["reason"] == "inactive"
    number = town.at_twilio(held)
    assert (number.voice_url, number.status_callback) == (ELSEWHERE, OLD)


async def test_a_label_reaches_nobody_at_the_provider(town: Town) -> None:
    held = await town.add(await town.account())
    await town.synced(held)
    pushes = [r for r in town.sim.rest_log.requests(held.account) if r.method == "POST"]
    await town.change(held.path, label="Front desk", default_caller_id=True)
    await town.compared_again(held)
    assert [r for r in town.sim.rest_log.requests(held.account) if r.method == "POST"] == pushes


# --- what a provider may do instead of its work ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Trouble:
    """What the REST API does, and what is told of the number then: the documented code, and a word of its sentence."""

    name: str
    provider: str
    fault: Json
    reason: str
    word: str

    def __str__(self) -> str:
        return f"{self.provider}, {self.name}"


TROUBLES: Final = (
    Trouble("401", "twilio", {"status": 401}, "credentials-refused", "credentials"),
    Trouble("404", "twilio", {"status": 404}, "credentials-refused", "answered 404"),
    Trouble("404 of a number", "twilio", {"status": 404, "method": "POST"}, "number-not-owned", "not in this"),
    Trouble("429", "twilio", {"status": 429, "retry_after": 1}, "rate-limited", "fewer requests"),
    Trouble("500", "twilio", {"status": 500}, "provider-unavailable", "Twilio"),
    Trouble("503", "twilio", {"status": 503}, "provider-unavailable", "Twilio"),
    Trouble("a web page", "twilio", {"do": "html"}, "answer-unreadable", "cannot be Twilio's answer"),
    Trouble("half an answer", "twilio", {"do": "truncated"}, "answer-unreadable", "cannot be Twilio's"),
    Trouble("another shape", "twilio", {"do": "wrong-shape"}, "answer-unreadable", "cannot be Twilio's"),
    Trouble("no end", "twilio", {"do": "huge"}, "no-answer", "more than"),
    Trouble("nothing", "twilio", {"do": "silence"}, "no-answer", "Twilio"),
    Trouble("a cut", "twilio", {"do": "cut"}, "no-answer", "Twilio"),
    Trouble("refused settings", "twilio", {"status": 400, "code": 21402, "method": "POST"}, "rejected", "refuses the setting"),
    Trouble("401", "vonage", {"status": 401}, "credentials-refused", "credentials"),
    Trouble("no application", "vonage", {"status": 404, "path": "/v2/*"}, "application-not-found", "application"),
    Trouble("429", "vonage", {"status": 429, "retry_after": 1}, "rate-limited", "fewer requests"),
    Trouble("500", "vonage", {"status": 500}, "provider-unavailable", "Vonage"),
    Trouble("another shape", "vonage", {"do": "wrong-shape"}, "answer-unreadable", "cannot be Vonage's"),
    Trouble("nothing", "vonage", {"do": "silence"}, "no-answer", "Vonage"),
)  # fmt: skip


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def troubled(town: Town) -> dict[str, tuple[Held, RestFault]]:
    """A number for each trouble; all are in trouble side by side."""

    async def begin(trouble: Trouble) -> tuple[Held, RestFault]:
        held = await town.account(trouble.provider)
        rule = town.fault(held, **trouble.fault)
        return await town.add(held), rule

    return {str(trouble): await begin(trouble) for trouble in TROUBLES}


@pytest.mark.parametrize("trouble", TROUBLES, ids=str)
async def test_every_trouble_has_its_state_and_sentence_and_passes(
    town: Town, troubled: dict[str, tuple[Held, RestFault]], trouble: Trouble
) -> None:
    held, rule = troubled[str(trouble)]
    told = await town.until(held, lambda told: told["state"] == "failed")
    assert told["reason"] == trouble.reason
    assert trouble.word in told["sentence"]
    assert told["remedy"]
    assert told["next_at"] is not None
    town.mend(rule)
    await town.synced(held)


async def test_retry_after_is_waited_for(town: Town) -> None:
    held = await town.account()
    rule = town.fault(held, status=429, retry_after=4)
    began = len(town.sim.rest_log.requests(held.account))
    held = await town.add(held)
    await eventually(lambda: len(town.sim.rest_log.requests(held.account)) >= began + 3)
    at = [request.at for request in town.sim.rest_log.requests(held.account)[began:]]
    assert min(later - earlier for earlier, later in itertools.pairwise(at)) >= 4
    town.mend(rule)
    await town.synced(held)


async def test_a_suspended_account_is_told_as_such(town: Town) -> None:
    held = await town.account()
    town.sim.twilio.accounts[held.account].status = "suspended"
    held = await town.add(held)
    told = await town.until(held, lambda told: told["state"] == "failed")
    assert told["reason"] == "account-suspended"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"voice_application_sid": "AP" + "0" * 32}, "governed-by-application"),
        ({"trunk_sid": "TK" + "0" * 32}, "governed-by-trunk"),
        ({"voice": False}, "no-voice"),
    ],
)
async def test_what_overrules_the_number_is_named(town: Town, change: Json, reason: str) -> None:
    held = await town.account()
    town.at_twilio(held).change(**change)
    held = await town.add(held)
    told = await town.until(held, lambda told: told["state"] == "failed")
    assert told["reason"] == reason
    assert town.at_twilio(held).voice_url == OLD


async def test_a_number_of_nobody_is_not_in_the_account(town: Town) -> None:
    held = await town.account()
    town.sim.twilio.accounts[held.account].numbers.clear()
    held = await town.add(held)
    told = await town.until(held, lambda told: told["state"] == "failed")
    assert told["reason"] == "number-not-owned"


async def test_a_configuration_is_deleted_at_once_though_the_provider_says_nothing(town: Town) -> None:
    held = await town.add(await town.account())
    await town.synced(held)
    rule = town.fault(held, do="silence")
    path = f"/telephony-configurations/{held.configuration}"
    asked = town.sim.rest_log.count(held.account)
    # Less than the provider is waited for.
    answer = await town.installation.demo.client.delete(path, params={"numbers": "detach"}, timeout=14)
    assert answer.status_code == 204
    assert (await town.installation.demo.client.get(path)).status_code == 404
    # A request that nobody answers is in the log when it was given up, after tens of seconds; it may be the second one.
    await eventually(lambda: town.sim.rest_log.count(held.account) > asked)
    assert is_ours(town.at_twilio(held), town.tunnel.url), "nothing was let go yet"
    town.mend(rule)
    await eventually(lambda: town.at_twilio(held).voice_url == OLD)


# --- from here on, what concerns all numbers ------------------------------------------------------------------------------


@pytest.mark.timeout(CROWD_WITHIN_S + 100)
async def test_hundreds_of_numbers_converge_within_what_their_account_may_ask(town: Town) -> None:
    assert town.crowd is not None
    held = await town.crowd
    path = f"/telephony-configurations/{held.configuration}"
    counts: Json = {}
    async with asyncio.timeout(CROWD_WITHIN_S):
        while counts.get("synced") != CROWD:
            await asyncio.sleep(1)
            counts = (await town.installation.demo.client.get(path)).json()["numbers"]
    numbers = town.sim.twilio.accounts[held.account].numbers.values()
    assert [number.phone_number for number in numbers if not is_ours(number, town.tunnel.url)] == []
    assert town.sim.rest_log.refused(held.account) <= 5
    pushes = [r for r in town.sim.rest_log.requests(held.account) if r.method == "POST" and r.status == 200]
    assert len(pushes) == CROWD, "each was set once"
    assert pushes[-1].at - pushes[0].at > CROWD / CROWD_PACE_PER_S
    # What follows shall not wait for them again.
    answer = await town.installation.demo.client.delete(path, params={"numbers": "leave"}, timeout=60)
    assert answer.status_code == 204
    assert is_ours(next(iter(numbers)), town.tunnel.url)


async def test_a_kill_between_push_and_commit_leaves_nothing_wrong(town: Town) -> None:
    held = await town.account()
    rule = town.fault(held, do="silence", work=True, method="POST")
    held = await town.add(held)
    await eventually(lambda: is_ours(town.at_twilio(held), town.tunnel.url))
    number_sync = town.installation.stack.programs["number-sync"]
    number_sync.kill()
    town.mend(rule)
    await number_sync.start()
    told = await town.synced(held)
    assert told["differs"] == []
    await town.change(held.path, workflow_id=None)
    await town.until(held, lambda told: told["state"] == "detached")
    assert town.at_twilio(held).voice_url == OLD, "what was there before is still known"


async def test_a_new_name_of_the_tunnel_reaches_every_number_and_calls_come_in_under_it(town: Town) -> None:
    held = {provider: await town.add(await town.account(provider)) for provider in ("twilio", "vonage")}
    for each in held.values():
        await town.synced(each)
    town.tunnel.host = "second-of-its-names.trycloudflare.com"

    def answer_url() -> str:
        webhook = town.sim.vonage.applications[held["vonage"].application].webhook("answer_url")
        assert webhook is not None
        return webhook.address

    await eventually(
        lambda: (
            is_ours(town.at_twilio(held["twilio"]), town.tunnel.url)
            and answer_url() == town.tunnel.url + INBOUND_PATH
        )
    )
    await town.installation.known()
    await verifies_against(town.installation, town.tunnel.url)
    for provider, each in held.items():
        await town.synced(each)
        finished = await town.installation.call(provider, each.e164, *TALK)
        assert finished.objections == []
        assert finished.record["status"] == "completed"
        assert {callback.url.split("/")[2] for callback in finished.report.callbacks} == {town.tunnel.host}
    await town.change(held["twilio"].path, workflow_id=None)
    await town.until(held["twilio"], lambda told: told["state"] == "detached")
    assert town.at_twilio(held["twilio"]).voice_url == OLD, "both names were ours"
