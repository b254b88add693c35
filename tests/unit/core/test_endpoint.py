"""One endpoint's health: every transition, what stragglers may do, and that no clock can silence it for good."""

from dataclasses import replace

import pytest

from cdc_sync.core.replies import (
    ALL_ENDPOINTS,
    LONGEST_OPEN,
    LONGEST_PAUSE,
    Admission,
    Health,
    Meaning,
    Mode,
    RetryPolicy,
    admits,
    after,
    is_paused,
    with_other_credentials,
)

SECOND, MINUTE, HOUR, DAY = 1_000, 60_000, 3_600_000, 86_400_000
NOW = 1_700_000_000_000
POLICY = RetryPolicy(first=SECOND, max=900 * SECOND, give_up_after=7 * DAY, not_found_for=900 * SECOND)
ANSWERS: tuple[Meaning, ...] = (Meaning("acknowledged"), Meaning("not found"), Meaning("rejected"))
WAITING_MODES: tuple[Mode, ...] = ("throttled", "open", "paused")


def then(health: Health, meaning: Meaning, now: int = NOW, chance: float = 0.5) -> Health:
    """The state after a reply; with this chance, three quarters of the ceiling are waited."""
    return after(health, meaning, "why", POLICY, now=now, chance=chance)


@pytest.mark.parametrize(
    ("mode", "until", "under_way", "admission"),
    [
        ("healthy", NOW + 1, 16, "all"),
        ("throttled", NOW + 1, 0, "none"),
        ("throttled", NOW, 16, "all"),
        ("open", NOW + 1, 0, "none"),
        ("open", NOW, 0, "probe"),
        ("open", NOW, 1, "none"),
        ("paused", NOW + 1, 0, "none"),
        ("paused", NOW, 0, "probe"),
        ("paused", NOW, 1, "none"),
    ],
)
def test_what_may_be_sent(mode: Mode, until: int, under_way: int, admission: Admission) -> None:
    assert admits(Health(mode, 5, until), NOW, under_way) == admission


@pytest.mark.parametrize(
    ("before", "meaning", "expected"),
    [
        # An answer, whatever it is, mends everything whose time has come.
        *((Health(mode, 7, NOW, "ill"), answer, Health()) for mode in WAITING_MODES for answer in ANSWERS),
        *((Health("healthy", 4, 0, "ill"), answer, Health()) for answer in ANSWERS),
        # Several failures in a row open the circuit, and each failed probe doubles the wait.
        (Health(), Meaning("unavailable"), Health("healthy", 1, 0, "why")),
        (Health("healthy", 3), Meaning("unavailable"), Health("healthy", 4, 0, "why")),
        (Health("healthy", 4), Meaning("unavailable"), Health("open", 5, NOW + 750, "why")),
        (Health("open", 6, NOW), Meaning("unavailable"), Health("open", 7, NOW + 3_000, "why")),
        (Health("open", 500, NOW), Meaning("unavailable"), Health("open", 501, NOW + LONGEST_OPEN, "why")),
        # Refused credentials pause at once, and each refused probe doubles the wait.
        (Health(), Meaning("refused credentials"), Health("paused", 1, NOW + 750, "why")),
        (Health("open", 9, NOW), Meaning("refused credentials"), Health("paused", 1, NOW + 750, "why")),
        (Health("throttled", 9, NOW), Meaning("refused credentials"), Health("paused", 1, NOW + 750, "why")),
        (Health("paused", 1, NOW, "ill"), Meaning("refused credentials"), Health("paused", 2, NOW + 1_500, "why")),
        (
            Health("paused", 500, NOW, "ill"),
            Meaning("refused credentials"),
            Health("paused", 501, NOW + 675_000, "why"),
        ),
        # A probe that finds nobody there says nothing about the credentials.
        (Health("paused", 3, NOW, "ill"), Meaning("unavailable"), Health("open", 5, NOW + 750, "why")),
        # Throttled: as told, else by backoff; "at once" is no wait.
        (Health(), Meaning("throttled", HOUR), Health("throttled", 1, NOW + HOUR, "why")),
        (Health(), Meaning("throttled", None), Health("throttled", 1, NOW + 750, "why")),
        (Health(), Meaning("throttled", 0), Health("throttled", 1, NOW + 750, "why")),
        (Health("healthy", 4), Meaning("throttled", None), Health("throttled", 1, NOW + 750, "why")),
        (Health("throttled", 1, NOW), Meaning("throttled", 0), Health("throttled", 2, NOW + 1_500, "why")),
        (Health("throttled", 1, NOW), Meaning("throttled", 7_000), Health("throttled", 2, NOW + 7_000, "why")),
        (Health("open", 5, NOW), Meaning("throttled", 7_000), Health("throttled", 1, NOW + 7_000, "why")),
        (Health("paused", 5, NOW), Meaning("throttled", None), Health("throttled", 1, NOW + 750, "why")),
        # A throttle whose time is up is health: one failure after it is one failure, not a row of them.
        (Health("throttled", 9, NOW), Meaning("unavailable"), Health("healthy", 1, 0, "why")),
    ],
)
def test_transitions(before: Health, meaning: Meaning, expected: Health) -> None:
    assert then(before, meaning) == expected


