"""From the configuration's section to a codec, or to the compression of a bucket."""

import math
from collections.abc import Sequence

from pipemlp.config.gradients import (
    Bf16Compression,
    CompressionConfig,
    Int8Compression,
    NoCompression,
    OneBitCompression,
    PowerSgdCompression,
    TopKCompression,
)
from pipemlp.gradients.compression.bf16 import Bf16, Bf16Sum
from pipemlp.gradients.compression.codec import Codec
from pipemlp.gradients.compression.coded_sum import CodedSum
from pipemlp.gradients.compression.compression import Compression, LargeOnly, Shape, Uncompressed, WarmUp
from pipemlp.gradients.compression.float32 import Float32
from pipemlp.gradients.compression.int8 import Int8
from pipemlp.gradients.compression.onebit import OneBit
from pipemlp.gradients.compression.powersgd import PowerSgd
from pipemlp.gradients.compression.topk import TopK
from pipemlp.gradients.links import Links
from pipemlp.gradients.pattern import Pattern
from pipemlp.planning.exchange import is_large

CodedConfig = NoCompression | Bf16Compression | Int8Compression | TopKCompression | OneBitCompression
"""Those whose messages stand for themselves."""


def make_codec(settings: CodedConfig) -> Codec:
    """The codec of a compression; messages of `none` are the values."""
    match settings:
        case NoCompression():
            return Float32()
        case Bf16Compression():
            return Bf16()
        case Int8Compression():
            return Int8()
        case TopKCompression():
            return TopK(settings.ratio)
        case OneBitCompression():
            return OneBit()


def make_compression(
    settings: CompressionConfig, pattern: Pattern, links: Links, shapes: Sequence[Shape]
) -> Compression:
    """The compression of the sums of a bucket.

    Args:
        settings: the section `gradients.compression`.
        pattern: sums what adds up; everything, where there is nothing to compress.
        links: for messages that do not add up.
        shapes: of the tensors of the bucket.
    """
    plain = Uncompressed(pattern)
    large = [shape for shape in shapes if is_large(shape)]
    if isinstance(settings, NoCompression) or links.num_replicas == 1 or not large:
        return plain
    feedback = settings.error_feedback
    compression: Compression
    match settings:
        case PowerSgdCompression():
            compression = PowerSgd(pattern, shapes, settings.rank, error_feedback=feedback)
        case Bf16Compression():
            num_values = sum(math.prod(shape) for shape in large)
            compression = LargeOnly(Bf16Sum(pattern, num_values, error_feedback=feedback), plain)
        case _:
            compression = CodedSum(make_codec(settings), links, shapes, error_feedback=feedback)
    return WarmUp(compression, plain, settings.warmup_steps)
