"""Secrets are sealed wherever they rest or travel: canaries are planted, and searched for everywhere."""

import base64
import logging
from pathlib import Path
from typing import Any

import pytest
from running_number_sync import RunService, at
from sqlalchemy import text

from carrier_sim import CarrierSim
from carrier_sim.rest_faults import RestFault
from number_sync.database import Database
from offhook.topics import ALL_TOPICS

CANARIES = ("canary1secret1token1canary1secret", "canary2secret2token2canary2secret", "Bearer canary3")
CREDENTIALS = {
    "account_sid": "AC" + "0c" * 16,
    "auth_token": CANARIES[0],
    "auth_token_secondary": CANARIES[1],
}
WORKFLOW = {
    "name": "W",
    "agent_url": "ws://127.0.0.1:1/",
    "headers": {"Authorization": CANARIES[2]},
}


def found_in(data: bytes) -> list[str]:
    """The canaries in `data`, in clear or in base64."""
    forms = {canary: (canary.encode(), base64.b64encode(canary.encode())[:-4]) for canary in CANARIES}
    return [canary for canary, texts in forms.items() if any(one in data for one in texts)]


async def everything_in(database_url: str) -> bytes:
    """Every cell of every table, and for SQLite the raw bytes of its files."""
    database = Database(database_url)
    seen = bytearray()
    from number_sync.schema import metadata

    async with database.read() as connection:
        for table in metadata.sorted_tables:
            for row in (await connection.execute(text(f'SELECT * FROM "{table.name}"'))).all():
                seen += repr(row).encode()
    await database.close()
    if "sqlite" in database_url:
        file = Path(database_url.partition(":///")[2])
        for part in file.parent.glob(file.name + "*"):
            seen += part.read_bytes()
    return bytes(seen)


async def test_no_secret_is_in_clear_in_the_database_the_topics_the_log_or_an_answer(
    run_service: RunService,
    carrier: CarrierSim,
    database_url: str,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    answers = bytearray()
    # Refused at first: what the provider says is stored, told and logged.
    account = carrier.twilio.add_account(CREDENTIALS["account_sid"], "another-token")
    account.add_number("+14155550001")
    async with run_service(**at(carrier)) as service:

        async def keep(method: str, path: str, body: Any = None) -> Any:
            answer = await service.api.request(method, path, json=body)
            answers.extend(answer.content)
            return answer.json()

        made = await keep(
            "POST",
            "/telephony-configurations",
            {"name": "C", "provider": "twilio", "credentials": CREDENTIALS},
        )
        path = f"/telephony-configurations/{made['configuration_id']}"
        assert made["verification"]["state"] == "refused"
        workflow = await keep("POST", "/workflows", WORKFLOW)
        await keep("GET", f"{path}/available-numbers")
        account.auth_token = CANARIES[0]
        assert (await keep("POST", f"{path}/test"))["state"] == "verified"
        wanted = {"numbers": ["+14155550001"], "workflow_id": workflow["workflow_id"]}
        imported = await keep("POST", f"{path}/phone-numbers/import", wanted)
        assert len(imported["imported"]) == 1
        carrier.rest_faults = [RestFault(do="html")]
        await keep("POST", f"{path}/test")
        await keep("GET", f"{path}/available-numbers")
        await keep("POST", f"/workflows/{workflow['workflow_id']}/try")
        await keep("GET", path)
        await keep("GET", "/telephony-configurations")
        await keep("PATCH", path, {"credentials": {**CREDENTIALS, "account_sid": "wrong"}})
        await keep("PATCH", path, {"name": 5, "credentials": CREDENTIALS})
        await keep(
            "PATCH",
            f"/workflows/{workflow['workflow_id']}",
            {"headers": {"Authorization": CANARIES[2] + "\n\x01"}},
        )
        await service.published()
        records = b"".join(
            repr((record.key, record.value, record.headers)).encode()
            for topic in ALL_TOPICS
            for record in service.bus.records(topic)
        )
    assert b"sealed_credentials" in records
    assert found_in(records) == []
    assert found_in(await everything_in(database_url)) == []
    assert found_in(bytes(answers)) == []
    printed = capfd.readouterr()
    assert found_in((caplog.text + printed.out + printed.err).encode()) == []
