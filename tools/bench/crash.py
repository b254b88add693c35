"""kill -9 in the middle of a drain, and an immediate restart."""

import time
from collections import Counter

from bench.agreed import CONCURRENCY, id_of
from bench.figures import Figure, at_most
from bench.options import Options
from bench.site import PATIENCE, Site, bare, go


def crash(site: Site, options: Options) -> list[Figure]:
    """Calls that are lost or sent twice, and the time until all have been sent."""
    number, enough = options.interrupted, options.interrupted // 3
    site.rest()
    site.sink.reset()
    site.update_first("applications", number)
    site.sink.wait(enough, PATIENCE)
    site.running.kill()
    sent_before = len(site.sink.calls())
    assert sent_before < number, "the daemon was killed too late"
    started = time.monotonic_ns()
    site.start()
    last = site.sink.wait(number, PATIENCE)
    site.running.wait_until_ready(PATIENCE)
    site.wait_until(lambda: not site.pending(), "the last answers to be written down")
    times = Counter(call.application_id for call in site.sink.calls())
    lost = {id_of("applications", row) for row in range(1, number + 1)} - times.keys()
    measure = f"kill -9 after {enough:,} of {number:,} calls, restart at once"
    return [
        Figure(f"{measure}: lost", "calls", len(lost), _lost_by_bare_client(site, number, enough), None, (),
               at_most(0)),
        Figure(f"{measure}: sent twice", "calls", times.total() - len(times), None, None, (),
               at_most(number / 10, CONCURRENCY)),
        Figure(f"{measure}: all sent after", "s", (last - started) / 1e9, None, None, (), at_most(5)),
    ]  # fmt: skip


def _lost_by_bare_client(site: Site, number: int, enough: int) -> float:
    site.sink.reset()
    with bare("post", site.sink.url, str(number)) as client:
        go(client)
        site.sink.wait(enough, PATIENCE)
        client.kill()
        client.wait()
    time.sleep(0.1)  # what it had sent arrives
    return number - len({call.application_id for call in site.sink.calls()})
