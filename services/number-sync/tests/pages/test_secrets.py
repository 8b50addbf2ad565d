"""No page holds a secret: planted ones are looked for in everything that can be reached."""

from html import unescape

from browsing import Browser
from making import a_configuration, a_number, a_workflow, id_of
from running_number_sync import KEYRING, SESSION_KEY, Service

CANARIES = {
    "auth_token": "canary-a-of-auth-token-000000000",
    "auth_token_secondary": "canary-b-of-second-token-0000000",
    "api_key_secret": "canary-c-of-api-key-00000000000",
    "shared_keys": "one:canary-d-of-shared-keys-000000",
}
HEADER = "Bearer canary-e-of-header-0000000000"


async def test_no_page_that_can_be_reached_holds_a_secret(ada: Browser, service: Service) -> None:
    credentials = {"account_sid": "AC" + "0a" * 16, "api_key_sid": "SK" + "0b" * 16, **CANARIES}
    one = await a_configuration(service, credentials=credentials)
    workflow = await a_workflow(service, headers={"Authorization": HEADER}, agent_url="ws://127.0.0.1:1/call")
    await a_number(service, one, "+14155551234", workflow_id=id_of(workflow))
    seen: set[str] = set()
    waiting = ["/telephony-configurations", "/workflows"]
    secrets = [*CANARIES.values(), "canary", HEADER, KEYRING.partition(":")[2], SESSION_KEY]
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        page = await ada.open(path)
        assert page.status == 200, path
        for secret in secrets:
            assert secret not in page.html, path
        for link in map(unescape, page.links()):
            if link.startswith(("/telephony-configurations", "/workflows")):
                waiting.append(link)
    assert {one, f"{one}/edit", f"{one}/import", f"{one}/delete", workflow} <= seen
    tried = await (await ada.open(workflow)).send(f"{workflow}/try")
    assert "canary" not in tried.html
