"""Faults: how they are asked for, and which call gets which."""

import pytest

from cdc_sync.emulator.faults import (
    Delay,
    Fault,
    FaultError,
    FaultScript,
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
)

KINDS = "status, delay, hang, reset, lost_answer, slow_body, huge_body, half_answer, html, redirect"

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
    Random(seed=1, rate=0.5, kinds=(Reset(), Status(status=503))),
]


@pytest.mark.parametrize("fault", EVERY_FAULT, ids=lambda fault: fault.kind)
def test_a_fault_is_read_from_the_json_that_describes_it(fault: Fault) -> None:
    assert parse_faults(describe(fault)) == (fault,)


def test_every_kind_is_covered_above() -> None:
    assert {type(fault) for fault in EVERY_FAULT} == set(Fault.__subclasses__())


def test_one_fault_or_a_list_and_made_ones_pass() -> None:
    assert parse_faults({"kind": "reset"}) == (Reset(),)
    assert parse_faults([{"kind": "reset"}, Hang(seconds=1)]) == (Reset(), Hang(seconds=1))
    assert parse_faults([]) == ()


def test_defaults() -> None:
    [status, draw] = parse_faults(
        [{"kind": "status", "status": 503}, {"kind": "random", "seed": 1, "rate": 0.2, "kinds": [{"kind": "hang"}]}]
    )
    assert status.times == 1
    assert draw.times is None
    assert parse_faults({"kind": "hang"}) == (Hang(seconds=60),)
    assert parse_faults({"kind": "huge_body"}) == (HugeBody(size=10_000_000),)


def test_numbers_are_taken_for_header_values() -> None:
    [fault] = parse_faults({"kind": "status", "status": 429, "headers": {"Retry-After": 2}})
    assert isinstance(fault, Status)
    assert fault.headers == {"Retry-After": "2"}


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (None, 'fault[0]: expected an object with a kind, such as {"kind": "reset"}, not None'),
        ({}, f"fault[0]: kind is missing. Allowed: {KINDS}, random"),
        ({"kind": "rest"}, f"fault[0]: 'rest' is no kind of fault, did you mean reset? Allowed: {KINDS}, random"),
        ({"kind": "zzz"}, f"fault[0]: 'zzz' is no kind of fault. Allowed: {KINDS}, random"),
        (
            [{"kind": "reset"}, {"kind": "hang", "second": 3}],
            (
                "fault[1]: 'second' is no field of hang, did you mean seconds? "
                "Allowed: kind, times, application_id, seconds"
            ),
        ),
        ({"kind": "delay"}, "fault[0].seconds is missing: delay needs it"),
        ({"kind": "delay", "seconds": -1}, "fault[0].seconds: should be greater than or equal to 0, not -1"),
        ({"kind": "delay", "seconds": "2"}, "fault[0].seconds: should be a valid number, not '2'"),
        ({"kind": "delay", "seconds": float("nan")}, "fault[0].seconds: should be less than or equal to 3600, not nan"),
        ({"kind": "reset", "times": 0}, "fault[0].times: should be greater than 0, not 0"),
        ({"kind": "status", "status": 101}, "fault[0].status: should be greater than or equal to 200, not 101"),
        (
            {"kind": "status", "status": 500, "headers": {"a b": "x"}},
            "fault[0].headers: 'a b' cannot be a header's name",
        ),
        (
            {"kind": "status", "status": 500, "headers": {"X": "a\r\nY: b"}},
            "fault[0].headers: the value of X has characters that a header cannot carry",
        ),
        (
            {"kind": "status", "status": 500, "headers": {"content-length": "1"}},
            "fault[0].headers: content-length would break the framing; half_answer and huge_body do that on purpose",
        ),
        (
            {"kind": "redirect", "location": "a b"},
            "fault[0].location: expected a URL without spaces, other characters percent-encoded, not 'a b'",
        ),
        (
            {"kind": "random", "seed": 1, "rate": 0.1, "kinds": [{"kind": "reset", "times": 2}]},
            "fault[0].kinds: times cannot be set here; set it for the whole draw",
        ),
        (
            {"kind": "random", "seed": 1, "rate": 0.1, "kinds": []},
            "fault[0].kinds: expected at least one fault to draw from",
        ),
        (
            {"kind": "random", "seed": 1, "rate": 2, "kinds": [{"kind": "random"}]},
            (
                "fault[0].rate: should be less than or equal to 1, not 2; "
                f"fault[0].kinds[0]: 'random' is no kind of fault. Allowed: {KINDS}"
            ),
        ),
        (
            {"kind": "random", "seed": 1, "rate": 1, "kinds": [{"kind": "hang"}, {"kind": "status", "sttus": 2}]},
            (
                "fault[0].kinds[1].status is missing: status needs it; "
                "fault[0].kinds[1]: 'sttus' is no field of status, did you mean status? "
                "Allowed: kind, times, application_id, status, body, headers"
            ),
        ),
    ],
)
def test_mistakes_are_named_with_what_is_allowed(document: object, message: str) -> None:
    with pytest.raises(FaultError) as caught:
        parse_faults(document)
    assert str(caught.value) == message


