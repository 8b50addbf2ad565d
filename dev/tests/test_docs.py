"""The generated pages follow the code, and the AsyncAPI document is one."""

from pathlib import Path

import yaml
from faststream.specification.asyncapi.v3_0_0.schema import ApplicationSchema

from offhook.events import registered_types
from offhook.topics import ALL_TOPICS
from offhook_dev import docs


def test_the_asyncapi_document_is_valid_and_has_every_topic() -> None:
    document = yaml.safe_load(docs.pages()["docs/reference/asyncapi.yaml"])
    ApplicationSchema.model_validate(document)
    assert {channel["address"] for channel in document["channels"].values()} == {
        topic.name for topic in ALL_TOPICS
    }


def test_every_reference_in_the_asyncapi_document_leads_somewhere() -> None:
    document = yaml.safe_load(docs.pages()["docs/reference/asyncapi.yaml"])

    def references(node: object) -> list[str]:
        if isinstance(node, dict):
            found = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
            return found + [name for value in node.values() for name in references(value)]
        if isinstance(node, list):
            return [name for value in node for name in references(value)]
        return []

    for reference in references(document):
        node = document
        for part in reference.removeprefix("#/").split("/"):
            assert part in node, reference
            node = node[part]


def test_every_event_model_is_on_a_topic() -> None:
    listed = {name for topic in ALL_TOPICS for name in docs.messages_of(topic)}
    assert listed == set(registered_types())


def test_a_page_that_was_edited_by_hand_is_stale(tmp_path: Path) -> None:
    docs.write(tmp_path)
    assert list(docs.stale(tmp_path)) == []
    (tmp_path / "docs/reference/topics.md").write_text("mine")
    assert list(docs.stale(tmp_path)) == ["docs/reference/topics.md"]
