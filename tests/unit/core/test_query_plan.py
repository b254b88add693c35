from typing import Any

import pytest

from cdc_sync.core.findings import plan_is_in_order, plan_names, plan_seeks


def a_scan(condition: str | None, index: str = "by_id") -> dict[str, Any]:
    scan = {"Node Type": "Index Scan", "Relation Name": "applications", "Index Name": index}
    return scan if condition is None else {**scan, "Index Cond": condition}


SEQ = {"Node Type": "Seq Scan", "Relation Name": "applications"}
BITMAP = {
    "Node Type": "Bitmap Heap Scan",
    "Relation Name": "applications",
    "Plans": [{"Node Type": "Bitmap Index Scan", "Index Name": "by_id", "Index Cond": "(id = 1)"}],
}


@pytest.mark.parametrize(
    ("plan", "leading", "expected"),
    [
        (a_scan("(id = ANY ('{NULL}'::bigint[]))"), {"by_id": "id"}, True),
        (a_scan("(id = ANY ('{NULL}'::bigint[]))"), {"by_id": "job_id"}, False),  # by a later column of the index
        (a_scan("(hellowork_id = 'x')"), {"by_id": "id"}, False),  # the end of another name
        (a_scan("""("Id HW" = 'x')"""), {"by_id": '"Id HW"'}, True),
        (a_scan("(lower(url) = 'x')"), {"by_id": None}, True),
        (a_scan(None), {"by_id": "id"}, False),  # all of it, in its order
        (BITMAP, {"by_id": "id"}, True),
        ({"Node Type": "Append", "Plans": [a_scan("(id = 1)"), a_scan("(id = 1)")]}, {"by_id": "id"}, True),
        ({"Node Type": "Append", "Plans": [a_scan("(id = 1)"), SEQ]}, {"by_id": "id"}, False),  # one partition
        ({"Node Type": "Result"}, {}, True),  # there is nothing to be read
        ({**a_scan("(id = 1)"), "Plans": [{**SEQ, "Parent Relationship": "SubPlan"}]}, {"by_id": "id"}, True),
    ],
)
def test_a_condition_on_the_indexs_beginning_is_what_counts(
    plan: dict[str, Any], leading: dict[str, str | None], *, expected: bool
) -> None:
    assert plan_seeks(plan, leading) is expected


def test_a_plan_names_its_indexes_and_a_verbose_one_its_schemas() -> None:
    plan = {"Node Type": "Append", "Plans": [a_scan(None, "one"), BITMAP, SEQ | {"Schema": "tenant_1"}]}

    assert plan_names(plan, "Index Name") == ["by_id", "one"]
    assert plan_names(plan, "Schema") == ["tenant_1"]


@pytest.mark.parametrize(
    ("plan", "expected"),
    [
        (a_scan(None), True),
        (SEQ, False),
        ({"Node Type": "Limit", "Plans": [a_scan(None)]}, True),
        ({"Node Type": "Sort", "Plans": [a_scan(None)]}, False),
        ({"Node Type": "Sort", "Plans": [{"Node Type": "Result"}]}, True),  # row-level security lets no row through
        # By the key's first column alone: what is sorted is a handful of rows.
        ({"Node Type": "Incremental Sort", "Plans": [a_scan(None)]}, True),
        ({**a_scan(None), "Plans": [{"Node Type": "Sort", "Parent Relationship": "SubPlan"}]}, True),
    ],
)
def test_order_comes_from_an_index_or_from_a_sort(plan: dict[str, Any], *, expected: bool) -> None:
    assert plan_is_in_order(plan) is expected
