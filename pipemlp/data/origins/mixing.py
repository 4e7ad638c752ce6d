"""The splitmix64 finalizer, vectorised: the stateless hash behind the sample order and the synthetic rows."""

import numpy as np

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15


def mix(values: np.ndarray) -> np.ndarray:
    """Scramble uint64 values; a bijection on 64 bits (Steele, Lea, Flood 2014, "Fast splittable generators")."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: np.ndarray = values ^ (values >> np.uint64(31))
    return mixed


def derive_key(*parts: int) -> int:
    """One 64-bit key from several integers; other parts, or another order of them, give another key."""
    key = 0
    for part in parts:
        key = (key + _GOLDEN + (part & _MASK)) & _MASK
        key = ((key ^ (key >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        key = ((key ^ (key >> 27)) * 0x94D049BB133111EB) & _MASK
        key ^= key >> 31
    return key
