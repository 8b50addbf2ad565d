"""What number-sync tells the other services about API keys, configurations, numbers, workflows and settings.

Every change goes through here, into the outbox of its own transaction; `republish` tells everything once more at the
start, so that a topic that was emptied or never filled is whole again.
"""

from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import Row, delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from number_sync import outbox
from number_sync.schema import api_keys, configurations, phone_numbers, settings, workflows
from offhook.events import Event, EventData, new_event
from offhook.records import (
    ApiKeyRecord,
    ConfigurationRecord,
    DiallingRules,
    NoAgentFallback,
    NumberRecord,
    PublicUrlRecord,
    WorkflowRecord,
)
from offhook.topics import API_KEYS, CONFIGURATIONS, NUMBERS, SETTINGS, WORKFLOWS, Topic

SOURCE: Final = "/number-sync"
PUBLIC_URL: Final = "public-url"


def configuration_record(row: Row[Any]) -> ConfigurationRecord:
    return ConfigurationRecord(
        configuration_id=row.id,
        user_id=row.user_id,
        provider=row.provider,
        name=row.name,
        account=row.account,
        sealed_credentials=row.sealed_credentials,
        paused=row.paused,
        default_for_outbound=row.default_for_outbound,
        verification=row.verification,
        dialling_rules=DiallingRules.model_validate(row.dialling_rules),
        max_concurrent_calls=row.max_concurrent_calls,
        max_calls_per_s=row.max_calls_per_s,
    )


def number_record(row: Row[Any]) -> NumberRecord:
    return NumberRecord(
        number_id=row.id,
        configuration_id=row.configuration_id,
        user_id=row.user_id,
        e164=row.e164,
        label=row.label,
        active=row.active,
        workflow_id=row.workflow_id,
        default_caller_id=row.default_caller_id,
    )


def workflow_record(row: Row[Any]) -> WorkflowRecord:
    return WorkflowRecord(
        workflow_id=row.id,
        user_id=row.user_id,
        name=row.name,
        agent_url=row.agent_url,
        agent_protocol=row.agent_protocol,
        sample_rate=row.sample_rate,
        sealed_headers=row.sealed_headers,
        record_audio=row.record_audio,
        fallback=NoAgentFallback.model_validate(row.fallback),
        metadata=row.metadata,
    )


def api_key_record(row: Row[Any]) -> ApiKeyRecord:
    return ApiKeyRecord(
        key_id=row.id,
        user_id=row.user_id,
        digest=row.digest,
        label=row.label,
        revoked=row.revoked_at is not None,
    )


async def publish_configuration(connection: AsyncConnection, row: Row[Any]) -> None:
    await _put(connection, CONFIGURATIONS, row.id, configuration_record(row), row.updated_at)


async def publish_number(connection: AsyncConnection, row: Row[Any]) -> None:
    await _put(connection, NUMBERS, row.id, number_record(row), row.updated_at)


async def publish_workflow(connection: AsyncConnection, row: Row[Any]) -> None:
    await _put(connection, WORKFLOWS, row.id, workflow_record(row), row.updated_at)


async def publish_api_key(connection: AsyncConnection, row: Row[Any]) -> None:
    at = row.created_at if row.revoked_at is None else row.revoked_at
    await _put(connection, API_KEYS, row.id, api_key_record(row), at)


async def retract(connection: AsyncConnection, topic: Topic, key: str) -> None:
    """Tell that the thing is gone."""
    await outbox.append(connection, topic, key, None)


async def set_public_url(connection: AsyncConnection, url: str | None, *, at: int) -> None:
    """Make `url` the public base URL of the installation (None: there is none) and tell it. `at`: ms since 1970.

    The other services see the change on the settings topic; whoever pushes numbers to providers starts from here too.
    """
    await connection.execute(delete(settings).where(settings.c.key == PUBLIC_URL))
    if url is None:
        await retract(connection, SETTINGS, PublicUrlRecord.KEY)
        return
    await connection.execute(insert(settings).values(key=PUBLIC_URL, value=url))
    await _put(connection, SETTINGS, PublicUrlRecord.KEY, PublicUrlRecord(url=url), at)


async def public_url(connection: AsyncConnection) -> str | None:
    """The public base URL, without trailing slash, or None when the installation has none yet."""
    return (
        await connection.execute(select(settings.c.value).where(settings.c.key == PUBLIC_URL))
    ).scalar_one_or_none()


async def republish(connection: AsyncConnection) -> int:
    """Tell every API key, configuration, number and workflow once more. Returns how many records that were."""
    count = 0
    for table, publish in (
        (api_keys, publish_api_key),
        (configurations, publish_configuration),
        (workflows, publish_workflow),
        (phone_numbers, publish_number),
    ):
        # Locked, so that a change made elsewhere at this moment takes its place in the outbox after this one.
        rows = (await connection.execute(select(table).with_for_update())).all()
        for row in rows:
            await publish(connection, row)
        count += len(rows)
    return count


async def _put(connection: AsyncConnection, topic: Topic, key: str, record: EventData, at: int) -> None:
    event: Event[EventData] = new_event(
        record, source=SOURCE, time=datetime.fromtimestamp(at / 1000, UTC), subject=key
    )
    await outbox.append(connection, topic, key, event)
