"""Faults: how they are asked for, and which call gets which."""

import pytest

from cdc_sync.emulator.faults import (
    Delay,
    Fault,
    FaultError,
    HalfAnswer,
    Hang,
    Html,
    HugeBody,
    LostAnswer,
    Random,
    Redirect,
    Reset,
    SlowBody,
    Status,
    describe,
    lets_through,
    parse_faults,
    take,
)

KINDS = "'status', 'delay', 'hang', 'reset', 'lost_answer', 'slow_body', 'huge_body', 'half_answer', 'html', 'redirect'"

EVERY_FAULT: list[Fault] = [
    Status(status=429, body={"a": [1]}, headers={"Retry-After": "2"}, times=3, application_id="a-1"),
    Delay(seconds=0.5),
    Hang(),
    Hang(seconds=1, times=None),
    Reset(),
    LostAnswer(),
    SlowBody(seconds=2),
    HugeBody(size=2_000),
    HalfAnswer(),
    Html(),
    Redirect(location="https://elsewhere.example/"),
    Random(seed=1, rate=0.5, kinds=[Reset(), Status(status=503)]),
]


@pytest.mark.parametrize("fault", EVERY_FAULT, ids=lambda fault: fault.kind)
def test_a_fault_is_read_from_the_json_that_describes_it(fault: Fault) -> None:
    assert parse_faults([describe(fault)]) == [fault]


def test_every_kind_is_covered_above() -> None:
    assert {type(fault) for fault in EVERY_FAULT} == set(Fault.__subclasses__())


def test_made_ones_pass() -> None:
    assert parse_faults([{"kind": "reset"}, Hang(seconds=1)]) == [Reset(), Hang(seconds=1)]
    assert parse_faults([]) == []


def test_defaults() -> None:
    [status, draw] = parse_faults(
        [{"kind": "status", "status": 503}, {"kind": "random", "seed": 1, "rate": 0.2, "kinds": [{"kind": "hang"}]}]
    )
    assert status.times == 1
    assert draw.times is None
    assert parse_faults([{"kind": "hang"}]) == [Hang(seconds=60)]
    assert parse_faults([{"kind": "huge_body"}]) == [HugeBody(size=10_000_000)]


def test_numbers_are_taken_for_header_values() -> None:
    [fault] = parse_faults([{"kind": "status", "status": 429, "headers": {"Retry-After": 2}}])
    assert isinstance(fault, Status)
    assert fault.headers == {"Retry-After": "2"}


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (None, "fault.0: Input should be a valid dictionary or object to extract fields from, not None"),
        ({}, "fault.0: Unable to extract tag using discriminator 'kind', not {}"),
        ({"kind": "rest"}, f"does not match any of the expected tags: {KINDS}, 'random'"),
        ({"kind": "hang", "second": 3}, "fault.0.hang.second: Extra inputs are not permitted, not 3"),
        ({"kind": "delay"}, "fault.0.delay.seconds: Field required"),
        ({"kind": "delay", "seconds": -1}, "fault.0.delay.seconds: Input should be greater than or equal to 0, not -1"),
        ({"kind": "delay", "seconds": "2"}, "fault.0.delay.seconds: Input should be a valid number, not '2'"),
        ({"kind": "status", "status": "503"}, "fault.0.status.status: Input should be a valid integer, not '503'"),
        ({"kind": "reset", "application_id": 7}, "fault.0.reset.application_id: Input should be a valid string, not 7"),
        ({"kind": "delay", "seconds": float("nan")}, "fault.0.delay.seconds: Input should be"),
        ({"kind": "reset", "times": 0}, "fault.0.reset.times: Input should be greater than 0, not 0"),
        ({"kind": "status", "status": 101}, "fault.0.status.status: Input should be greater than or equal to 200"),
        ({"kind": "status", "status": 500, "headers": {"a b": "x"}}, "String should match pattern"),
        ({"kind": "status", "status": 500, "headers": {"X": "a\r\nY: b"}}, "fault.0.status.headers.X: String should"),
        (
            {"kind": "status", "status": 500, "headers": {"content-length": "1"}},
            "content-length would break the framing",
        ),
        (
            {"kind": "status", "status": 500, "headers": {"Transfer-Encoding": "chunked"}},
            ": Transfer-Encoding would break the framing; half_answer and huge_body do that on purpose",
        ),
        ({"kind": "redirect", "location": "a b"}, "fault.0.redirect.location: String should match pattern"),
        (
            {"kind": "random", "seed": 1, "rate": 0.1, "kinds": [{"kind": "reset", "times": 2}]},
            "fault.0.random.kinds: times cannot be set here; set it for the whole draw",
        ),
        (
            {"kind": "random", "seed": 1, "rate": 0.1, "kinds": [{"kind": "hang", "times": 1, "application_id": "a"}]},
            "application_id and times cannot be set here",
        ),
        ({"kind": "random", "seed": 1, "rate": 0.1, "kinds": []}, "fault.0.random.kinds: List should have at least 1"),
        (
            {"kind": "random", "seed": 1, "rate": 2, "kinds": [{"kind": "random"}]},
            f"found using 'kind' does not match any of the expected tags: {KINDS}",
        ),
    ],
)
def test_mistakes_are_named_with_what_is_allowed(document: object, message: str) -> None:
    with pytest.raises(FaultError) as caught:
        parse_faults([document])
    assert message in str(caught.value)


