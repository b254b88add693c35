"""`cdc-sync labels`: what the ATS's labels are, and what is sent for each."""

import json

from support.installation import Installation


def test_each_label_is_shown_with_what_is_sent_for_it(notify: Installation) -> None:
    for number, label in enumerate(("Nouveau", "Nouveau", "Embauché", "hired", "offered", None, "  ")):
        notify.add(f"hw-{number}", status=label)
    notify.configure_watch(status={"map": {"Nouveau": "seen_by_recruiter", "Refusé": "rejected"}})

    labels = json.loads(notify.run("labels", "--json").stdout)

    def item(label: str, rows: int, sent: str | None, action: str, *, mapped: bool) -> dict[str, object]:
        return {
            "watch": "applications",
            "label": label,
            "rows": rows,
            "action": action,
            "sent": sent,
            "mapped": mapped,
        }

    assert labels == [
        item("", 2, None, "skip", mapped=False),
        item("Nouveau", 2, "seen_by_recruiter", "send", mapped=True),
        item("Embauché", 1, "Embauché", "send", mapped=False),
        item("NEW", 1, "NEW", "send", mapped=False),  # the sentinel's
        item("hired", 1, "hired", "send", mapped=False),
        item("offered", 1, "offered", "send", mapped=False),
        item("Refusé", 0, "rejected", "send", mapped=True),
    ]