def test_which_faults_let_the_call_through() -> None:
    through = {fault.kind for fault in EVERY_FAULT if lets_through(fault)}
    assert through == {"delay", "lost_answer", "slow_body", "huge_body", "half_answer"}
    assert lets_through(Status(status=204))
    assert not lets_through(Status(status=304))


def test_first_in_first_out_and_times() -> None:
    script = FaultScript()
    script.add([Reset(times=2), Hang()])
    assert [fault.kind if fault else None for fault in (script.take("a") for _ in range(4))] == [
        "reset",
        "reset",
        "hang",
        None,
    ]


def test_a_fault_without_end_stays_until_removed() -> None:
    script = FaultScript()
    script.add([Reset(times=None), Hang()])
    assert {script.take("a") for _ in range(10)} == {Reset(times=None)}
    script.clear()
    assert script.take("a") is None
    assert script.pending() == []


def test_a_fault_for_one_application_leaves_the_others_alone() -> None:
    script = FaultScript()
    script.add([Reset(application_id="b"), Hang()])
    assert script.take("a") == Hang()
    assert script.take("a") is None
    assert script.take("b") == Reset(application_id="b")


def test_pending_tells_what_is_left() -> None:
    script = FaultScript()
    script.add([Reset(times=3)])
    script.take("a")
    assert script.pending() == [{"kind": "reset", "times": 2, "application_id": None}]


def draws(script: FaultScript, calls: list[str]) -> dict[str, list[str | None]]:
    drawn: dict[str, list[str | None]] = {}
    for application_id in calls:
        fault = script.take(application_id)
        drawn.setdefault(application_id, []).append(fault.kind if fault else None)
    return drawn


def test_a_draw_does_not_depend_on_how_calls_interleave() -> None:
    chance = Random(seed=7, rate=0.5, kinds=(Reset(), Hang()))
    in_turn, interleaved, other = FaultScript(), FaultScript(), FaultScript()
    in_turn.add([chance])
    interleaved.add([chance])
    other.add([chance.model_copy(update={"seed": 8})])
    expected = draws(in_turn, ["a"] * 50 + ["b"] * 50)
    assert draws(interleaved, ["b", "a"] * 50) == expected
    assert expected["a"] != expected["b"]
    assert draws(other, ["a"] * 50)["a"] != expected["a"]


def test_a_draw_hits_its_share_with_every_kind_and_lets_the_rest_go_on() -> None:
    script = FaultScript()
    script.add([Random(seed=1, rate=0.2, kinds=(Reset(), LostAnswer())), Hang(times=None)])
    drawn = draws(script, [f"a-{n}" for n in range(5_000)])
    kinds = [kind for each in drawn.values() for kind in each]
    assert 900 < kinds.count("reset") + kinds.count("lost_answer") < 1_100
    assert 450 < kinds.count("reset") < 550
    assert kinds.count(None) == 0


def test_a_bounded_draw_counts_hits_not_calls() -> None:
    script = FaultScript()
    script.add([Random(seed=1, rate=0.1, times=3, kinds=(Reset(),))])
    assert draws(script, ["a"] * 1_000)["a"].count("reset") == 3
    assert script.pending() == []
