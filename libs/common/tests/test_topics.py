"""What each service may do on Kafka follows from who writes and reads which topic."""

import pytest

from offhook.topics import (
    ALL_TOPICS,
    CALL_EVENTS,
    CONSUMERS,
    DEAD_LETTERS,
    MEDIA_TAPS,
    PREPARE,
    SERVICES,
    WEBHOOK_REPLAYS,
    access,
    topics_of,
)


def allowed(service: str, operation: str, resource: str = "topic") -> set[str]:
    return {
        rule.name for rule in access(service) if rule.resource == resource and operation in rule.operations
    }


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_reads_and_writes_what_its_topics_say_and_nothing_else(service: str) -> None:
    assert allowed(service, "Read") == {topic.name for topic in ALL_TOPICS if service in topic.read_by}
    written = {topic.name for topic in ALL_TOPICS if service in topic.written_by}
    assert allowed(service, "Write") >= written
    # Dead letters belong to every consumer, and call-tracker sends them back to where they came from.
    beside = {consumer.topic.name for consumer in CONSUMERS} if service == "call-tracker" else set()
    assert allowed(service, "Write") - written <= beside | {DEAD_LETTERS.name}
    assert allowed(service, "Create") == set()


def test_whoever_consumes_buries_what_cannot_be_handled() -> None:
    consuming = {consumer.service for consumer in CONSUMERS}
    assert {service for service in SERVICES if DEAD_LETTERS.name in allowed(service, "Write")} == consuming
    assert "media-bridge" not in consuming


def test_dead_letters_can_be_sent_back_to_every_topic_that_is_consumed() -> None:
    assert {CALL_EVENTS.name, MEDIA_TAPS.name, WEBHOOK_REPLAYS.name} <= allowed("call-tracker", "Write")


def test_every_consumer_reads_a_topic_that_names_it_under_a_group_of_its_service() -> None:
    for consumer in CONSUMERS:
        assert consumer.service in consumer.topic.read_by
        assert consumer.group.startswith(consumer.service)
        assert consumer.group in allowed(consumer.service, "Read", "group")
        others = [service for service in SERVICES if service != consumer.service]
        assert not any(consumer.group in allowed(other, "Read", "group") for other in others)


def test_the_topics_are_made_by_prepare_and_by_no_service() -> None:
    assert allowed(PREPARE, "Create") == {topic.name for topic in ALL_TOPICS}
    assert allowed(PREPARE, "Write") == allowed(PREPARE, "Read") == set()


def test_a_name_that_is_no_service_is_allowed_nothing_and_knows_every_topic() -> None:
    with pytest.raises(KeyError):
        access("stranger")
    assert topics_of("stranger") == ALL_TOPICS
    assert topics_of("recorder") == (CALL_EVENTS, MEDIA_TAPS, DEAD_LETTERS)
