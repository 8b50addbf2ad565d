"""Kafka on Kubernetes is what the code says: topics, users and their rights, and the lag that scales call-tracker."""

from collections.abc import Iterator
from typing import Final

from offhook.bus.provisioning import topic_config
from offhook.topics import ALL_TOPICS, CALL_EVENTS, CONSUMERS, PREPARE, SERVICES, access
from offhook_dev.kubernetes.rendered import Rendered, is_ours

_Rule = tuple[str, str, tuple[str, ...]]


def topics_are_ours(rendered: Rendered) -> Iterator[str]:
    """The topics of `offhook.topics`, with the settings `offhook prepare` would give them."""
    found = {one["metadata"]["name"]: one["spec"] for one in rendered.of("KafkaTopic")}
    if not found:
        return
    for name in sorted(set(found) ^ {topic.name for topic in ALL_TOPICS}):
        yield f"the topic {name} is {'unknown to the code' if name in found else 'missing'}"
    wanted = rendered.environment(rendered.workload("prepare"))
    for topic in ALL_TOPICS:
        spec = found.get(topic.name)
        if spec is None:
            continue
        if spec["config"] != topic_config(topic, spec["replicas"]):
            yield f"the topic {topic.name} has the settings {spec['config']}"
        if spec["replicas"] < 3 or str(spec["replicas"]) != wanted["OFFHOOK_REPLICATION_FACTOR"]:
            yield f"the topic {topic.name} has {spec['replicas']} replicas"
        if str(spec["partitions"]) != wanted["OFFHOOK_PARTITIONS"]:
            yield f"the topic {topic.name} has {spec['partitions']} partitions"


def users_have_their_rights(rendered: Rendered) -> Iterator[str]:
    """A user for each service, with the rights it needs and no others."""
    found = {one["metadata"]["name"]: one["spec"] for one in rendered.of("KafkaUser")}
    if not found:
        return
    for name in sorted(set(found) ^ {*SERVICES, PREPARE}):
        yield f"the Kafka user {name} is {'no service' if name in found else 'missing'}"
    for service in sorted(set(found) & {*SERVICES, PREPARE}):
        spec = found[service]
        if spec["authentication"]["type"] != "scram-sha-512":
            yield f"{service} signs in by {spec['authentication']['type']}"
        given: set[_Rule] = set()
        for acl in spec["authorization"]["acls"]:
            resource = acl["resource"]
            if resource.get("patternType", "literal") != "literal" or acl.get("type", "allow") != "allow":
                yield f"{service} has a rule that is not a plain one: {acl}"
            name = resource.get("name", "kafka-cluster")
            given.add((resource["type"], name, tuple(sorted(acl["operations"]))))
        needed = {(rule.resource, rule.name, tuple(sorted(rule.operations))) for rule in access(service)}
        for resource_type, name, operations in sorted(given ^ needed):
            word = "has" if (resource_type, name, operations) in given else "lacks"
            yield f"{service} {word} {', '.join(operations)} on the {resource_type} {name}"


def services_sign_in(rendered: Rendered) -> Iterator[str]:
    """Where Kafka is not a development one, every service signs in under its own name, over TLS."""
    for workload in rendered.workloads():
        environment = rendered.environment(workload)
        if not is_ours(workload) or environment["OFFHOOK_KAFKA_BOOTSTRAP"] == "kafka:9092":
            continue
        name = workload["metadata"]["name"]
        expected = {
            "OFFHOOK_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
            "OFFHOOK_KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
            "OFFHOOK_KAFKA_SASL_USERNAME": name,
        }
        for variable, value in expected.items():
            if environment.get(variable) != value:
                yield f"{name} has {variable}={environment.get(variable)}"
        if "OFFHOOK_KAFKA_SASL_PASSWORD" not in environment:
            yield f"{name} has no password for Kafka"


def lag_is_of_our_group(rendered: Rendered) -> Iterator[str]:
    """call-tracker is scaled on the lag of the group it reads call events with, up to one process for each partition."""
    for scaled in rendered.of("ScaledObject"):
        environment = rendered.environment(rendered.workload("prepare"))
        for trigger in scaled["spec"]["triggers"]:
            metadata = trigger["metadata"]
            group = (scaled["spec"]["scaleTargetRef"]["name"], metadata["consumerGroup"], metadata["topic"])
            if group not in {(one.service, one.group, one.topic.name) for one in CONSUMERS}:
                yield f"nobody reads as {group}"
            if metadata["topic"] != CALL_EVENTS.name:
                yield f"call-tracker is scaled on {metadata['topic']}"
            bootstrap = environment["OFFHOOK_KAFKA_BOOTSTRAP"]
            if metadata["bootstrapServers"] != bootstrap:
                yield f"the lag is asked for at {metadata['bootstrapServers']}, Kafka is at {bootstrap}"
            for server in metadata["bootstrapServers"].split(","):
                if "." not in server.partition(":")[0]:
                    yield f"KEDA asks in its own namespace, where nobody is called {server}"
        if scaled["spec"]["maxReplicaCount"] > int(environment["OFFHOOK_PARTITIONS"] or 0):
            yield "more processes than partitions would wait"


POLICIES: Final = (topics_are_ours, users_have_their_rights, services_sign_in, lag_is_of_our_group)
