"""Write tensors to one safetensors file; what the disk says against it comes as an error of the disk."""

import re
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

_OF_THE_SYSTEM = re.compile(r"\(os error (\d+)\)")


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """One file; tensors on the CPU.

    Raises:
        OSError: if it cannot be written.
    """
    try:
        save_file(dict(tensors), path, metadata=None if metadata is None else dict(metadata))
    except SafetensorError as error:
        found = _OF_THE_SYSTEM.search(str(error))
        if found is None:
            raise
        text = str(error).partition(": ")[2].replace(found[0], "").strip() or str(error)
        raise OSError(int(found[1]), text, str(path)) from error
