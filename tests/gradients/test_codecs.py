"""Codecs, and senders with error feedback: what is in a message, what is left out, what is never lost."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipemlp.config.errors import ModelFileError
from pipemlp.gradients.compression.bf16 import Bf16
from pipemlp.gradients.compression.blocks import BLOCK_VALUES
from pipemlp.gradients.compression.codec import Piece
from pipemlp.gradients.compression.float32 import Float32
from pipemlp.gradients.compression.int8 import LARGEST, SMALLEST_SCALE, Int8
from pipemlp.gradients.compression.onebit import COLUMNS, FEWEST_ROWS, OneBit, Signs
from pipemlp.gradients.compression.part_codec import part_codec
from pipemlp.gradients.compression.sender import Sender, load_tensors
from pipemlp.gradients.compression.topk import TopK

CODECS = {
    "float32": Float32(),
    "bf16": Bf16(),
    "int8": Int8(),
    "topk": TopK(0.01),
    "topk, a third": TopK(0.34),
    "topk, all": TopK(1.0),
    "topk of sums": TopK(0.01).for_sums(3),
    "onebit": OneBit(),
    "onebit, narrow": OneBit().for_pieces([Piece(0, 3), Piece(100, 7, 2), Piece(1999, 40, 5), Piece(5001, 100, 99)]),
}
sizes = st.one_of(st.integers(0, 20), st.integers(0, 5000))
seeds = st.integers(0, 2**31)
shapes_of_tensors = st.sampled_from([(40, 30), (30,), (), (1200, 1), (3, 700), (2, 30, 40), (0, 5)])


def vector(num_values: int, seed: int = 0) -> torch.Tensor:
    """Of magnitudes over several powers of ten, as those of gradients are, a quarter of them zero."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(num_values, generator=generator) * torch.rand(num_values, generator=generator).pow(6)
    return values * (torch.rand(num_values, generator=generator) > 0.25)


def size_for(name: str, num_values: int) -> int:
    return 100 + 1999 + 5001 if name == "onebit, narrow" else num_values


def decoded(codec, values: torch.Tensor) -> torch.Tensor:
    return codec.decode(codec.encode(values), len(values))


@pytest.mark.parametrize("name", CODECS)
@given(sizes, seeds)
@settings(max_examples=25, deadline=None)
def test_a_message_is_as_long_as_said_and_the_same_each_time(name, num_values, seed):
    codec, values = CODECS[name], vector(size_for(name, num_values), seed)
    before = values.clone()
    message = codec.encode(values)
    assert message.dtype == torch.uint8
    assert len(message) == codec.message_bytes(len(values))
    assert len(message) % 4 == 0
    assert torch.equal(message, codec.encode(values.clone()))
    result = codec.decode(message, len(values))
    assert result.dtype == torch.float32 and result.shape == values.shape
    result.zero_()
    assert torch.equal(message, codec.encode(values)) and torch.equal(values, before), "memory of its own"


@pytest.mark.parametrize("name", CODECS)
def test_a_message_in_the_middle_of_others_is_read_in_place(name):
    codec, values = CODECS[name], vector(size_for(name, 1003))
    message = codec.encode(values)
    room = torch.full((len(message) + 8,), 255, dtype=torch.uint8)
    room[4:-4] = message
    assert torch.equal(codec.decode(room[4:-4], len(values)), codec.decode(message, len(values)))


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("value", [0.0, -0.0, 1e-45, -3e-38, 1e-30, 1e30])
def test_equal_values_stay_finite_and_zeros_zero(name, value):
    codec = CODECS[name]
    values = torch.full((size_for(name, 3000),), value)
    result = decoded(codec, values)
    assert result.isfinite().all()
    assert (result - values).norm() <= values.norm()
    if value == 0:
        assert not result.any()


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@given(seeds, st.integers(0, 7099))
@settings(max_examples=30, deadline=None)
def test_what_is_not_finite_stays_so(name, value, seed, place):
    codec = CODECS[name]
    values = vector(size_for(name, 7100), seed)
    values[place] = value
    assert not decoded(codec, values).isfinite().all()


@pytest.mark.parametrize("name", CODECS)
@given(seeds, st.integers(-30, 30))
@settings(max_examples=25, deadline=None)
def test_less_is_left_out_than_there_was(name, seed, power):
    """What error feedback needs, whatever the scale."""
    values = vector(size_for(name, 3001), seed) * 10.0**power
    left_out = values - decoded(CODECS[name], values)
    assert left_out.double().norm() < values.double().norm()


@given(sizes, seeds)
@settings(max_examples=25, deadline=None)
def test_int8_is_off_by_half_a_step_at_most(num_values, seed):
    values = vector(num_values, seed)
    error = (values - decoded(Int8(), values)).abs()
    for of_block, error_of_block in zip(values.split(BLOCK_VALUES), error.split(BLOCK_VALUES), strict=True):
        if len(of_block):
            step = of_block.abs().max() / LARGEST
            assert error_of_block.max() <= step * (0.5 + 1e-4) + 127 * SMALLEST_SCALE


