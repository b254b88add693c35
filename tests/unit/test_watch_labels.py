"""What stands for a watch in the names of its objects in the database, whatever it is called."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.watched import a_watch

from cdc_sync.ats.recorders import function_of, label_of, missed_of, recorder
from cdc_sync.core.identifiers import LONGEST

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=100)
PLAIN = st.from_regex(r"[a-z][a-z0-9_]{0,39}", fullmatch=True)
NAMES = PLAIN | st.builds("{}@{}.{}".format, PLAIN, PLAIN, PLAIN) | st.builds("{}@{}".format, PLAIN, TEXT) | TEXT


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
    triggers = [each.name for each in recorder(name, several).triggers]
    assert len(set(triggers)) == 2 * 12
    for each in (missed_of(name), function_of(name), *triggers):
        assert re.fullmatch(r"[a-z_][a-z0-9_$]*", each)
        assert len(each) <= LONGEST


@given(st.lists(NAMES, unique=True, min_size=2, max_size=20))
def test_no_two_watches_share_an_object(names: list[str]) -> None:
    watch = a_watch(related=[{"table": "public.stages", "key": []}])
    recorders = [recorder(name, watch) for name in names]
    assert len({each.function for each in recorders}) == len(names)
    assert len({trigger.name for each in recorders for trigger in each.triggers}) == 4 * len(names)
