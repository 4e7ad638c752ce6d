"""Compressions of the sums of a bucket: the same everywhere, exact where promised, and nearly as good to train with."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache

import pytest
import torch
from compression_bodies import summed_over
from hypothesis import given, settings
from hypothesis import strategies as st
from thread_links import ThreadLinks, World

from pipemlp.config.errors import ModelFileError
from pipemlp.config.gradients import (
    Bf16Compression,
    CompressionConfig,
    Int8Compression,
    NoCompression,
    OneBitCompression,
    PowerSgdCompression,
    TopKCompression,
)
from pipemlp.gradients.compression import make_codec, make_compression
from pipemlp.gradients.compression.part_codec import part_codec
from pipemlp.gradients.compression.sender import load_tensors
from pipemlp.gradients.fully_connected import FullyConnected
from pipemlp.gradients.ring import Ring

LOSSY = [Bf16Compression(), Int8Compression(), TopKCompression(ratio=0.05), OneBitCompression(), PowerSgdCompression()]
CODED = LOSSY[1:4]
SHAPES = [(48, 64), (48,), (64, 48), (64,), (10, 20), (1040, 2), ()]
SMALL = [1, 3, 4, 6]


def named(settings: CompressionConfig) -> str:
    return settings.name


def gradients(replica: int, step: int = 0, shapes=SHAPES) -> list[torch.Tensor]:
    """Nearly products of a row and a column, as those of weights are."""
    generator = torch.Generator().manual_seed(1000 * step + replica)
    found = []
    for shape in shapes:
        values = torch.randn(shape, generator=generator)
        if len(shape) == 2:
            values = 0.3 * values + torch.randn(shape[0], 1, generator=generator) * torch.randn(
                1, shape[1], generator=generator
            )
        found.append(values)
    return found


def true_sum(num_replicas: int, step: int = 0, shapes=SHAPES) -> list[torch.Tensor]:
    each = [gradients(replica, step, shapes) for replica in range(num_replicas)]
    return [sum(tensors) for tensors in zip(*each, strict=True)]


@dataclass
class Told:
    """What a replica has after every sum, and what it sent."""

    sums: list[list[torch.Tensor]] = field(default_factory=list)
    bytes_sent: list[int] = field(default_factory=list)
    state: dict[str, torch.Tensor] = field(default_factory=dict)


def run(
    settings: CompressionConfig,
    num_replicas: int,
    steps: Iterable[int],
    *,
    early: bool = False,
    state: list[dict[str, torch.Tensor]] | None = None,
    pattern: type = FullyConnected,
    of: Callable = gradients,
    shapes: Sequence[tuple[int, ...]] = SHAPES,
) -> list[Told]:
    """The sums of several steps; `of` gives a replica's gradients."""

    def body(links: ThreadLinks) -> Told:
        compression = make_compression(settings, pattern(links), links, shapes)
        if state is not None:
            load_tensors(compression.state(), state[links.rank])
        told = Told()
        for step in steps:
            views = of(links.rank, step, shapes)
            compression.sum(views)
            told.sums.append(views)
            told.bytes_sent.append(links.bytes_sent)
        told.state = {name: tensor.clone() for name, tensor in compression.state().items()}
        return told

    return World(num_replicas, early).run(body)


