"""Mean and standard deviation over blocks of rows, in one pass and without cancellation."""

import numpy as np


class Moments:
    """Running mean and sum of squared deviations per column (Chan, Golub, LeVeque 1979); NaN is skipped."""

    def __init__(self, num_columns: int) -> None:
        self.num_values = np.zeros(num_columns)
        self._mean = np.zeros(num_columns)
        self._squares = np.zeros(num_columns)

    def add(self, block: np.ndarray) -> None:
        """Count another block, float64 [rows, columns]."""
        present = ~np.isnan(block)
        counts = present.sum(axis=0).astype(np.float64)
        filled = np.where(present, block, 0.0)
        means = filled.sum(axis=0) / np.maximum(counts, 1.0)
        squares = (np.where(present, block - means, 0.0) ** 2).sum(axis=0)
        total = self.num_values + counts
        share = counts / np.maximum(total, 1.0)
        step = means - self._mean
        self._mean = self._mean + step * share
        self._squares = self._squares + squares + step**2 * self.num_values * share
        self.num_values = total

    @property
    def means(self) -> tuple[float, ...]:
        """Mean of each column; 0 for a column without values."""
        return tuple(float(mean) for mean in self._mean)

    @property
    def stds(self) -> tuple[float, ...]:
        """Standard deviation of each column (population form); 1 where all values are equal to rounding."""
        stds = np.sqrt(self._squares / np.maximum(self.num_values, 1.0))
        is_constant = stds <= 1e-12 * np.abs(self._mean)
        return tuple(float(std) for std in np.where(is_constant | (stds == 0), 1.0, stds))
