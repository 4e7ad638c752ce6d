"""What all tests share: ranks that are started once per world size, and the `--full` option."""

import json
import os
import signal
from itertools import cycle

import pytest
from hypothesis import settings

settings.register_profile("untimed", deadline=None)  # a busy machine is no mistake
settings.load_profile("untimed")
os.environ.setdefault("DS_ACCELERATOR", "cpu")
for ignored, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(ignored) is signal.SIG_IGN:
        # as in a shell's background job, or below nohup; and so would all processes that the tests send them to
        signal.signal(ignored, usual)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="the full product of the equality tests")


LONG = (
    "test_everything_on_the_page_runs", "test_killed_runs", "test_failures", "test_train", "test_gradients",
    "test_timeline", "test_profile", "test_inference", "test_supervise", "test_api",
)  # fmt: skip
"""Tests and modules that start whole runs, the longest first."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--full"):
        items[:] = [item for item in items if item.get_closest_marker("full") is None]
    items[:] = _long_ones_first(items, int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))


def _long_ones_first(items: list[pytest.Item], num_workers: int) -> list[pytest.Item]:
    """Every worker gets a run of equal length, and takes from others when it is done: long tests must not come last."""
    groups: dict[str, list[pytest.Item]] = {name: [] for name in LONG}
    short = []
    for item in items:
        name = next((name for name in LONG if name in item.nodeid), None)
        (short if name is None else groups[name]).append(item)
    lanes: list[list[pytest.Item]] = [[] for _ in range(num_workers)]
    pages, *others = groups.values()
    for lane, group in zip(cycle(lanes), [*([page] for page in pages), *others], strict=False):
        lane.extend(group)
    share = -(-len(items) // num_workers)
    for lane in lanes:
        free = max(0, share - len(lane))
        lane.extend(short[:free])
        del short[:free]
    return [item for lane in lanes for item in lane] + short


@pytest.fixture(scope="session")
def _pools():
    from ranks import RankPool

    pools: dict[int, RankPool] = {}
    yield pools
    for pool in pools.values():
        if pool.alive:
            pool.close()


@pytest.fixture
def run_on_ranks(_pools):
    """`run_on_ranks(world_size, body, *arguments)` -> results in rank order."""
    from ranks import RankPool

    def run(world_size: int, body, *arguments):
        if world_size not in _pools or not _pools[world_size].alive:
            _pools[world_size] = RankPool(world_size)
        return _pools[world_size].run(body, *arguments)

    return run


@pytest.fixture(scope="session")
def table_run(tmp_path_factory: pytest.TempPathFactory):
    """A trained table regression; see table_run.py."""
    from shared_runs import made_once
    from table_run import TableRun, train_table

    def make(folder):
        (folder / "reported.json").write_text(json.dumps(train_table(folder).reported))

    folder = made_once(tmp_path_factory, "table", make)
    return TableRun(folder, json.loads((folder / "reported.json").read_text()))