@given(sizes, seeds)
@settings(max_examples=25, deadline=None)
def test_bf16_rounds_to_nearest(num_values, seed):
    values = vector(num_values, seed)
    assert torch.equal(decoded(Bf16(), values), values.bfloat16().float())


def largest_values(values: torch.Tensor, num_sent: int) -> torch.Tensor:
    """By sorting; of equal magnitudes the first."""
    order = values.abs().sort(descending=True, stable=True).indices[:num_sent]
    return torch.zeros_like(values).index_copy_(0, order, values[order])


@given(st.integers(1, 600), seeds, st.floats(0.001, 1.0), st.booleans())
@settings(max_examples=120, deadline=None)
def test_topk_sends_the_largest_and_of_equal_ones_the_first(num_values, seed, ratio, many_equal):
    values = vector(num_values, seed)
    if many_equal:
        values = (values * 3).round()
    codec = TopK(ratio)
    assert codec.num_sent(num_values) >= max(1, math.ceil(ratio * num_values - 1e-6))
    assert torch.equal(decoded(codec, values), largest_values(values, codec.num_sent(num_values)))


def test_topk_counts_shares_exactly():
    assert [TopK(0.07).num_sent(n) for n in (1, 99, 100, 101)] == [1, 7, 7, 8]
    assert TopK(0.3).message_bytes(1000) == 8 * 300
    assert TopK(0.5).message_bytes(1000) == 4 * 1000, "all values, without their places"


@pytest.mark.parametrize("kind", ["spread", "equal", "few equal", "one column", "sparse", "rising", "sampled are zero"])
@pytest.mark.parametrize("ratio", [0.00001, 0.01, 0.3])
def test_topk_of_many_values(kind, ratio):
    """Of so many that the largest are guessed by a sample first, which here may mislead."""
    num_values = 200_000
    values = vector(num_values)
    if kind == "equal":
        values.fill_(-2.0)
    elif kind == "few equal":
        values = (values * 2).round()
    elif kind == "one column":
        values.view(-1, 400)[:, 1:] = 0
    elif kind == "sparse":
        values[100:] = 0
    elif kind == "rising":
        values = torch.arange(num_values).float()
    elif kind == "sampled are zero":
        values[::61] = 0
    codec = TopK(ratio)
    assert torch.equal(decoded(codec, values), largest_values(values, codec.num_sent(num_values)))


def test_topk_sends_what_is_not_finite_first():
    values = vector(1000)
    values[[17, 400, 800]] = torch.tensor([math.inf, math.nan, -math.inf])
    result = decoded(TopK(0.002), values)
    assert result[400].isnan() and result[17].isinf() and not result[800:].any()


@given(st.integers(1, 6), sizes, seeds, st.floats(0.001, 1.0))
@settings(max_examples=25, deadline=None)
def test_topk_of_sums_is_exact(num_replicas, num_values, seed, ratio):
    codec = TopK(ratio)
    total = sum(decoded(codec, vector(num_values, seed + replica)) for replica in range(num_replicas))
    assert torch.equal(decoded(codec.for_sums(num_replicas), total), total)


@given(st.integers(1, 12), st.integers(1, 40), seeds)
@settings(max_examples=25, deadline=None)
def test_signs_of_a_product_of_rows_and_columns_are_all_of_it(num_rows, num_columns, seed):
    generator = torch.Generator().manual_seed(seed)
    rows, columns = torch.randn(num_rows, 1, generator=generator), torch.randn(1, num_columns, generator=generator)
    values = (rows * columns).flatten()
    torch.testing.assert_close(decoded(Signs(num_columns), values), values, rtol=1e-4, atol=1e-6)


@given(st.integers(1, 12), st.integers(1, 40), seeds)
@settings(max_examples=25, deadline=None)
def test_signs_keep_their_sign_and_dead_rows_and_columns_stay_dead(num_rows, num_columns, seed):
    values = vector(num_rows * num_columns, seed).view(num_rows, num_columns)
    values[seed % num_rows] = 0
    values[:, seed % num_columns] = 0
    result = decoded(Signs(num_columns), values.flatten()).view(num_rows, num_columns)
    assert not result[seed % num_rows].any() and not result[:, seed % num_columns].any()
    assert (result * values >= 0).all()


def test_signs_are_the_best_columns_for_their_rows():
    """What is left out has nothing more of any column."""
    values = vector(50 * 30).view(50, 30)
    rows = values.abs().mean(1)
    left_out = values.abs() - decoded(Signs(30), values.flatten()).view(50, 30).abs()
    torch.testing.assert_close(rows @ left_out, torch.zeros(30), rtol=0, atol=1e-5)


