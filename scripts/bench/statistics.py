"""Ratios of interleaved blocks, with intervals."""

import math
import random

RESAMPLES = 4000


def ratio(values, references, seed):
    """Geometric mean of the ratios of paired blocks, with a 95 % bootstrap interval from `seed`."""
    logs = [math.log(a / b) for a, b in zip(values, references)]
    mean = sum(logs) / len(logs)
    source = random.Random(seed)
    means = sorted(
        sum(source.choices(logs, k=len(logs))) / len(logs) for _ in range(RESAMPLES)
    )
    low, high = means[int(0.025 * RESAMPLES)], means[int(0.975 * RESAMPLES) - 1]
    return tuple(math.exp(value) for value in (mean, low, high))


def median(values):
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else sum(ordered[middle - 1 : middle + 1]) / 2
