from pathlib import Path

import pytest

from pipemlp.config.errors import ClusterError
from pipemlp.launching.processes import check_processes, check_world_size


def test_as_many_as_needed():
    check_world_size(8, 4, 2)
    check_world_size(1, 1, 1)
    check_processes(4, 4, "cuda")
    check_processes(64, 0, "cpu")


@pytest.mark.parametrize(
    ("world_size", "stages", "data_parallel", "message"),
    [
        (
            2,
            4,
            2,
            "parallel.stages 4 x parallel.data_parallel 2 = 8 processes, but 2 were started; "
            "start 8, or set parallel.stages=1",
        ),
        (
            1,
            2,
            1,
            "parallel.stages 2 x parallel.data_parallel 1 = 2 processes, but 1 was started; "
            "start 2, or set parallel.stages=1",
        ),
        (
            4,
            1,
            1,
            "parallel.stages 1 x parallel.data_parallel 1 = 1 process, but 4 were started; "
            "start 1, or set parallel.data_parallel=4, or set parallel.stages=4",
        ),
        (3, 2, 2, "parallel.stages 2 x parallel.data_parallel 2 = 4 processes, but 3 were started; start 4"),
    ],
)
def test_world_size(world_size, stages, data_parallel, message):
    with pytest.raises(ClusterError) as error:
        check_world_size(world_size, stages, data_parallel)
    assert str(error.value) == message


def test_world_size_of_a_plan():
    with pytest.raises(ClusterError) as error:
        check_world_size(1, 2, 1, Path("two.plan.json"))
    assert str(error.value) == (
        "--plan: two.plan.json: parallel.stages 2 x parallel.data_parallel 1 = 2 processes, but 1 was started; "
        "start 2, or plan again with --ranks 1"
    )


@pytest.mark.parametrize(
    ("num_processes", "num_devices", "message"),
    [
        (4, 2, "4 processes on a machine with 2 GPUs: each process needs its own; "),
        (2, 1, "2 processes on a machine with 1 GPU: "),
        (1, 0, "run.device is cuda, but this machine has no GPU; set run.device=cpu or auto"),
    ],
)
def test_more_processes_than_gpus(num_processes, num_devices, message):
    with pytest.raises(ClusterError) as error:
        check_processes(num_processes, num_devices, "cuda")
    assert str(error.value).startswith(message)
