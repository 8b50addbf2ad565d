"""The gateway with a real Redis, and what becomes of it when Redis goes."""

import pytest

from offhook.providers.base import HttpRequest
from webhook_gateway.policy import CallMarks
from webhook_gateway.shared_state import SharedState, Use, digest

CALL = ("twilio", "AC1", "CA1")


class Time:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def state(redis_url):
    made = SharedState(redis_url, timeout_s=5, clock=Time())
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def redis(state):
    return state._redis


def request(**changes):
    whole = {"method": "POST", "origins": (), "path": "/p", "query": "a=1", "headers": {}, "body": b"x"}
    return HttpRequest(**{**whole, **changes})


def test_the_digest_tells_method_path_query_and_body_apart():
    variants = [{}, {"method": "GET"}, {"path": "/q"}, {"query": "a=2"}, {"body": b"y"}]
    assert len({digest(request(**each)) for each in variants}) == 5
    assert digest(request()) == digest(request(headers={"date": "now"}, origins=("https://x",)))


async def test_a_token_used_again_for_the_same_request_is_a_retry_for_a_minute(state):
    state._clock = clock = Time()
    assert await state.use_token("vonage", "j1", "d1") is Use.FIRST
    clock.now += 59
    assert await state.use_token("vonage", "j1", "d1") is Use.RETRY
    clock.now += 2
    assert await state.use_token("vonage", "j1", "d1") is Use.REPLAY


async def test_a_token_used_again_for_another_request_is_a_replay(state):
    assert await state.use_token("vonage", "j1", "d1") is Use.FIRST
    assert await state.use_token("vonage", "j1", "d2") is Use.REPLAY
    assert await state.use_token("vonage", "j2", "d2") is Use.FIRST
    assert await state.use_token("vonage", "x" * 5000, "d1") is Use.FIRST
    assert await state.use_token("vonage", "x" * 5000, "d2") is Use.REPLAY


async def test_marks_of_a_call_are_seen_and_its_connects_counted(state, redis):
    assert await state.marks("r1", CALL, own=False) == CallMarks(connects=1)
    await redis.set("offhook:ended:r1", "1")
    await redis.set("offhook:fallback:r1", "no-agent")
    await state.mark_over(CALL)
    assert await state.marks("r1", CALL, own=False) == CallMarks(True, True, True, False, connects=2)
    assert await state.marks("r2", ("twilio", "AC1", "CA2"), own=False) == CallMarks(connects=1)


async def test_the_first_call_that_comes_for_a_run_owns_it(state):
    other = ("twilio", "AC2", "CA9")
    assert not (await state.marks("r1", CALL, own=False)).foreign
    assert (await state.marks("r1", other, own=False)).foreign
    assert not (await state.marks("r1", CALL, own=False)).foreign
    assert not (await state.marks("r1", other, own=True)).foreign


async def test_a_dialled_run_belongs_to_the_account_that_dialled_even_before_its_first_webhook(state, redis):
    await redis.hset("offhook:call:r1", mapping={"provider": CALL[0], "account": CALL[1]})
    assert (await state.marks("r1", (CALL[0], "AC-other", "CA9"), own=False)).foreign
    assert (await state.marks("r1", ("vonage", CALL[1], "CA9"), own=False)).foreign
    assert not (await state.marks("r1", CALL, own=False)).foreign


async def test_a_call_that_does_not_own_the_run_leaves_no_trace_there(state, redis):
    await state.marks("r1", CALL, own=True)
    stranger = {"direction": "outbound", "from": "+15559999999", "to": "+15558888888"}
    for _ in range(20):
        assert (await state.marks("r1", ("twilio", "AC2", "CA9"), own=False, party=stranger)).foreign
    assert await redis.hgetall("offhook:call:r1") == {}
    assert (await state.marks("r1", CALL, own=True)).connects == 2


async def test_who_speaks_with_whom_is_left_for_the_bridge_once(state, redis):
    party = {"direction": "inbound", "from": "+15550002222", "to": "+15550001111"}
    await state.marks("r1", CALL, own=False, party=party)
    assert await redis.hgetall("offhook:call:r1") == party
    await state.marks("r1", ("twilio", "AC2", "CA9"), own=False, party={**party, "from": "somebody else"})
    await state.marks("r1", CALL, own=False)
    assert await redis.hgetall("offhook:call:r1") == party