def test_one_bit_codes_whole_rows_by_signs_and_the_rest_in_int8():
    whole, columns = 3 * FEWEST_ROWS, 64
    values = vector(20 + whole * columns + 9)
    codec = OneBit().for_pieces([Piece(len(values), columns, start=columns - 20)])
    rows = slice(20, 20 + whole * columns)
    expected = decoded(Int8(), values[:20]), decoded(Signs(columns), values[rows]), decoded(Int8(), values[rows.stop :])
    assert torch.equal(decoded(codec, values), torch.cat(expected))
    too_few = values[: FEWEST_ROWS * columns - 1]
    assert torch.equal(decoded(OneBit().for_pieces([Piece(len(too_few), columns)]), too_few), decoded(Int8(), too_few))


def test_one_bit_takes_little_more_than_a_bit():
    weight = OneBit().for_pieces([Piece(1024 * 1024, 1024)])
    assert weight.message_bytes(1024 * 1024) == 1024 * 1024 // 8 + 4 * 2 * 1024
    assert OneBit().message_bytes(100 * COLUMNS) < 100 * COLUMNS / 8 + 4 * (100 + COLUMNS) + 1


@pytest.mark.parametrize("codec", [Int8(), OneBit(), TopK(0.1), Bf16()], ids=lambda codec: type(codec).__name__)
@given(
    st.lists(st.sampled_from([(40, 30), (30,), (), (1200, 1), (3, 700), (2, 30, 40), (0, 5)]), max_size=6),
    st.integers(1, 5),
)
@settings(max_examples=25, deadline=None)
def test_parts_have_small_tensors_as_they_are(codec, shapes, num_parts):
    sizes = [math.prod(shape) for shape in shapes]
    values = vector(sum(sizes))
    codecs = [part_codec(codec, shapes, num_parts, index) for index in range(num_parts)]
    parts = values.split([part.num_values for part in codecs])
    result = torch.cat([decoded(part_codec, part) for part_codec, part in zip(codecs, parts, strict=True)])
    for shape, sent, found in zip(shapes, values.split(sizes), result.split(sizes), strict=True):
        if len(shape) < 2 or math.prod(shape) < 1024:
            assert torch.equal(found, sent)
    num_small = sum(size for size, shape in zip(sizes, shapes, strict=True) if len(shape) < 2 or size < 1024)
    assert sum(part.num_bytes for part in codecs) >= 4 * num_small


def sent_over(codec, gradients: list[torch.Tensor], error_feedback: bool) -> tuple[torch.Tensor, Sender]:
    sender = Sender(codec, len(gradients[0]), error_feedback=error_feedback)
    total = torch.zeros(len(gradients[0]), dtype=torch.float64)
    for gradient in gradients:
        sender.take([gradient[:10], gradient[10:].view(2, -1)])
        total += codec.decode(sender.encode(), len(gradient)).double()
    return total, sender


@pytest.mark.parametrize("name", CODECS)
@given(seeds, st.integers(1, 8))
@settings(max_examples=20, deadline=None)
def test_what_was_sent_and_what_is_kept_is_all_there_was(name, seed, num_steps):
    gradients = [vector(size_for(name, 3000), seed + step) for step in range(num_steps)]
    total, sender = sent_over(CODECS[name], gradients, error_feedback=True)
    expected = sum(gradient.double() for gradient in gradients)
    torch.testing.assert_close(total + sender.state()["residual"].double(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["int8", "bf16", "topk", "onebit", "onebit, narrow"])
def test_in_the_long_run_the_average_arrives(name):
    gradient = vector(size_for(name, 3000), 5)
    errors = []
    for num_steps in (100, 400):
        total, _ = sent_over(CODECS[name], [gradient] * num_steps, error_feedback=True)
        errors.append((total / num_steps - gradient).norm() / gradient.norm())
    assert errors[1] < 0.35 * errors[0] and errors[1] < 0.15


def test_without_error_feedback_steps_are_independent():
    gradients = [vector(3000, step) for step in range(3)]
    total, sender = sent_over(OneBit(), gradients, error_feedback=False)
    expected = sum(decoded(OneBit(), gradient).double() for gradient in gradients)
    assert torch.equal(total, expected)
    assert sender.state() == {}


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_is_said_once(name, value):
    codec, bad = CODECS[name], vector(size_for(name, 3000))
    bad[7] = value
    sender = Sender(codec, len(bad), error_feedback=True)
    results = []
    for gradient in (vector(len(bad), 1), bad, vector(len(bad), 2)):
        sender.take([gradient])
        results.append(codec.decode(sender.encode(), len(bad)).isfinite().all())
    assert results == [True, False, True]


def test_a_sender_goes_on_from_its_state():
    codec, gradients = TopK(0.01), [vector(3000, step) for step in range(4)]
    _, first = sent_over(codec, gradients[:2], error_feedback=True)
    second = Sender(codec, 3000, error_feedback=True)
    load_tensors(second.state(), {name: tensor.clone() for name, tensor in first.state().items()})
    for gradient in gradients[2:]:
        for sender in (first, second):
            sender.take([gradient])
        assert torch.equal(first.encode(), second.encode())
    with pytest.raises(ModelFileError, match=r"'residual': \(3000,\).*'residual': \(2999,\)"):
        load_tensors(Sender(codec, 2999, error_feedback=True).state(), first.state())
