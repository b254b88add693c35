"""The dates of an application's calls rise, also where its rows' own dates do not."""

import json

from support.installation import JOB, Installation

LATER, EARLIER = "2024-05-02 07:22:30.000Z", "2024-05-02 07:00:44.000Z"


def dates(installation: Installation, application_id: str) -> list[str]:
    """The dates of an application's calls, in the order in which they came."""
    return [call.body["eventDate"] for call in installation.hellowork.calls_for(application_id)]  # type: ignore[index] # it has one


def configure(installation: Installation, **watch: object) -> None:
    """Take the event's date from `source`, which the ATS sets as it likes."""
    event_date = {"sql": "t.source::timestamptz", "depends_on": ["source"]}
    installation.configure_watch(columns={"event_date": event_date, "source": None}, **watch)
    installation.install()


def test_a_state_that_is_taken_back_is_sent_with_a_later_date_than_the_one_it_takes_back(
    installation: Installation,
) -> None:
    """As an application that is un-refused in Odoo: its stage has the date at which it was entered."""
    installation.add("hw-1", source=EARLIER)
    configure(installation)
    with installation.daemon() as daemon:
        installation.change("hw-1", status="rejected", source=LATER)
        installation.settle(daemon)
        # The first attempt gets no answer, and the second one is the same request.
        installation.hellowork.will({"kind": "reset", "application_id": "hw-1"})
        installation.change("hw-1", status="NEW", source=EARLIER)
        installation.settle(daemon)
        installation.change("hw-1", status="rejected", source=LATER)
        installation.settle(daemon)

        calls = installation.hellowork.calls_for("hw-1")
        assert [call.body["status"] for call in calls] == ["rejected", "NEW", "NEW", "rejected"]  # type: ignore[index] # as above
        assert calls[1].raw == calls[2].raw
        assert calls[1].idempotency_key == calls[2].idempotency_key
        first, again, _, last = dates(installation, "hw-1")
        assert first == "2024-05-02T07:22:30.000Z"
        assert first < again < last
        told = installation.run("explain", "hw-1", "--json").stdout
        (queued, *_) = [e for e in json.loads(told)[0]["events"] if e["event"] == "queued" and "event_date" in e]
        assert queued["event_date"] == again
        assert queued["event_date_of_row"] == "2024-05-02T07:00:44.000Z"
        # Dates alone are no news.
        installation.change("hw-1", source=EARLIER)
        installation.settle(daemon)
        assert len(dates(installation, "hw-1")) == 4


def test_without_the_rule_dates_are_sent_as_they_stand_in_the_row(poll: Installation) -> None:
    poll.add("hw-1", source=EARLIER)
    configure(poll, ordered_dates=False)
    with poll.daemon() as daemon:
        for status, date in (("rejected", LATER), ("NEW", EARLIER)):
            poll.change("hw-1", status=status, source=date)
            poll.settle(daemon)
        assert poll.hellowork.told("hw-1") == [("rejected", JOB), ("NEW", JOB)]
        assert dates(poll, "hw-1") == ["2024-05-02T07:22:30.000Z", "2024-05-02T07:00:44.000Z"]
