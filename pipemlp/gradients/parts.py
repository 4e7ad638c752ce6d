"""Cut a vector into parts, one per replica, and parts into segments that follow each other on a link."""

from torch import Tensor


def part_of(num_values: int, num_parts: int, index: int) -> slice:
    """Where a part is: as equal as can be, none larger than the last; with fewer values than parts some are empty."""
    return slice(num_values * index // num_parts, num_values * (index + 1) // num_parts)


def num_segments(num_bytes: int, segment_bytes: int) -> int:
    """As few as keep each below `segment_bytes`; at least one."""
    return num_bytes // segment_bytes + 1


def cut(values: Tensor, num_parts: int) -> list[Tensor]:
    """Views of all parts, in order."""
    places = (part_of(len(values), num_parts, index) for index in range(num_parts))
    return list(values.split([place.stop - place.start for place in places]))
