import pytest

from offhook.identities import inbound_run_id
from offhook.records import ConfigurationRecord, NoAgentFallback, NumberRecord, WorkflowRecord
from webhook_gateway.policy import (
    CallMarks,
    Connect,
    End,
    Limits,
    Reason,
    Route,
    Say,
    decide,
    is_derived_run,
    reconnect_delay_s,
    route_inbound,
    route_run,
)

LIMITS = Limits()


def configuration(name="c1", user="u1", paused=False):
    return ConfigurationRecord(
        configuration_id=name,
        user_id=user,
        provider="twilio",
        name=name,
        account="AC1",
        sealed_credentials="",
        paused=paused,
    )


def number(configuration_id="c1", user="u1", workflow_id="w1", active=True):
    return NumberRecord(
        number_id=f"n-{configuration_id}",
        configuration_id=configuration_id,
        user_id=user,
        e164="+15550001111",
        active=active,
        workflow_id=workflow_id,
    )


def workflow(name="w1", user="u1"):
    return WorkflowRecord(
        workflow_id=name,
        user_id=user,
        name=name,
        agent_url="ws://agent",
        fallback=NoAgentFallback(message="Leider nicht.", language="de-DE"),
    )


def inbound(configurations, numbers, workflows):
    return route_inbound(
        configurations,
        "+15550001111",
        lambda of, e164: next((n for n in numbers if n.configuration_id == of.configuration_id), None),
        {w.workflow_id: w for w in workflows}.get,
    )


def test_a_call_to_a_known_number_connects_to_its_workflow():
    route = inbound([configuration()], [number()], [workflow()])
    assert route.trouble is None
    assert decide(route, CallMarks(), 1, LIMITS) == Connect(workflow())


@pytest.mark.parametrize(
    ("route", "reason", "own_words"),
    [
        (inbound([configuration()], [], []), Reason.NUMBER_UNKNOWN, False),
        (inbound([configuration()], [number(user="u2")], [workflow()]), Reason.NUMBER_UNKNOWN, False),
        (inbound([configuration()], [number(workflow_id=None)], []), Reason.NUMBER_WITHOUT_WORKFLOW, False),
        (inbound([configuration()], [number()], []), Reason.WORKFLOW_UNKNOWN, False),
        (inbound([configuration()], [number()], [workflow(user="u2")]), Reason.WORKFLOW_UNKNOWN, False),
        (inbound([configuration()], [number(active=False)], [workflow()]), Reason.NUMBER_INACTIVE, True),
        (inbound([configuration(paused=True)], [number()], [workflow()]), Reason.CONFIGURATION_PAUSED, True),
    ],
)
def test_a_call_that_nobody_takes_hears_a_sentence_in_the_workflows_words_where_there_are_any(
    route, reason, own_words
):
    decision = decide(route, CallMarks(), 1, LIMITS)
    assert isinstance(decision, Say)
    assert decision.reason is reason
    assert (decision.text == "Leider nicht.") is own_words


def test_of_two_tenants_with_one_provider_account_the_one_that_can_take_the_call_does():
    both = [configuration("c1", "u1", paused=True), configuration("c2", "u2")]
    numbers = [number("c1", "u1"), number("c2", "u2", "w2")]
    route = inbound(both, numbers, [workflow(), workflow("w2", "u2")])
    assert route.configuration.configuration_id == "c2"
    assert route.trouble is None


def test_of_two_tenants_with_one_provider_account_the_one_that_knows_the_number_says_why_not():
    both = [configuration("c1", "u1"), configuration("c2", "u2", paused=True)]
    route = inbound(both, [number("c2", "u2", "w2")], [workflow("w2", "u2")])
    assert route.trouble is Reason.CONFIGURATION_PAUSED


def test_a_webhook_path_is_served_when_path_configuration_and_workflow_have_one_owner():
    route = route_run(
        [configuration("c1", "u2"), configuration("c2", "u1")], "w1", "u1", {"w1": workflow()}.get
    )
    assert route.trouble is None
    assert route.configuration.configuration_id == "c2"


@pytest.mark.parametrize(
    ("of", "workflow_owner", "path_user", "reason"),
    [
        ("u2", "u1", "u1", Reason.FOREIGN_TENANT),
        ("u1", "u2", "u1", Reason.FOREIGN_TENANT),
        ("u1", "u1", "u2", Reason.FOREIGN_TENANT),
        ("u1", None, "u1", Reason.WORKFLOW_UNKNOWN),
    ],
)
def test_a_webhook_path_that_mixes_tenants_hears_the_default_words(of, workflow_owner, path_user, reason):
    workflows = {} if workflow_owner is None else {"w1": workflow(user=workflow_owner)}
    route = route_run([configuration(user=of)], "w1", path_user, workflows.get)
    decision = decide(route, CallMarks(), 1, LIMITS)
    assert isinstance(decision, Say)
    assert decision.reason is reason
    assert decision.text == NoAgentFallback().message


def test_a_live_call_of_a_paused_configuration_goes_on():
    route = route_run([configuration(paused=True)], "w1", "u1", {"w1": workflow()}.get)
    assert isinstance(decide(route, CallMarks(), 2, LIMITS), Connect)


ROUTE = Route(configuration(), workflow=workflow())


@pytest.mark.parametrize(
    ("marks", "expected"),
    [
        (CallMarks(ended=True), End(Reason.ENDED)),
        (CallMarks(over=True), End(Reason.CALL_OVER)),
        (CallMarks(ended=True, no_agent=True), End(Reason.ENDED)),
        (CallMarks(no_agent=True), Say("Leider nicht.", "de-DE", Reason.NO_AGENT)),
        (CallMarks(connects=11), Say("Leider nicht.", "de-DE", Reason.RECONNECT_LIMIT)),
        (CallMarks(connects=10), Connect(workflow(), 2.0)),
    ],
)
def test_marks_decide_about_a_call_that_has_a_workflow(marks, expected):
    assert decide(ROUTE, marks, 2, LIMITS) == expected


def test_a_call_that_names_the_run_of_another_learns_nothing_of_its_state():
    decision = decide(ROUTE, CallMarks(foreign=True, ended=True), 1, LIMITS)
    assert decision == Say("Leider nicht.", "de-DE", Reason.FOREIGN_CALL)


def test_a_call_connects_only_so_often_whatever_redis_says():
    assert isinstance(decide(ROUTE, CallMarks(), 200, LIMITS), Connect)
    assert decide(ROUTE, CallMarks(), 201, LIMITS) == Say("Leider nicht.", "de-DE", Reason.RECONNECT_LIMIT)


def test_the_first_reconnect_is_immediate_and_later_ones_wait_but_never_long():
    assert [reconnect_delay_s(n) for n in range(1, 8)] == [0, 0, 0.5, 1, 2, 2, 2]


def test_only_the_run_derived_from_the_call_is_the_calls_own():
    run = inbound_run_id("twilio", "AC1", "CA1")
    assert is_derived_run(run, configuration(), "CA1")
    assert not is_derived_run(run, configuration(), "CA2")
    assert not is_derived_run("run-1", configuration(), "CA1")
