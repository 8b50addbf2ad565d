"""The generated pages follow the code, and the AsyncAPI document is one."""

import base64
import re
from itertools import pairwise
from pathlib import Path

import yaml
from faststream.specification.asyncapi.v3_0_0.schema import ApplicationSchema

from offhook.events import registered_types
from offhook.security.keyring import Keyring
from offhook.security.tokens import MediaTokens
from offhook.topics import ALL_TOPICS
from offhook_dev import docs
from offhook_dev.stack import repository


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


def test_at_every_step_of_a_rotation_each_process_understands_the_other() -> None:
    """As docs/deploy/kubernetes.md has it, from the old key to the new one."""
    text = (repository() / "docs" / "deploy" / "kubernetes.md").read_text()
    steps = re.findall(r"^\| \d \| `(.+?)` \| `(.+?)` \|", text, re.M)
    secrets = {name: base64.b64encode(name.ljust(32).encode()).decode() for name in ("OLD", "NEW")}
    for name, secret in secrets.items():
        steps = [(tokens.replace(name, secret), ring.replace(name, secret)) for tokens, ring in steps]
    states = [(secrets["OLD"], f"k1:{secrets['OLD']}"), *steps]
    assert states[-1] == (secrets["NEW"], f"k2:{secrets['NEW']}")
    for before, after in pairwise(states):
        for mine, other in ((before, after), (after, before)):
            token = MediaTokens.parse(mine[0]).mint("run-1", "account", "call", 2, "nonce-123")
            MediaTokens.parse(other[0]).verify(
                token, workflow_run_id="run-1", account="account", provider_call_id="call", now=1
            )
            sealed = Keyring.parse(mine[1]).seal("secret", context="what")
            assert Keyring.parse(other[1]).open(sealed, context="what") == "secret"
