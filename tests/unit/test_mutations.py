"""The mutations are faults in the code as it is; see `mutations`."""

from pathlib import Path

import pytest
from mutations import MUTATIONS, Mutation

import cdc_sync

TESTS = Path(__file__).parent.parent


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.what)
def test_a_mutation_changes_one_place(mutation: Mutation) -> None:
    text = (Path(cdc_sync.__file__).parent / mutation.file).read_text(encoding="utf-8")

    assert text.count(mutation.text) == 1
    if mutation.file.endswith(".py"):
        compile(text.replace(mutation.text, mutation.instead), mutation.file, "exec")
    for test in mutation.tests.split():
        assert test == "model" or (TESTS / test.partition("::")[0]).exists()
