"""What is pushed to a server is what the server reads, whatever the codec, wherever the parts are cut."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipemlp.config.gradients import GradientsConfig
from pipemlp.gradients.compression.making import make_codec
from pipemlp.gradients.parts import part_of
from pipemlp.gradients.push_messages import PushMessages

SHAPES = [(40, 30), (40,), (64, 40), (64,), (3, 64), (3,)]
"""Two large tensors among small ones."""
SIZE = sum(torch.Size(shape).numel() for shape in SHAPES)


def messages(compression, num_servers: int) -> PushMessages:
    section = GradientsConfig.model_validate({"compression": compression})
    feedback = getattr(section.compression, "error_feedback", False)
    return PushMessages(make_codec(section.compression), SHAPES, num_servers, error_feedback=feedback)


@given(st.integers(1, 7), st.integers(0, 100))
@pytest.mark.parametrize("compression", ["none", {"name": "topk", "ratio": 1.0}], ids=["none", "topk"])
def test_nothing_is_lost_without_compression(compression, num_servers, seed):
    values = torch.randn(SIZE, generator=torch.Generator().manual_seed(seed))
    pushed = messages(compression, num_servers)
    for server, message in enumerate(pushed.encode(values)):
        assert len(message) == pushed.codecs[server].num_bytes
        assert torch.equal(pushed.decode(message.clone(), server), values[part_of(SIZE, num_servers, server)])


@pytest.mark.parametrize("compression", ["bf16", "int8", "onebit", "topk"])
@pytest.mark.parametrize("num_servers", [2, 3])
def test_what_is_left_out_comes_later(compression, num_servers):
    """The average of what is read over many steps of the same gradient tends to the gradient."""
    values = torch.randn(SIZE, generator=torch.Generator().manual_seed(0))
    pushed, total, num_steps = messages(compression, num_servers), torch.zeros(SIZE), 400
    for _ in range(num_steps):
        read = [pushed.decode(message, server) for server, message in enumerate(pushed.encode(values))]
        total += torch.cat(read)
    left_out = torch.cat([sender.state()["residual"] for sender in pushed._senders])
    # what was read and what is still left out are all that was given, but for the rounding of the sums
    assert torch.allclose(total + left_out, num_steps * values, atol=1e-2)
    small = slice(1200, 1240)
    assert torch.allclose(total[small], num_steps * values[small], rtol=1e-4), "small tensors lose nothing"