def same(one: list[torch.Tensor], two: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize("settings", LOSSY, ids=named)
@pytest.mark.parametrize("num_replicas", [2, 3, 5])
def test_all_replicas_and_runs_have_the_same_bits(settings, num_replicas):
    first, second = (run(settings, num_replicas, range(3), early=early) for early in (False, True))
    for step in range(3):
        for told in first + second:
            assert same(told.sums[step], first[0].sums[step])
    assert all(told.bytes_sent == other.bytes_sent for told, other in zip(first, second, strict=True))


@pytest.mark.parametrize("settings", LOSSY, ids=named)
def test_it_is_about_the_sum_and_small_tensors_are_summed_as_they_are(settings):
    expected = true_sum(3)
    for told in run(settings, 3, [0]):
        for index, (found, wanted) in enumerate(zip(told.sums[0], expected, strict=True)):
            assert found.shape == wanted.shape
            if index in SMALL:
                assert torch.equal(found, wanted)
            else:
                assert (found - wanted).norm() < wanted.norm()


@pytest.mark.parametrize("pattern", [FullyConnected, Ring])
@pytest.mark.parametrize("settings", [NoCompression(), *LOSSY], ids=named)
def test_one_replica_alone_loses_nothing(settings, pattern):
    (told,) = run(settings, 1, [0], pattern=pattern)
    assert same(told.sums[0], gradients(0))
    assert told.bytes_sent == [0]


@pytest.mark.parametrize("settings", CODED, ids=named)
@given(st.lists(st.sampled_from([(40, 30), (30,), (1200, 1), (3, 700), ()]), min_size=1, max_size=4), st.integers(2, 5))
@settings(max_examples=10, deadline=None)
def test_messages_are_as_long_as_their_codec_says(settings, shapes, num_replicas):
    codecs = [part_codec(make_codec(settings), shapes, num_replicas, owner) for owner in range(num_replicas)]
    large = any(len(shape) > 1 for shape in shapes)
    for rank, told in enumerate(run(settings, num_replicas, [0, 1], shapes=shapes)):
        pushed = sum(codec.num_bytes for owner, codec in enumerate(codecs) if owner != rank)
        pulled = (num_replicas - 1) * codecs[rank].for_sums(num_replicas).num_bytes
        if large:
            assert told.bytes_sent == [pushed + pulled, 2 * (pushed + pulled)]


def test_bytes_of_powersgd_and_bf16():
    shapes = [(1024, 512), (512,)]
    (told, _) = run(PowerSgdCompression(rank=4), 2, [0], shapes=shapes)
    assert told.bytes_sent == [4 * (4 * (1024 + 512) + 512)]
    (told, _) = run(Bf16Compression(), 2, [0], shapes=shapes)
    assert told.bytes_sent == [2 * 1024 * 512 + 4 * 512]


@pytest.mark.parametrize("settings", LOSSY, ids=named)
def test_the_first_steps_may_be_exact(settings):
    warm = settings.model_copy(update={"warmup_steps": 2})
    told = run(warm, 3, range(3))[0]
    assert same(told.sums[0], true_sum(3, 0)) and same(told.sums[1], true_sum(3, 1))
    assert not same(told.sums[2], true_sum(3, 2))
    assert same(told.sums[2], run(settings, 3, [2])[0].sums[0]), "nothing was left out before"


@pytest.mark.parametrize("warmup_steps", [0, 1, 4])
@pytest.mark.parametrize("settings", LOSSY, ids=named)
def test_it_goes_on_from_its_state(settings, warmup_steps):
    warm = settings.model_copy(update={"warmup_steps": warmup_steps})
    whole, begun = run(warm, 3, range(6)), run(warm, 3, range(2))
    resumed = run(warm, 3, range(2, 6), state=[told.state for told in begun])
    for one, two in zip(whole, resumed, strict=True):
        assert all(same(a, b) for a, b in zip(one.sums[2:], two.sums, strict=True))
        assert one.state.keys() == two.state.keys()
        assert all(torch.equal(tensor, two.state[name]) for name, tensor in one.state.items())


@pytest.mark.parametrize("settings", LOSSY, ids=named)
def test_a_state_of_another_run_is_refused(settings):
    (told, _) = run(settings, 2, [0])
    for other in (NoCompression(), settings.model_copy(update={"error_feedback": False})):
        with pytest.raises(ModelFileError, match="residual"):
            run(other, 2, [0], state=[told.state] * 2)
    with pytest.raises(ModelFileError, match="this run needs"):
        run(settings, 2, [0], state=[told.state] * 2, shapes=SHAPES[1:])


@pytest.mark.parametrize("settings", LOSSY, ids=named)
def test_without_error_feedback_nothing_is_kept(settings):
    forgetful = settings.model_copy(update={"error_feedback": False})
    told = run(forgetful, 2, [0, 0])[0]
    assert not any("residual" in name for name in told.state)
    if settings.name != "powersgd":  # which still begins where the last step ended
        assert same(told.sums[0], told.sums[1])


@pytest.mark.parametrize("settings", LOSSY, ids=named)
def test_in_the_long_run_everything_arrives(settings):
    """The average of what was summed comes as much nearer to the truth as there are more steps."""
    sums = run(settings, 2, [0] * 120)[0].sums
    for index, wanted in enumerate(true_sum(2)):
        early, late = (
            (torch.stack([step[index] for step in sums[:n]]).mean(0) - wanted).norm() / wanted.norm() for n in (30, 120)
        )
        assert late < 0.1
        if settings.name == "bf16":  # but for what the pattern rounds away
            assert late < 2**-9
        else:
            assert late < 1e-3 or late < 0.4 * early


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("settings", LOSSY, ids=named)
@pytest.mark.parametrize("index", [0, 1])
def test_what_is_not_finite_on_one_replica_is_so_on_all_and_once(settings, value, index):
    def of(replica, step, shapes):
        views = gradients(replica, step, shapes)
        if step == 1 and replica == 2:
            views[index].flatten()[5] = value
        return views

    results = run(settings, 3, range(3), of=of)
    for told in results:
        finite = [all(view.isfinite().all() for view in step) for step in told.sums]
        assert finite == [True, False, True]
        assert same(told.sums[2], results[0].sums[2])


@pytest.mark.parametrize("settings", LOSSY, ids=named)
def test_a_step_without_gradients_is_one(settings):
    def of(replica, step, shapes):
        return [torch.zeros(shape) for shape in shapes] if step == 0 else gradients(replica, 1, shapes)

    told = run(settings, 2, range(60), of=of)[0]
    assert not any(view.any() for view in told.sums[0])
    wanted = true_sum(2, 1)[0]
    assert (torch.stack([step[0] for step in told.sums[1:]]).mean(0) - wanted).norm() < 0.2 * wanted.norm()


@pytest.mark.parametrize("pattern", [FullyConnected, Ring])
@pytest.mark.parametrize(("true_rank", "rank"), [(1, 1), (2, 2), (3, 4), (1, 4)])
def test_powersgd_is_exact_where_the_rank_is(true_rank, rank, pattern):
    shapes = [(40, 60), (60, 40), (60,)]

    def of(replica, step, shapes):
        generator = torch.Generator().manual_seed(0)
        right = [torch.randn(true_rank, shape[1], generator=generator) * (replica + 1) for shape in shapes[:2]]
        generator.manual_seed(step)
        left = [torch.randn(shape[0], true_rank, generator=generator) for shape in shapes[:2]]
        return [*(a @ b for a, b in zip(left, right, strict=True)), torch.ones(60)]

    sums = run(PowerSgdCompression(rank=rank), 3, range(3), of=of, shapes=shapes, pattern=pattern)[0].sums
    for step in range(3):
        exact = [6 * view for view in of(0, step, shapes)[:2]]
        for found, wanted in zip(sums[step], [*exact, 3 * torch.ones(60)], strict=True):
            rounding = 5e-6 if step else 1e-3  # which the random start makes large
            assert (found - wanted).norm() < rounding * wanted.norm()


def test_powersgd_leaves_alone_what_would_not_get_smaller():
    shapes = [(32, 32), (128, 9), (4, 8, 32), (64, 64)]
    sums = run(PowerSgdCompression(rank=16), 2, [0], shapes=shapes)[0].sums[0]
    exact = true_sum(2, 0, shapes)
    assert [torch.equal(*pair) for pair in zip(sums, exact, strict=True)] == [True, True, True, False]


@pytest.mark.parametrize("scale", [1e-15, 1e12])
def test_powersgd_at_any_scale(scale):
    def of(replica, step, shapes):
        return [view * scale for view in gradients(replica, 0, shapes)]

    (plain, _), (scaled, _) = run(PowerSgdCompression(), 2, [0] * 3), run(PowerSgdCompression(), 2, [0] * 3, of=of)
    for one, two in zip(plain.sums, scaled.sums, strict=True):
        for a, b in zip(one, two, strict=True):
            torch.testing.assert_close(b / scale, a, rtol=0, atol=1e-3)


NUM_FEATURES, NUM_CLASSES, NUM_ROWS = 64, 20, 256


def classification(replica: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of a made-up problem; features of very different sizes, some never set, each replica with other ones."""
    generator = torch.Generator().manual_seed(7)
    truth = torch.randn(NUM_FEATURES, NUM_CLASSES, generator=generator)
    generator.manual_seed(replica)
    features = torch.randn(NUM_ROWS, NUM_FEATURES, generator=generator) * torch.linspace(0, 2, NUM_FEATURES)
    features[:, :4] = 0
    noise = torch.randn(NUM_ROWS, NUM_CLASSES, generator=generator)
    return features, (features @ truth + 4 * noise).argmax(1)


@cache
def trained(settings: CompressionConfig, num_steps: int = 150, num_replicas: int = 3) -> float:
    """The loss over all rows after gradient descent with momentum."""

    def body(links: ThreadLinks) -> torch.Tensor:
        rows, labels = classification(links.rank)
        weight = torch.zeros(NUM_CLASSES, NUM_FEATURES, requires_grad=True)
        bias = torch.zeros(NUM_CLASSES, requires_grad=True)
        optimizer = torch.optim.SGD([weight, bias], lr=0.1, momentum=0.5)
        compression = make_compression(settings, FullyConnected(links), links, [weight.shape, bias.shape])
        for _ in range(num_steps):
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(rows @ weight.t() + bias, labels) / num_replicas
            loss.backward()
            compression.sum([weight.grad, bias.grad])
            optimizer.step()
        return torch.cat([weight.detach().flatten(), bias.detach()])

    results = World(num_replicas).run(body)
    assert all(torch.equal(result, results[0]) for result in results)
    weight, bias = results[0].split([NUM_CLASSES * NUM_FEATURES, NUM_CLASSES])
    every = [classification(replica) for replica in range(num_replicas)]
    rows, labels = (torch.cat(parts) for parts in zip(*every, strict=True))
    outputs = rows @ weight.view(NUM_CLASSES, NUM_FEATURES).t() + bias
    return float(torch.nn.functional.cross_entropy(outputs, labels))


@pytest.mark.parametrize("settings", LOSSY, ids=named)
def test_a_model_trains_nearly_as_well(settings):
    exact = trained(NoCompression())
    assert exact < 0.5 * math.log(NUM_CLASSES)
    assert trained(settings) < exact + 0.03


@pytest.mark.parametrize("settings", [LOSSY[2], LOSSY[3], PowerSgdCompression(rank=1)], ids=named)
def test_error_feedback_is_what_makes_it_so(settings):
    assert trained(settings) < trained(settings.model_copy(update={"error_feedback": False}))


@pytest.mark.parametrize("settings", CODED, ids=named)
def test_over_processes_it_is_what_threads_compute(settings, run_on_ranks):
    expected = run(settings, 4, range(3))
    of_all = [[gradients(replica, step) for step in range(3)] for replica in range(4)]
    for (sums, bytes_sent), told in zip(
        run_on_ranks(4, summed_over, settings, "ring", SHAPES, of_all), expected, strict=True
    ):
        assert all(same(one, two) for one, two in zip(sums, told.sums, strict=True))
        assert bytes_sent == told.bytes_sent[-1]


@pytest.mark.parametrize("pattern", ["backend", "tree"])
@pytest.mark.parametrize("settings", [Bf16Compression(), PowerSgdCompression()], ids=named)
def test_any_pattern_sums_what_adds_up(settings, pattern, run_on_ranks):
    expected = run(settings, 4, range(3))[0].sums
    of_all = [[gradients(replica, step) for step in range(3)] for replica in range(4)]
    told = run_on_ranks(4, summed_over, settings, pattern, SHAPES, of_all)
    for sums, _ in told:
        for one, two, first in zip(sums, expected, told[0][0], strict=True):
            assert same(one, first)
            for a, b in zip(one, two, strict=True):
                torch.testing.assert_close(a, b, rtol=0, atol=0.1)
