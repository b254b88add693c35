"""What stands for a watch in the names of its objects in the database, whatever it is called."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.watched import a_watch

from cdc_sync.ats.triggers import TRIGGERS, function_of, label_of, missed_of, recorded_tables, trigger_of
from cdc_sync.config import Watch
from cdc_sync.core.identifiers import LONGEST

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=100)
PLAIN = st.from_regex(r"[a-z][a-z0-9_]{0,39}", fullmatch=True)
NAMES = PLAIN | st.builds("{}@{}.{}".format, PLAIN, PLAIN, PLAIN) | st.builds("{}@{}".format, PLAIN, TEXT) | TEXT


def triggers_of(name: str, watch: Watch) -> list[str]:
    return [trigger_of(name, kind, of.number) for of in recorded_tables(watch) for kind in TRIGGERS]


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("applications@tenant_42", "applications$tenant_42"),
        ("applications@north.tenant_42", "applications$north$tenant_42"),
        ("applications@42", "applications_42$0xae49c396b4b597"),
        ("applications@Ten\"ant 'x'", "applications_ten_ant_x_$0x26228396260ef3"),
        (f"applications@{'x' * 87}", "applications_xxxxxxxxxx$0x99ff4c003e6a5a"),
    ],
)
def test_a_tenant_is_known_by_its_name(name: str, label: str) -> None:
    assert label_of(name) == label


@given(NAMES)
def test_no_name_needs_quotes_or_is_cut(name: str) -> None:
    several = a_watch(related=[{"table": f"public.t{number}", "key": []} for number in range(1, 12)])
    triggers = triggers_of(name, several)
    assert len(set(triggers)) == 2 * 12
    for each in (missed_of(name), function_of(name), *triggers):
        assert re.fullmatch(r"[a-z_][a-z0-9_$]*", each)
        assert len(each) <= LONGEST


@given(st.lists(NAMES, unique=True, min_size=2, max_size=20))
def test_no_two_watches_share_an_object(names: list[str]) -> None:
    watch = a_watch(related=[{"table": "public.stages", "key": []}])
    assert len(set(map(function_of, names))) == len(names)
    assert len({trigger for name in names for trigger in triggers_of(name, watch)}) == 4 * len(names)