async def test_everything_remembered_is_forgotten_some_time(state, redis):
    await state.use_token("vonage", "j1", "d1")
    await state.marks("r1", CALL, own=False, party={"direction": "inbound", "from": "a", "to": "b"})
    await state.mark_over(CALL)
    keys = await redis.keys("offhook:*")
    assert len(keys) == 5
    for key in keys:
        assert 0 < await redis.ttl(key) <= 24 * 3600


async def test_without_redis_nothing_is_marked_connects_are_counted_here_and_the_problem_is_said():
    state = SharedState("redis://127.0.0.1:1/0")
    await state.start()
    try:
        assert state.problem is not None
        assert await state.use_token("vonage", "j1", "d1") is Use.FIRST
        assert await state.use_token("vonage", "j1", "d2") is Use.FIRST
        assert [await state.marks("r1", CALL, own=False) for _ in range(3)] == [
            CallMarks(connects=1),
            CallMarks(connects=2),
            CallMarks(connects=3),
        ]
        await state.mark_over(CALL)
    finally:
        await state.stop()


async def test_local_counters_begin_anew_with_each_window_and_are_bounded():
    clock = Time()
    state = SharedState("redis://127.0.0.1:1/0", window_s=60, monotonic=clock)
    assert [state._count_locally("r1") for _ in range(2)] == [1, 2]
    clock.now += 60
    assert state._count_locally("r1") == 1
    for each in range(11_000):
        state._count_locally(f"other-{each}")
    assert len(state._local) == 10_000
    await state.stop()


# -- the whole gateway -----------------------------------------------------------------------------------


@pytest.fixture
async def rig(start_rig, redis_url):
    async with start_rig(redis_url) as started:
        yield started


@pytest.fixture
async def marks(rig, redis_url):
    from redis.asyncio import Redis

    client = Redis.from_url(redis_url)
    yield client
    await client.aclose()


async def test_a_call_that_was_ended_on_purpose_is_hung_up_on(rig, marks):
    await marks.set(f"offhook:ended:{rig.twilio_run}", "1")
    assert rig.said(await rig.twilio(rig.webhook(rig.twilio_run) + "?connect=2")) == ""
    assert rig.said(await rig.twilio(rig.fallback)) == ""
    (first, _) = rig.events("call.instructions-served.v1")
    assert (first.data.kind, first.data.reason) == ("hangup", "ended")


async def test_the_bridge_is_told_who_calls_whom(rig, marks):
    await rig.twilio()
    assert await marks.hgetall(f"offhook:call:{rig.twilio_run}") == {
        b"direction": b"inbound",
        b"from": rig.caller.encode(),
        b"to": rig.number.encode(),
        b"configuration": b"c1",
    }
    await rig.vonage(rig.webhook("run-7"))
    assert (await marks.hgetall("offhook:call:run-7"))[b"direction"] == b"outbound"


async def test_a_call_without_an_agent_hears_the_workflows_fallback_words(rig, marks):
    await marks.set("offhook:fallback:run-1", "1")
    answer = await rig.twilio(rig.webhook() + "?connect=2", Direction="outbound-api")
    assert rig.said(answer) == rig.words


@pytest.mark.parametrize(("mark", "said"), [("ended", ""), ("fallback", "Niemand da.")])
async def test_marks_also_hold_for_a_vonage_socket_that_was_lost(rig, marks, mark, said):
    connected = rig.vonage_connect(await rig.vonage())
    await marks.set(f"offhook:{mark}:{rig.vonage_run}", "1")
    event = {"uuid": "b", "to": "wss://x", "conversation_uuid": "CON-1", "status": "disconnected"}
    assert rig.said(await rig.vonage(connected.status_path, event)) == said


