"""What may be dialled as an agent: names by the operator's patterns, addresses by what they are."""

import asyncio
import socket
from typing import Any

import pytest

from offhook.agent_hosts import AgentHostError, AgentHosts


def allowed(hosts: AgentHosts, host: str) -> bool:
    try:
        hosts.check(host)
    except AgentHostError:
        return False
    return True


@pytest.mark.parametrize(
    "host",
    [
        "169.254.169.254", "169.254.0.1", "fe80::1", "fd00:ec2::254", "100.100.100.200", "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe", "224.0.0.1",
    ],
)  # fmt: skip
def test_link_local_and_metadata_addresses_are_no_agents_whatever_is_allowed(host: str) -> None:
    assert not allowed(AgentHosts(), host)
    assert not allowed(AgentHosts(host if ":" in host else f"{host},other"), host)


def test_without_patterns_any_other_host_may_be_an_agent() -> None:
    for host in ("agent.example.com", "localhost", "127.0.0.1", "::1", "10.0.0.7", "agent"):
        assert allowed(AgentHosts(), host)


def test_patterns_are_names_and_what_is_below_them_and_nothing_that_only_looks_like_it() -> None:
    hosts = AgentHosts("*.agents.svc, Agent.Example.com,10.0.0.7")
    for host in ("a.agents.svc", "a.b.agents.svc", "AGENT.example.com", "agent.example.com.", "10.0.0.7"):
        assert allowed(hosts, host)
    for host in (
        "agents.svc",
        "evil-agents.svc",
        "agent.example.com.evil.net",
        "example.com",
        "10.0.0.70",
        "localhost",
    ):
        assert not allowed(hosts, host)


@pytest.mark.parametrize(
    "patterns", ["*", "*.*.svc", "https://agent.example.com", "agent..com", "a b", "agent:80"]
)
def test_what_is_no_pattern_is_refused(patterns: str) -> None:
    with pytest.raises(ValueError, match="expected names such as"):
        AgentHosts(patterns)


async def test_the_address_that_was_judged_is_the_one_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    asked = 0

    async def answers(self: object, host: str, port: int, **_: Any) -> list[Any]:
        nonlocal asked
        asked += 1
        # The second answer would be the cloud's.
        address = "127.0.0.1" if asked == 1 else "169.254.169.254"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(type(asyncio.get_running_loop()), "getaddrinfo", answers)
    with await AgentHosts("agent.example.com").connect("agent.example.com", port) as made:
        assert made.getpeername() == ("127.0.0.1", port)
    assert asked == 1
    with pytest.raises(AgentHostError, match=r"agent\.example\.com leads to 169\.254\.169\.254"):
        await AgentHosts("agent.example.com").connect("agent.example.com", port)
    server.close()


async def test_other_spellings_of_an_address_are_judged_as_what_they_lead_to() -> None:
    for host in ("2852039166", "0xa9fea9fe", "169.254.43518"):
        with pytest.raises(AgentHostError, match=r"169\.254\.169\.254"):
            await AgentHosts().connect(host, 80)


@pytest.mark.parametrize(
    "address",
    ["fd20:ce::254", "168.63.129.16", "64:ff9b:1::a9fe:a9fe", "::a9fe:a9fe", "::ffff:169.254.169.254"],
)
def test_no_way_of_writing_it_leads_to_a_metadata_address(address: str) -> None:
    with pytest.raises(AgentHostError, match="never"):
        AgentHosts().check(address)


def test_an_address_is_the_same_however_it_is_written() -> None:
    hosts = AgentHosts("[fd00::1], agent.example.com")
    hosts.check("FD00:0::1")
    hosts.check("Agent.example.com.")
    with pytest.raises(AgentHostError, match="not among"):
        hosts.check("fd00::2")


def test_this_machine_itself_may_have_an_agent() -> None:
    AgentHosts().check("::1")
    AgentHosts().check("127.0.0.1")
