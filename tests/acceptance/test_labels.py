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
