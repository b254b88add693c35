"""A thousand watches: how many statements a look costs, what is named first, and what is only counted."""

import asyncio
import html
import json
import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlencode

import pytest
from support.builders import NOW, WATCH, a_baseline, a_batch, an_observation, some_rules
from support.looking import Admin, admin_server

from cdc_sync.ats.beginning import BaselinePosition
from cdc_sync.config import Config
from cdc_sync.core.batch import Resolved
from cdc_sync.core.conditions import starting
from cdc_sync.core.rows import Unreportable
from cdc_sync.store.driver import Transaction
from cdc_sync.store.sqlite.driver import SqliteTransaction

STRANGE = (
    "applications@tenant 42",
    'applications@"A/b"',
    "applications@été",
    "applications@<b>'x'",
    "applications@100%&a=1",
)
"""Names as schemas of tenants may make them."""

TENANTS = tuple(f"applications@tenant_{number:04}" for number in range(1000 - len(STRANGE)))
WATCHES = (*TENANTS, *STRANGE)


def with_watches(config: Config, watches: tuple[str, ...]) -> Config:
    """The configuration with its only watch under each of these names."""
    (watch,) = config.watches.values()
    return config.model_copy(update={"watches": dict.fromkeys(watches, watch)})


async def fill(admin: Admin, watches: tuple[str, ...]) -> None:
    """Let each watch know an application."""
    done = {"baseline": BaselinePosition(done=True, known=1).to_text()}
    await asyncio.gather(
        *(
            admin.store.capture.apply(some_rules(watch), a_baseline(an_observation(f"hw-{n}"))._replace(positions=done))
            for n, watch in enumerate(watches)
        )
    )


async def hold(admin: Admin, *watches: str) -> None:
    """Let an application of each watch be held."""
    for watch in watches:
        await admin.store.capture.apply(some_rules(watch, max_changes=0), a_batch(an_observation("held")))


async def skip(admin: Admin, *watches: str) -> None:
    """Let each watch have a row that cannot be reported."""
    for watch in watches:
        row = Resolved("skipped", NOW, Unreportable("skipped", ("skipped", "2"), "no such label"))
        await admin.store.capture.apply(some_rules(watch), a_batch(row))


