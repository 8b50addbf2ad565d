"""Call control as the agent's code sees it, without sockets: what the bridge says is handed to the call."""

import asyncio
from typing import Any

import pytest

from offhook.agentlink import pcm as protocol
from offhook_agent import Call, CallEnded, Consultation, RequestRefused


class Talk:
    """A call and the bridge's side of it. `said` is what the agent sent."""

    def __init__(self, **start: Any) -> None:
        self.bridge = protocol.PcmBridgeSide(16000)
        self.said: list[Any] = []
        side = protocol.PcmAgentSide()
        facts: dict[str, Any] = {
            "workflow_run_id": "r1", "workflow_id": "w1", "user_id": "u1", "provider": "twilio",
            "provider_call_id": "CA1", "direction": "inbound", "audio": protocol.AudioFormat(16000), **start,
        }  # fmt: skip
        started = side.receive(self.bridge.start(protocol.Start(**facts)))
        assert isinstance(started, protocol.Start)
        self.call = Call(side, started, self._send)

    async def _send(self, message: bytes | str) -> None:
        self.said.append(protocol.PcmBridgeSide(16000).receive(message))

    async def asked(self, count: int) -> None:
        async with asyncio.timeout(5):
            while len(self.said) < count:
                await asyncio.sleep(0)


async def test_a_second_transfer_is_refused_and_the_first_goes_on_waiting() -> None:
    talk = Talk()
    first = asyncio.ensure_future(talk.call.transfer("+14155550001"))
    second = asyncio.ensure_future(talk.call.transfer("+14155550002", "warm"))
    await talk.asked(2)
    talk.call.receive(talk.bridge.error("transfer-pending", "wait"))
    with pytest.raises(RequestRefused) as refused:
        await second
    assert refused.value.code == "transfer-pending"
    talk.call.receive(talk.bridge.transfer("unsupported"))
    assert await first == "unsupported"
    assert talk.said == [
        protocol.TransferRequest("+14155550001", "cold"),
        protocol.TransferRequest("+14155550002", "warm"),
    ]


async def test_a_transfer_that_takes_the_caller_away_ends_the_call() -> None:
    talk = Talk()
    waiting = asyncio.ensure_future(talk.call.transfer("+14155550001"))
    await talk.asked(1)
    talk.call.receive(talk.bridge.stop("transfer"))
    with pytest.raises(CallEnded, match="transfer"):
        await waiting


async def test_results_are_told_to_who_asked_early_and_to_who_asks_late() -> None:
    talk, told = Talk(), []
    talk.call.on_answered_by(told.append)
    talk.call.on_transfer(told.append)
    talk.call.receive(talk.bridge.answered_by("machine"))
    talk.call.receive(talk.bridge.transfer("busy"))
    assert told == ["machine", "busy"]
    talk.call.on_answered_by(told.append)
    talk.call.on_transfer(told.append)
    assert told == ["machine", "busy", "machine", "busy"]
    assert (talk.call.answered_by, talk.call.transferred) == ("machine", "busy")


def test_the_end_of_a_machines_greeting_is_news_of_its_own() -> None:
    talk, who, ends, late = Talk(), list[str](), list[str](), list[str]()
    talk.call.on_answered_by(who.append)
    talk.call.on_message_end(ends.append)
    talk.call.receive(talk.bridge.answered_by("machine"))
    assert (who, ends) == (["machine"], [])
    talk.call.receive(talk.bridge.answered_by("machine", "beep"))
    talk.call.on_message_end(late.append)
    assert (who, ends, late) == (["machine"], ["beep"], ["beep"])


def test_an_agent_learns_why_keys_were_not_pressed_and_why_a_transfer_was_not_begun() -> None:
    talk, told = Talk(), list[str]()
    talk.call.on_digits_failed(told.append)
    talk.call.receive(talk.bridge.digits_failed("rejected"))
    talk.call.receive(talk.bridge.transfer("failed", "limit-reached"))
    assert (told, talk.call.transferred, talk.call.transfer_reason) == (
        ["rejected"],
        "failed",
        "limit-reached",
    )


async def test_a_consultation_is_known_by_its_metadata_and_can_be_joined() -> None:
    told = {"transfer": {"of": "r0", "from": "+14155550009", "mode": "warm"}}
    talk = Talk(direction="outbound", metadata=told)
    assert talk.call.consultation == Consultation("r0", "+14155550009")
    await talk.call.join()
    await talk.call.send_digits("12w#")
    assert talk.said == [protocol.TransferRequest(mode="join"), protocol.DtmfRequest("12w#")]
    assert Talk(metadata=told).call.consultation is None
    assert Talk(direction="outbound", metadata={"transfer": "to sales"}).call.consultation is None
