"""`cdc-sync labels`: what the ATS's labels are, and what is sent for each."""

import json

from support.installation import Installation


def test_each_label_is_shown_with_what_is_sent_for_it(notify: Installation) -> None:
    for number, label in enumerate(("Nouveau", "Nouveau", "Embauché", "hired", "offered", None, "  ")):
        notify.add(f"hw-{number}", status=label)
    notify.configure_watch(status={"map": {"Nouveau": "seen_by_recruiter", "Refusé": "rejected"}})

    labels = json.loads(notify.run("labels", "--json").stdout)

    assert {each["watch"] for each in labels} == {"applications"}
    assert [(each["label"], each["rows"], each["action"], each["sent"], each["mapped"]) for each in labels] == [
        ("", 2, "skip", None, False),
        ("Nouveau", 2, "send", "seen_by_recruiter", True),
        ("Embauché", 1, "send", "Embauché", False),
        ("NEW", 1, "send", "NEW", False),  # the sentinel's
        ("hired", 1, "send", "hired", False),
        ("offered", 1, "send", "offered", False),
        ("Refusé", 0, "send", "rejected", True),
    ]


def test_a_label_that_is_not_among_the_most_frequent_ones_is_not_said_to_have_no_row(notify: Installation) -> None:
    notify.add("hw-1", status="Refusé")
    notify.ats.execute(
        "INSERT INTO public.applications (hellowork_id, status, job_id, created_at, updated_at)"
        " SELECT 'x' || i, 'label ' || i / 2, 'job', now(), now() FROM generate_series(0, 2001) AS i"
    )
    notify.configure_watch(status={"map": {"Refusé": "rejected"}})

    labels = json.loads(notify.run("labels", "--json").stdout)

    assert (len(labels), {each["rows"] for each in labels}) == (1_000, {2})