async def bury(admin: Admin, *watches: str) -> None:
    """Let each watch have a dead letter."""
    for watch in watches:
        await admin.store.capture.apply(some_rules(watch), a_batch(an_observation("dead", refused="no such label")))


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a store with a thousand watches that are all well."""
    folder = tmp_path_factory.mktemp("filled")

    async def make() -> None:
        async with admin_server(folder) as admin:
            await fill(admin, WATCHES)

    asyncio.run(make())
    return folder


@pytest.fixture
async def many(filled: Path, tmp_path: Path) -> AsyncIterator[Admin]:
    """A server with these watches."""
    shutil.copytree(filled, tmp_path, dirs_exist_ok=True)
    async with admin_server(tmp_path) as admin:
        admin.config = with_watches(admin.config, WATCHES)
        admin.use(admin.config)
        yield admin


@pytest.fixture
async def sixty(tmp_path: Path) -> AsyncIterator[Admin]:
    """The same with sixty."""
    async with admin_server(tmp_path) as admin:
        admin.config = with_watches(admin.config, WATCHES[-60:])
        admin.use(admin.config)
        await fill(admin, WATCHES[-60:])
        yield admin


async def statements_of(admin: Admin, *paths: str) -> dict[str, int]:
    """How many statements each path costs."""
    seen: list[str] = []

    async def listen(transaction: Transaction) -> None:
        assert isinstance(transaction, SqliteTransaction)
        transaction.connection.set_trace_callback(seen.append)

    await admin.store.driver.transact(listen)
    numbers = {}
    for path in paths:
        await admin.get(path)  # the first look of a process learns the statements' columns
        seen.clear()
        assert (await admin.get(path)).status in (200, 404, 503)
        numbers[path] = len([one for one in seen if one.lstrip().upper().startswith(("SELECT", "WITH", "INSERT"))])
    return numbers


async def test_a_look_costs_as_many_statements_for_a_thousand_watches_as_for_one(many: Admin, tmp_path: Path) -> None:
    await hold(many, *TENANTS[:60])
    await skip(many, *TENANTS[:60])
    paths = ("/", "/api/status", "/readyz", "/metrics", "/application?id=hw-0")
    numbers = await statements_of(many, *paths)
    (tmp_path / "one").mkdir()
    async with admin_server(tmp_path / "one") as one:
        await fill(one, ("applications",))
        await hold(one, "applications")
        await skip(one, "applications")
        assert numbers == await statements_of(one, *paths)
    assert max(numbers.values()) < 30


async def test_readiness_names_ten_reasons_those_first_that_concern_all(many: Admin) -> None:
    many.conditions = {**starting(WATCHES), "store": "the disk is full"}
    await hold(many, TENANTS[7])

    answer = await many.get("/readyz")

    lines = answer.text.splitlines()
    assert answer.status == 503
    assert lines[0] == "store: the disk is full"
    assert len(lines) == 11
    assert lines[-1] == "and 992 more"


async def test_the_status_has_all_and_a_part_if_that_is_asked_for(many: Admin) -> None:
    await hold(many, STRANGE[4])
    await bury(many, STRANGE[1])
    many.conditions = {f"lag {TENANTS[3]}": "changes were last read completely more than 60 s ago"}

    async def names(query: str) -> list[str]:
        report = json.loads((await many.get(f"/api/status{query}")).text)
        return [watch["watch"] for watch in report["watches"]]

    assert await names("") == list(WATCHES)
    assert await names("?problems=1") == [TENANTS[3], STRANGE[1], STRANGE[4]]
    assert await names("?problems=0") == list(WATCHES)
    assert await names("?watch=applications%40tenant_001%25") == list(TENANTS[10:20])
    assert await names("?watch=%2Atenant*2&problems=1") == []
    assert await names("?watch=applications%40100%25%26a%3D1&problems=1") == [STRANGE[4]]
    assert await names("?watch=unknown") == []
    whole, part = [json.loads((await many.get(f"/api/status{query}")).text) for query in ("", "?problems=1")]
    assert whole.keys() == part.keys()
    assert whole["watches"][3] == part["watches"][0]


def rows_of(page: str) -> list[str]:
    """The names of the watches in the table, in their order."""
    return [html.unescape(name) for name in re.findall(r'<th scope="row"><bdi>(.*?)</bdi>', page)]


def text_of(page: str) -> str:
    """All texts of a page, with one blank between words."""
    return " ".join(html.unescape(re.sub("<[^>]*>", " ", page)).split())


async def page_of(admin: Admin, **asked: str) -> str:
    """The page, as an address without a script asks for it."""
    answer = await admin.get(f"/?{urlencode(asked)}", headers={"Accept": "text/html"})
    assert answer.status == 200
    return answer.text


async def test_watches_with_problems_come_first_and_the_rest_is_counted(many: Admin) -> None:
    await bury(many, STRANGE[1])
    await hold(many, STRANGE[3], TENANTS[500])
    many.conditions = {f"lag {TENANTS[3]}": "changes were last read completely more than 60 s ago"}

    page = await page_of(many)

    troubled = [TENANTS[3], TENANTS[500], *sorted([STRANGE[1], STRANGE[3]])]
    assert rows_of(page) == troubled
    text = text_of(page)
    assert "996 watches without problems" in text
    assert "with problems: 4" in text
    assert "all: 1,000" in text
    assert rows_of(await page_of(many, show="all"))[:5] == [*troubled, TENANTS[0]]


async def test_what_is_held_is_shown_whatever_else_is_wrong(sixty: Admin) -> None:
    *late, held = WATCHES[-60:]
    sixty.conditions = {f"lag {watch}": "late" for watch in late}
    await hold(sixty, held)

    page = await page_of(sixty)

    assert held not in rows_of(page), "it is none of the first fifty"
    assert "fuse release --watch" in page.partition('<section id="held"')[2]


@pytest.mark.parametrize("pattern", ["applications@tenant_%93", "Tenant_*93"])
async def test_a_pattern_finds_watches_as_in_the_status(sixty: Admin, pattern: str) -> None:
    assert rows_of(await page_of(sixty, watch=pattern)) == ["applications@tenant_0993"]


async def test_of_a_few_watches_none_is_left_out(admin: Admin) -> None:
    await hold(admin, WATCH)

    page = await page_of(admin, watch="nobody")

    assert rows_of(page) == [WATCH]
    assert '<section id="held"' in page


@pytest.mark.parametrize("name", STRANGE)
async def test_a_watch_is_found_by_its_name_whatever_it_holds(sixty: Admin, name: str) -> None:
    await hold(sixty, name, TENANTS[-1])

    page = await page_of(sixty, watch=name)

    assert rows_of(page) == [name]
    held = page.partition('<section id="held"')[2].partition("</section>")[0]
    assert html.unescape(held).count(f"<h3>{name}") == 1, "and what it holds with it"
    assert "fuse release --watch" in held
    link = re.search(r'<a href="(/\?watch=[^"]*)#held">', await page_of(sixty))
    assert link is not None
    assert rows_of((await sixty.get(html.unescape(link[1]), headers={"Accept": "text/html"})).text) == [TENANTS[-1]]


async def test_a_page_is_small_whatever_is_wrong(many: Admin) -> None:
    many.conditions = {**starting(WATCHES), "store": "the disk is full"}
    await asyncio.gather(*(hold(many, watch) for watch in WATCHES))

    page = await page_of(many)

    text = text_of(page)
    assert len(rows_of(page)) == 50
    assert "the disk is full" in text
    assert text.count("and 991 more") == 1, "of what is wrong"
    assert text.count("and 990 more") == 2, "of what holds entries, above and in its section"
    assert text.count("and 950 more") == 1, "of the watches"
    assert "and 990 more watches: look for them by their names" in text
    assert len(page) < 200_000