@pytest.mark.parametrize("mode", WAITING_MODES)
@pytest.mark.parametrize(
    "meaning",
    [
        Meaning("refused credentials"),
        Meaning("unavailable"),
        Meaning("throttled", None),
        Meaning("throttled", 0),
        Meaning("throttled", 1),
    ],
)
def test_a_straggler_that_failed_changes_nothing(mode: Mode, meaning: Meaning) -> None:
    health = Health(mode, 6, NOW + 5_000, "ill")

    assert then(health, meaning) == health


@pytest.mark.parametrize("mode", WAITING_MODES)
def test_a_straggler_that_is_told_a_longer_wait_lengthens_it(mode: Mode) -> None:
    health = Health(mode, 6, NOW + 5_000, "ill")

    assert then(health, Meaning("throttled", 9_000)) == health._replace(until=NOW + 9_000)


@pytest.mark.parametrize("answer", ANSWERS)
def test_a_straggler_that_was_answered_ends_a_wait_unless_hellowork_asked_for_it(answer: Meaning) -> None:
    throttled = Health("throttled", 1, NOW + 5_000, "429")

    assert then(Health("open", 6, NOW + 5_000, "ill"), answer) == Health()
    assert then(Health("paused", 6, NOW + 5_000, "ill"), answer) == Health()
    assert then(throttled, answer) == throttled


def test_a_whole_volley_that_fails_counts_as_one_failed_probe() -> None:
    volley = [Health("healthy", 4)]
    for delay in range(16):
        volley.append(then(volley[-1], Meaning("unavailable"), NOW + delay))

    assert volley[-1] == volley[1] == Health("open", 5, NOW + 750, "why")


@pytest.mark.parametrize(
    ("mode", "longest", "admission"), [("throttled", HOUR, "all"), ("open", MINUTE, "probe"), ("paused", HOUR, "probe")]
)
def test_a_wait_that_a_wrong_clock_made_is_not_waited(mode: Mode, longest: int, admission: Admission) -> None:
    health = Health(mode, 1, NOW + 5_000, "ill")

    assert admits(health, NOW - longest, 0) == "none"
    assert admits(health, NOW - longest - 2 * MINUTE, 0) == admission
    assert admits(health, NOW - 10 * 365 * DAY, 0) == admission


def test_a_pause_is_probed_every_hour_however_patient_the_retries_are() -> None:
    patient = replace(POLICY, max=30 * DAY)

    paused = after(Health("paused", 50, NOW), Meaning("refused credentials"), "401", patient, now=NOW, chance=0.5)

    assert paused.until == NOW + LONGEST_PAUSE


def test_other_credentials_are_tried_at_once_where_the_others_were_refused() -> None:
    paused = Health("paused", 3, NOW + HOUR, "HTTP 401")

    assert admits(paused, NOW, 0) == "none"
    assert admits(with_other_credentials(paused), NOW, 0) == "probe"
    assert with_other_credentials(paused).failures == 3


def test_an_operator_pauses_sending_to_all_or_to_one() -> None:
    assert is_paused({ALL_ENDPOINTS}, "https://one.example:443")
    assert is_paused({"https://one.example:443"}, "https://one.example:443")
    assert not is_paused({"https://one.example:443"}, "https://other.example:443")
    assert not is_paused(frozenset(), "https://one.example:443")
    assert is_paused({"https://one.example:443"}, "https://one.example:443 [a watch]")
    assert is_paused({"https://one.example:443 [a watch]"}, "https://one.example:443 [a watch]")
    assert not is_paused({"https://one.example:443 [a watch]"}, "https://one.example:443")
