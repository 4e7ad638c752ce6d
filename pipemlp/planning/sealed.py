"""Files of plain values with a version and a checksum: read back only whole, and unchanged since they were written."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_CHECKSUM = "checksum"


@dataclass(frozen=True)
class Sealed:
    """A kind of such files.

    Args:
        name: of the kind, and of the command that makes one.
        format: version of the file; raised when its meaning changes.
        key: beside `format`, what tells it from other files.
    """

    name: str
    format: int
    key: str

    def text(self, body: Mapping[str, Any]) -> str:
        """The file of these values, as JSON."""
        body = {"format": self.format, **body}
        return json.dumps({**body, _CHECKSUM: _checksum(body)}, indent=1) + "\n"

    def read(self, text: str) -> dict[str, Any]:
        """The values in a file.

        Raises:
            ValueError: if it is none, of another version, cut off, or was changed.
        """
        try:
            body = json.loads(text)
        except ValueError as error:
            raise ValueError(f"is no {self.name}, or was cut off: {error}; {self.name} again") from None
        if not isinstance(body, dict) or not {"format", self.key} <= set(body):
            raise ValueError(f"is no {self.name}; `pipemlp {self.name} CONFIG` makes one")
        if body["format"] != self.format:
            raise ValueError(
                f"has format {body['format']!r}, and this version of pipemlp reads {self.format}; {self.name} again"
            )
        if body.pop(_CHECKSUM, None) != _checksum(body):
            raise ValueError(f"was changed after it was written (its checksum does not fit); {self.name} again")
        return body


def _checksum(body: Mapping[str, Any]) -> str:
    return hashlib.blake2b(json.dumps(body, sort_keys=True).encode(), digest_size=16).hexdigest()