def test_every_mistake_is_named() -> None:
    with pytest.raises(FaultError, match=r"fault\.0\.hang\.seconds: .*; fault\.1\.reset\.times: "):
        parse_faults([{"kind": "hang", "seconds": -1}, {"kind": "reset", "times": 0}])


def test_which_faults_let_the_call_through() -> None:
    through = {fault.kind for fault in EVERY_FAULT if lets_through(fault)}
    assert through == {"delay", "lost_answer", "slow_body", "huge_body", "half_answer", "random"}
    assert lets_through(Status(status=204))
    assert not lets_through(Status(status=304))


def kinds_of(script: list[Fault], *application_ids: str) -> list[str | None]:
    """The kinds of the faults that calls of these applications take."""
    taken = [take(script, application_id) for application_id in application_ids]
    return [fault.kind if fault else None for fault in taken]


def test_first_in_first_out_and_times() -> None:
    script: list[Fault] = [Reset(times=2), Hang()]
    assert kinds_of(script, "a", "a", "a", "a") == ["reset", "reset", "hang", None]
    assert script == []


def test_a_fault_without_end_stays() -> None:
    script: list[Fault] = [Reset(times=None), Hang()]
    assert set(kinds_of(script, *"a" * 10)) == {"reset"}
    assert len(script) == 2


def test_a_fault_for_one_application_leaves_the_others_alone() -> None:
    script: list[Fault] = [Reset(application_id="b"), Hang()]
    assert kinds_of(script, "a", "a", "b") == ["hang", None, "reset"]


def test_what_is_left_of_times_is_known() -> None:
    script: list[Fault] = [Reset(times=3)]
    take(script, "a")
    assert [describe(fault) for fault in script] == [{"kind": "reset", "times": 2, "application_id": None}]


def test_a_draw_does_not_depend_on_how_calls_interleave() -> None:
    def chance(seed: int) -> list[Fault]:
        return [Random(seed=seed, rate=0.5, kinds=[Reset(), Hang()])]

    in_turn = kinds_of(chance(7), *"a" * 50, *"b" * 50)
    interleaved = kinds_of(chance(7), *"ba" * 50)
    assert (interleaved[1::2], interleaved[::2]) == (in_turn[:50], in_turn[50:])
    assert in_turn[:50] != in_turn[50:]
    assert kinds_of(chance(8), *"a" * 50) != in_turn[:50]


def test_a_draw_hits_its_share_with_every_kind_and_lets_the_rest_go_on() -> None:
    script: list[Fault] = [Random(seed=1, rate=0.2, kinds=[Reset(), LostAnswer()]), Hang(times=None)]
    kinds = kinds_of(script, *(f"a-{n}" for n in range(5_000)))
    assert 900 < kinds.count("reset") + kinds.count("lost_answer") < 1_100
    assert 450 < kinds.count("reset") < 550
    assert kinds.count(None) == 0


def test_a_bounded_draw_counts_hits_not_calls() -> None:
    script: list[Fault] = [Random(seed=1, rate=0.1, times=3, kinds=[Reset()])]
    assert kinds_of(script, *"a" * 1_000).count("reset") == 3
    assert script == []
