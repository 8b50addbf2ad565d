"""The local overlay, for real: its containers with its settings, secrets, users and read-only roots, and a call through them."""

import asyncio
from collections.abc import Iterator

import httpx
import pytest

from offhook_dev.containers import Engine
from offhook_dev.errors import DevError
from offhook_dev.kubernetes.configuration import secret_variables
from offhook_dev.kubernetes.played import Played
from offhook_dev.kubernetes.rendered import FOLDER, Rendered, render
from offhook_dev.pytest_plugin import real_is_required
from offhook_dev.simulated import CALLER_HANGS_UP, NUMBERS, PERSON, TWILIO_CREDENTIALS
from offhook_dev.stack import repository

pytestmark = [pytest.mark.real, pytest.mark.containers, pytest.mark.timeout(1500)]

SERVICES = ("webhook-gateway", "media-bridge", "call-tracker", "number-sync", "recorder")
KEY = "ok_development-only-not-a-secret"
# Generous: a test may begin while the machine still builds something else.
WITHIN_S = 300


@pytest.fixture(scope="module")
def local() -> Rendered:
    return render(repository() / FOLDER / "overlays" / "local")


@pytest.fixture(scope="module")
def cluster(local: Rendered) -> Iterator[Played]:
    published = {"edge": 8080, "carrier-sim": 4443}
    try:
        played = Played(Engine(), local, published=published)
        with played:
            for service in SERVICES:
                played.wait(service, within_s=WITHIN_S)
            yield played
    except DevError as error:
        if real_is_required():
            pytest.fail(str(error), pytrace=False)
        pytest.skip(str(error))


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("probe", ["startupProbe", "livenessProbe", "readinessProbe"])
def test_every_probe_is_answered_where_the_manifest_asks(cluster: Played, service: str, probe: str) -> None:
    assert cluster.probe(service, probe)


def test_topics_and_tables_were_made_by_the_job(cluster: Played) -> None:
    cluster.wait("prepare", within_s=WITHIN_S, ready=False)
    assert cluster.state("prepare")["ExitCode"] == 0, cluster.log("prepare")


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_is_nobody_and_can_write_only_where_it_must(cluster: Played, service: str) -> None:
    who = "import os; print(os.getuid(), os.getgid(), os.access('/', os.W_OK), os.access('/opt/offhook', os.W_OK))"
    assert cluster.run(service, "/opt/offhook/bin/python", "-c", who).split() == [
        "10001",
        "10001",
        "False",
        "False",
    ]
    write = (
        "import tempfile; tempfile.TemporaryFile(dir='/var/lib/offhook'); tempfile.TemporaryFile(dir='/tmp')"
    )
    cluster.run(service, "/opt/offhook/bin/python", "-c", write)


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_has_its_own_secrets_only(cluster: Played, local: Rendered, service: str) -> None:
    names = "import os; print(*(name for name in os.environ if name.startswith('OFFHOOK_')))"
    found = set(cluster.run(service, "/opt/offhook/bin/python", "-c", names).split())
    given = set(local.environment(local.workload(service)))
    assert found >= given
    assert found & secret_variables() == given & secret_variables()


async def test_a_call_goes_through(cluster: Played) -> None:
    api = f"http://{cluster.address('edge')}/api/v1"
    headers = {"Authorization": f"Bearer {KEY}"}
    async with httpx.AsyncClient(base_url=api, headers=headers, timeout=60, trust_env=False) as client:

        async def made(path: str, body: dict[str, object]) -> dict[str, str]:
            answer = await client.post(path, json=body)
            assert answer.is_success, answer.text
            found: dict[str, str] = answer.json()
            return found

        # A name that is not known yet is looked up for some time before the edge asks again. In a cluster every Service has
        # its name before its pods run; here the pods' names come with them.
        async with asyncio.timeout(WITHIN_S):
            for path in ("/workflows", "/calls"):
                while (await client.get(path)).status_code == 503:
                    await asyncio.sleep(0.5)
        workflow = await made(
            "/workflows", {"name": "Echo", "agent_url": "ws://agent:8765", "agent_protocol": "pcm"}
        )
        account = await made(
            "/telephony-configurations",
            {"name": "Simulated", "provider": "twilio", "credentials": TWILIO_CREDENTIALS},
        )
        numbers = f"/telephony-configurations/{account['configuration_id']}/phone-numbers"
        number = await made(numbers, {"number": NUMBERS["twilio"], "workflow_id": workflow["workflow_id"]})
        async with asyncio.timeout(120):  # until the simulated carrier holds our addresses
            while (await client.get(f"{numbers}/{number['number_id']}")).json()["sync"]["state"] != "synced":
                await asyncio.sleep(1)
        wanted = {"provider": "twilio", "from": PERSON, "to": NUMBERS["twilio"], "caller": CALLER_HANGS_UP}
        answer = await client.post(
            f"http://{cluster.address('carrier-sim')}/_sim/calls", json=wanted, timeout=120
        )
        assert answer.status_code == 201, answer.text
        report = answer.json()
        assert report["violations"] == []
        assert report["agent_audio_ms"] > 0
        async with asyncio.timeout(60):
            while True:
                (call,) = (await client.get("/calls")).json()["calls"]
                if call["status"] == "completed":
                    break
                await asyncio.sleep(0.5)
    assert call["statuses"] == ["initiated", "ringing", "answered", "completed"]
    assert call["end_reason"] == "caller-hung-up"


@pytest.mark.parametrize("service", SERVICES)
def test_a_pod_that_is_asked_to_go_ends_in_order(cluster: Played, service: str) -> None:
    assert cluster.stop(service) == 0, cluster.log(service)[-2000:]
