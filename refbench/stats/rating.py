"""Bradley-Terry ratings with ties (Davidson 1970, JASA 65) over per-sample comparisons, on the Elo scale.

400 points are odds of 10 to 1; the models' mean is 1000. Intervals are symmetric and studentised over
clusters, with the clustered sandwich error of the maximum likelihood estimate.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from refbench.stats.bootstrap import MIN_CLUSTERS, MOST, Floats, absolute_quantile, student_quantile

ELO = 400.0 / np.log(10.0)
MEAN_RATING = 1000.0
PRIOR = 0.5
"""Each pair starts with half a win, half a tie and half a loss, so that a model that never loses has a rating."""


def bradley_terry(
    counts: Floats, pairs: Sequence[tuple[int, int]], count: int, weights: Floats, *, prior: float = PRIOR
) -> tuple[Floats, Floats, Floats, float]:
    """Ratings with ties on the Elo scale, with symmetric studentised intervals over clusters.

    Davidson's model: i beats j with probability proportional to s_i, loses to s_j, ties to v sqrt(s_i s_j).

    Args:
        counts: (K, 3 * pairs) wins, ties and losses of each pair in each cluster.
        pairs: the pairs (i, j) of models the columns stand for.
        count: N models.
        weights: (B, K) how often each cluster enters each resample.
        prior: wins, ties and losses that each pair starts with; :data:`PRIOR` pulls models together where they met
            seldom.

    Returns:
        (N,) ratings, lower and upper ends (NaN with fewer than four clusters), and the share of ties.
    """
    if not pairs:
        only = np.full(count, MEAN_RATING)
        return only, only, only, 0.0
    ones = np.ones((1, len(counts)))
    theta, inverse = _fit(ones @ counts, pairs, count, prior)
    centred = theta[0, :count] - theta[0, :count].mean()
    ratings = MEAN_RATING + ELO * centred
    ties = float(counts[:, 1::3].sum() / max(counts.sum(), 1.0))
    if len(counts) < MIN_CLUSTERS:
        return ratings, np.full(count, np.nan), np.full(count, np.nan), ties
    se = _rating_errors(counts, pairs, count, theta, inverse, ones)[0]
    many, many_inverse = _fit(weights @ counts, pairs, count, prior)
    errors = _rating_errors(counts, pairs, count, many, many_inverse, weights)
    moved = np.abs(many[:, :count] - many[:, :count].mean(1, keepdims=True) - centred)
    limit = MOST * student_quantile(len(counts) - 1)
    half = np.array(
        [
            ELO * se[i] * min(absolute_quantile(moved[:, i], errors[:, i], se[i]), limit) if se[i] > 1e-12 else 0.0
            for i in range(count)
        ]
    )
    return ratings, ratings - half, ratings + half, ties


def told_by(counts: Floats, pairs: Sequence[tuple[int, int]], count: int) -> tuple[Floats, Floats]:
    """How much one more comparison of each pair would tell, and the ratings so far.

    Args:
        counts: (3 * pairs,) wins, ties and losses so far.
        pairs: as for :func:`bradley_terry`.
        count: N models.

    Returns:
        (pairs,) nats by which the determinant of the posterior's covariance shrinks (D-optimality: models that are
        known badly, and pairs whose outcome is open, tell most), and (N,) log strengths.
    """
    theta, inverse = _fit(counts[None], pairs, count, PRIOR)
    chance = _expected(theta, _design(pairs, count))[0]
    shaped = _design(pairs, count).reshape(-1, 3, count + 1)
    mean = np.einsum("po,poi->pi", chance, shaped)
    information = np.einsum("po,poi,poj->pij", chance, shaped, shaped) - np.einsum("pi,pj->pij", mean, mean)
    told: Floats = np.linalg.slogdet(np.eye(count + 1) + inverse[0] @ information)[1]
    return told, theta[0, :count]


def _design(pairs: Sequence[tuple[int, int]], count: int) -> Floats:
    """(3 * pairs, N + 1): log-weight of each outcome as a linear function of (log strengths, log tie)."""
    rows = np.zeros((3 * len(pairs), count + 1))
    for k, (i, j) in enumerate(pairs):
        rows[3 * k, i] = 1.0
        rows[3 * k + 1, [i, j, count]] = 0.5, 0.5, 1.0
        rows[3 * k + 2, j] = 1.0
    return rows


def _expected(theta: Floats, design: Floats) -> Floats:
    """(B, pairs, 3) probabilities of win, tie and loss."""
    logits = (theta @ design.T).reshape(len(theta), -1, 3)
    logits = logits - logits.max(2, keepdims=True)
    weight = np.exp(logits)
    probabilities: Floats = weight / weight.sum(2, keepdims=True)
    return probabilities


def _fit(counts: Floats, pairs: Sequence[tuple[int, int]], count: int, prior: float) -> tuple[Floats, Floats]:
    """Newton's method on the concave log-likelihood, all B resamples at once: (B, N + 1), (B, N + 1, N + 1)."""
    design = _design(pairs, count)
    seen = counts + prior
    trials = seen.reshape(len(seen), -1, 3).sum(2)
    theta = np.zeros((len(counts), count + 1))
    ridge = np.zeros((count + 1, count + 1))
    ridge[:count, :count] = 1.0  # fixes the free constant of the strengths at sum 0
    shaped = design.reshape(-1, 3, count + 1)
    inverse = np.zeros((len(counts), count + 1, count + 1))
    for _ in range(50):
        chance = _expected(theta, design)
        slope = seen @ design - (trials[:, :, None] * chance).reshape(len(seen), -1) @ design - theta @ ridge
        mean = np.einsum("bpo,poi->bpi", chance, shaped)
        second = np.einsum("bp,bpo,poi,poj->bij", trials, chance, shaped, shaped, optimize=True)
        curve = second - np.einsum("bp,bpi,bpj->bij", trials, mean, mean, optimize=True) + ridge
        inverse = np.linalg.inv(curve)
        step = np.einsum("bij,bj->bi", inverse, slope)
        theta = theta + np.clip(step, -2.0, 2.0)
        if np.abs(step).max() < 1e-10:
            break
    return theta, inverse


def _rating_errors(
    counts: Floats, pairs: Sequence[tuple[int, int]], count: int, theta: Floats, inverse: Floats, weights: Floats
) -> Floats:
    """(B, N) clustered sandwich errors of the centred log strengths."""
    design = _design(pairs, count)
    shaped = design.reshape(-1, 3, count + 1)
    mean = np.einsum("bpo,poi->bpi", _expected(theta, design), shaped)
    centre = np.eye(count) - 1.0 / count
    size = len(counts)
    out = np.zeros((len(theta), count))
    trials = counts.reshape(size, -1, 3).sum(2)
    for b in range(len(theta)):
        score = counts @ design - trials @ mean[b]
        influence = score @ inverse[b][:, :count] @ centre
        w = weights[b][:, None]
        spread = (w * influence**2).sum(0) - (w * influence).sum(0) ** 2 / size
        out[b] = np.sqrt(np.maximum(spread, 0.0) * size / (size - 1))
    return out
