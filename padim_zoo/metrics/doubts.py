"""What test figures say that chance does not: images in the wrong order, and a broken promise on false alarms."""

from __future__ import annotations

from math import exp, lgamma, log

import numpy as np

from padim_zoo.metrics.conformal import places_above

_ORDER_LEVEL = 0.025
"""One-sided, so that the 95 % interval lies below 0.5."""
_PROMISE_LEVEL = 0.01


def order_doubt(normal: np.ndarray, anomalous: np.ndarray) -> str | None:
    """What to say where normal images score higher than anomalous ones, beyond chance (Mann-Whitney test).

    Parameters
    ----------
    normal, anomalous : ndarray
        Scores of the test images of each kind.
    """
    if not len(normal) or not len(anomalous) or _is_higher(anomalous, normal):
        return None
    from scipy.stats import mannwhitneyu  # half a second to import, and few need it

    if mannwhitneyu(anomalous, normal, alternative="less").pvalue > _ORDER_LEVEL:
        return None
    return (
        "normal test images score higher than anomalous ones: look whether the two are swapped, or whether the "
        "test images were taken in another way than those of the fit"
    )


def promise_doubt(false_alarms: int, n_normal: int, rate: float, n_groups: int) -> str | None:
    """What to say where more normal test images are alarms than a conformal threshold makes likely.

    Of test images like those of the fit, the rate of false alarms has a Beta distribution (Vovk, "Conditional validity
    of inductive conformal predictors", 2012), and their count a beta-binomial one.

    Parameters
    ----------
    false_alarms, n_normal : int
        Of so many normal test images, so many are alarms.
    rate : float
        What was promised.
    n_groups : int
        The different normal images that the threshold rests on.
    """
    above = places_above(rate, n_groups)
    if above < 1 or _chance_of_as_many(false_alarms, n_normal, above, n_groups + 1 - above) > _PROMISE_LEVEL:
        return None
    return (
        f"{false_alarms} of {n_normal} normal test images are alarms, where a rate of {rate:.3g} was promised: they "
        "are not like the images of the fit (another day, light or part), and the threshold does not hold for them"
    )


def _is_higher(scores: np.ndarray, others: np.ndarray) -> bool:
    """Whether some scores are higher than others in at least half of all pairs, where a tie counts half."""
    others = np.sort(others)
    lower, not_higher = (int(np.searchsorted(others, scores, side=side).sum()) for side in ("left", "right"))
    return lower + not_higher >= len(scores) * len(others)


def _chance_of_as_many(count: int, n: int, a: float, b: float) -> float:
    """The probability of ``count`` or more of n by a beta-binomial distribution of parameters a and b."""

    def log_beta(x: float, y: float) -> float:
        return lgamma(x) + lgamma(y) - lgamma(x + y)

    fixed = log(n + 1) + log_beta(a, b)
    return sum(exp(log_beta(k + a, n - k + b) - log_beta(n - k + 1, k + 1) - fixed) for k in range(count, n + 1))
