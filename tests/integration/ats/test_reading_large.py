"""Pages are bounded in bytes: by whatever way rows are read, each comes once, and few large ones come at a time."""

from support.sessions import Ats
from support.source import opened
from support.watched import a_config

from cdc_sync.ats.reading import Read
from cdc_sync.core.rows import Key

NUMBER = 300
SIZE = 60_000
MOST = 4_000_000 + 2 * SIZE
KEYS: list[Key] = [(str(number),) for number in range(1, NUMBER + 1)]
SHAPE = "shape"


def fill(ats: Ats) -> None:
    """Rows of which the last third is large."""
    ats.execute(
        "INSERT INTO public.applications (id, hellowork_id, status, job_id, created_at, updated_at, source)"
        " SELECT i, 'a' || i, 's', 'j', now(), now(), CASE WHEN i > %s THEN repeat('x', %s) END"
        "   FROM generate_series(1, %s) AS i",
        (NUMBER // 3, SIZE, NUMBER),
    )


def keys_of(read: Read) -> list[Key]:
    assert sum(len(row.source or "") for row in read.rows) < MOST
    return [row.key for row in read.rows]


async def test_walking(database: str, ats: Ats) -> None:
    fill(ats)
    async with opened(a_config(database)) as source:
        for shape in (None, SHAPE):
            page = await source.reader.page(None, 1_000, shape)
            met = keys_of(page)
            while page.last is not None:
                page = await source.reader.page(page.last, 1_000, shape)
                met += keys_of(page)
            assert met == KEYS


async def test_by_key(database: str, ats: Ats) -> None:
    fill(ats)
    gone = [(str(-number),) for number in range(1, 100)]
    async with opened(a_config(database)) as source:
        met: list[Key] = []
        answered: list[Key] = []
        async for read, keys in source.reader.parts_by_key([*gone, *KEYS]):
            met += keys_of(read)
            answered += keys
            assert {row.key for row in read.rows} <= set(keys)
        assert sorted(met) == sorted(KEYS)
        assert sorted(answered) == sorted([*gone, *KEYS])

        assert sorted(row.key for row in (await source.reader.by_key(KEYS)).rows) == sorted(KEYS)


async def test_polling(database: str, ats: Ats) -> None:
    fill(ats)
    async with opened(a_config(database)) as source:
        reader = await source.watermark_reader("updated_at")
        place: Key | None = ("2024-01-01",)
        met: list[Key] = []
        while place is not None:
            page = await reader.page(place, 2_000)
            met += keys_of(Read(page.rows, page.at))
            place = page.last
        assert met == KEYS
