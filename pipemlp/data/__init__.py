"""Rows: sources, memory-mapped shards, preprocessing fitted on the training rows, and the order of samples.

Nothing here imports torch; pyarrow and scikit-learn are imported where they are needed.
"""

from pipemlp.data.files.row_writer import RowWriter
from pipemlp.data.files.stream import stream_rows
from pipemlp.data.fitting.preprocessing import Preprocessing
from pipemlp.data.origins.opening import open_source, register_source
from pipemlp.data.origins.source import Column, Source
from pipemlp.data.prepared import PreparedData
from pipemlp.data.preparing import prepare
from pipemlp.data.sampler import batch_positions, steps_per_epoch

__all__ = [
    "Column",
    "PreparedData",
    "Preprocessing",
    "RowWriter",
    "Source",
    "batch_positions",
    "open_source",
    "prepare",
    "register_source",
    "steps_per_epoch",
    "stream_rows",
]