async def test_a_call_the_provider_has_ended_gets_no_more_instructions_to_connect(rig):
    rig.twilio_connect(await rig.twilio())
    await rig.twilio(rig.status(), CallStatus="completed", SequenceNumber="0")
    assert rig.said(await rig.twilio()) == ""  # somebody repeats the signed webhook
    assert rig.events("call.instructions-served.v1")[-1].data.reason == "call-over"


async def test_the_end_of_the_media_leg_is_not_the_end_of_the_call(rig):
    connected = rig.vonage_connect(await rig.vonage())
    event = {"uuid": "b", "to": "wss://x", "conversation_uuid": "CON-1", "status": "completed"}
    assert (await rig.vonage(connected.status_path, event)).status_code == 204
    rig.vonage_connect(await rig.vonage(rig.webhook(rig.vonage_run)))


async def test_a_call_that_reconnects_too_often_hears_the_fallback_words(start_rig, redis_url):
    async with start_rig(redis_url, reconnect_limit=2) as rig:
        connected = rig.twilio_connect(await rig.twilio())
        connected = rig.twilio_connect(await rig.twilio(connected.continue_path))
        assert rig.said(await rig.twilio(connected.continue_path)) == rig.words
        assert rig.events("call.instructions-served.v1")[-1].data.reason == "reconnect-limit"


async def test_a_call_that_reconnects_too_often_hears_the_fallback_words_without_redis(start_rig):
    async with start_rig(reconnect_limit=1) as rig:
        connected = rig.twilio_connect(await rig.twilio())
        assert rig.said(await rig.twilio(connected.continue_path)) == rig.words


async def test_a_run_that_was_given_to_one_call_is_refused_to_another(rig):
    rig.twilio_connect(await rig.twilio(rig.webhook(), Direction="outbound-api"))
    other = await rig.twilio(rig.webhook(), Direction="outbound-api", CallSid="CA" + "9" * 32)
    assert rig.said(other) == rig.words
    assert len(rig.events()) == 1


async def test_another_tenants_call_cannot_take_over_an_inbound_call(rig):
    rig.twilio_connect(await rig.twilio())
    told = len(rig.events())
    stranger = {"AccountSid": rig.other_sid, "CallSid": "CA" + "9" * 32, "Direction": "outbound-api"}
    path = rig.webhook(rig.twilio_run, "w2", "u2")
    assert rig.said(await rig.twilio(path, token=rig.other_token, **stranger)) == rig.words
    assert len(rig.events()) == told
    rig.twilio_connect(await rig.twilio(rig.webhook(rig.twilio_run) + "?connect=2"))


@pytest.mark.parametrize("path", ["inbound", "status"])
async def test_a_signed_token_is_good_for_one_request_and_its_retries(rig, path):
    fields = {"from": "447700900000", "to": "442079460000", "uuid": rig.uuid, "status": "ringing"}
    target = rig.inbound if path == "inbound" else rig.status("run-1")
    token = rig.vonage_token(
        b'{"from":"447700900000","to":"442079460000","uuid":"' + rig.uuid.encode() + b'","status":"ringing"}'
    )
    first = await rig.vonage(target, fields, token=token)
    again = await rig.vonage(target, fields, token=token)
    assert first.status_code == again.status_code < 300
    if path == "inbound":
        nonces = {rig.vonage_connect(each).token.split(".")[3] for each in (first, again)}
        assert len(nonces) == 1
    told = len(rig.events())
    elsewhere = await rig.vonage(rig.status("run-2"), fields, token=token)
    assert elsewhere.status_code == 403
    assert len(rig.events()) == told
    audits = await rig.audits(3)
    assert [audit.repeated for audit in audits] == [False, True, False]
    assert (audits[2].verified, audits[2].reason) == (False, "replayed")


async def test_calls_go_on_when_redis_dies(rig, redis_server):
    redis_server.stop_now()
    rig.twilio_connect(await rig.twilio())
    connected = rig.vonage_connect(await rig.vonage())
    assert connected.token
    assert (await rig.vonage(rig.status("r"), {"uuid": rig.uuid, "status": "completed"})).status_code == 204
    ready = await rig.http.get(rig.url("/readyz"))
    assert ready.status_code == 200
    assert any("Redis" in problem for problem in ready.json()["degraded"])
