"""Gradients in fewer bytes: codecs for messages, and compressions of the sums of a bucket."""

from pipemlp.gradients.compression.codec import Codec
from pipemlp.gradients.compression.compression import Compression
from pipemlp.gradients.compression.making import make_codec, make_compression
from pipemlp.gradients.compression.sender import Sender

__all__ = ["Codec", "Compression", "Sender", "make_codec", "make_compression"]
