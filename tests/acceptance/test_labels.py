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


def test_labels_outside_the_map_are_ignored_or_rejected_as_configured(notify: Installation) -> None:
    notify.add("hw-1", status="NEW")
    for unmapped, action in (("ignore", "ignore"), ("reject", "dead-letter")):
        notify.configure_watch(status={"map": {"": "unknown_yet"}, "unmapped": unmapped})
        new, none = json.loads(notify.run("labels", "--json").stdout)
        assert (new["label"], new["sent"], new["action"]) == ("NEW", None, action)
        assert (none["label"], none["rows"], none["sent"], none["action"]) == ("", 0, "unknown_yet", "send")


def test_the_table_names_what_is_probably_a_mistake(notify: Installation) -> None:
    notify.add("hw-1", status="offered")
    notify.add("hw-2", status="esc\x1b[2J")
    notify.configure_watch(status={"map": {"Refusé": "rejected"}})

    shown = notify.run("labels").stdout

    assert "HelloWork writes offred" in shown
    assert "no row has it" in shown
    assert "\x1b" not in shown


def test_rare_labels_of_the_map_are_counted_among_very_many(notify: Installation) -> None:
    notify.ats.execute(
        "INSERT INTO public.applications (hellowork_id, status, job_id, created_at, updated_at)"
        " SELECT 'hw-' || i, 'label ' || i % 1100, 'job-1', now(), now() FROM generate_series(1, 2200) AS i"
    )
    notify.add("hw-rare", status="Rare")
    notify.configure_watch(status={"map": {"Rare": "hired", "nowhere": "rejected"}})

    found = {item["label"]: item["rows"] for item in json.loads(notify.run("labels", "--json").stdout)}

    assert (found["Rare"], found["nowhere"]) == (1, 0)
    assert len(found) < 1100


def test_it_names_the_watches_that_there_are(notify: Installation) -> None:
    assert notify.run("labels", "--watch", "applications").code == 0
    refused = notify.run("labels", "--watch", "absent")
    assert refused.code == 2
    assert "there is applications" in refused.stderr


def test_names_and_labels_may_have_a_percent_sign(notify: Installation) -> None:
    notify.add("hw-1", status="100%")
    notify.ats.execute('ALTER TABLE public.applications RENAME TO "of 100%s"')
    notify.configure_watch(
        table='public."of 100%s"',
        columns={"status": {"sql": "coalesce(t.status, '0%')", "depends_on": ["status"]}},
        status={"map": {"100%": "hired"}},
    )

    labels = json.loads(notify.run("labels", "--json").stdout)

    assert {item["label"]: item["sent"] for item in labels}["100%"] == "hired"
