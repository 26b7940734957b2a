"""Reviews pooled on a CPU: each word is widened, scored and summed while it is in the processor's first cache.

The kernels are compiled by Numba when they are first used, for the processor at hand. They hold no lock of Python's, so
threads share the reviews. Every number depends on the reviews alone and not on how many threads there are: some reviews
have a gradient of their own, and these are added up in one order.
"""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numba
import numpy as np
import torch
from llvmlite import ir
from numba.core import cgutils
from numba.extending import intrinsic

from recbole_drex.data.text.feature_store import FeatureStore

_AHEAD = 2  # words that are asked for before they are needed: the memory takes as long as so many to be computed
_LINE = 64  # bytes that come from the memory at a time
_WORDS_OF_A_THREAD = 1 << 14  # fewer are read sooner than a thread is woken
_REVIEWS_OF_A_SLOPE = 64


def _compiled(function: Callable[..., None]) -> Callable[..., None]:
    """``function`` as machine code, kept for the next process where there is a folder to keep it in.

    Sums may be reordered, so that they fit vector instructions; nothing is assumed of infinite values and NaN, by
    which a training that diverged is told.
    """
    options: dict[str, Any] = {"nogil": True, "fastmath": {"reassoc", "contract", "nsz"}}
    try:
        return numba.njit(function, cache=True, **options)
    except RuntimeError:  # no such folder: neither beside this file nor in the user's home
        return numba.njit(function, **options)


@intrinsic
def _ask_for(_, vectors, k, j):
    """The processor's instruction that fetches the memory around ``vectors[k, j]``, without waiting for it."""

    def emit(context, builder, signature, arguments):
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        place = cgutils.get_item_pointer(context, builder, signature.args[0], array, list(arguments[1:]))
        place = builder.bitcast(place, cgutils.voidptr_t)
        kind = ir.FunctionType(ir.VoidType(), [cgutils.voidptr_t, *3 * [cgutils.int32_t]])
        prefetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
        builder.call(prefetch, [place, *(ir.Constant(cgutils.int32_t, flag) for flag in (0, 3, 1))])  # read, keep, data
        return context.get_dummy_value()

    return numba.void(vectors, k, j), emit


@numba.njit(inline="always")
def _ask_ahead(vectors, first, last, r, k, stop):
    """Ask for the word that is read ``_AHEAD`` words after word ``k`` of review ``r``."""
    k += _AHEAD
    if k >= last[r] and r + 1 < stop:
        k += first[r + 1] - last[r]
    if k < len(vectors):
        for j in range(0, vectors.shape[1], _LINE // vectors.itemsize):
            _ask_for(vectors, k, j)  # type: ignore[call-arg]  # Numba fills in the first


@_compiled
def _value(vectors, scales, k, j):
    """Number ``j`` of word ``k``, float32."""
    if scales is None:
        # The bits of a float16, moved to where a float32 has its sign, exponent and fraction, are 2**-112 of its value.
        return np.uint32(vectors[k, j] << 13 & 0x8FFFE000).view(np.float32) * np.float32(2.0**112)
    return np.float32(vectors[k, j]) * scales[k]


@_compiled
def _pool(vectors, scales, first, last, place, start, stop, vector, pooled, weights):
    """Pool the reviews ``start`` to ``stop``, of words ``first`` to ``last``; their weights begin at ``place``.

    The softmax is taken on the way: whenever a score exceeds those before it, what has been summed up is made smaller.
    """
    row = np.empty(vectors.shape[1], np.float32)
    for r in range(start, stop):
        top, total = vector.dtype.type(-np.inf), vector.dtype.type(0)
        sums = pooled[r]
        sums[:] = 0
        for k in range(first[r], last[r]):
            _ask_ahead(vectors, first, last, r, k, stop)
            score = vector.dtype.type(0)
            for j in range(len(row)):
                row[j] = _value(vectors, scales, k, j)
                score += row[j] * vector[j]
            weights[place[r] + k - first[r]] = score
            if score > top:
                smaller = np.exp(top - score)
                top = score
                total *= smaller
                for j in range(len(row)):
                    sums[j] *= smaller
            weight = np.exp(score - top)
            total += weight
            for j in range(len(row)):
                sums[j] += weight * row[j]
        for j in range(len(row)):
            sums[j] /= total
        for k in range(place[r], place[r] + last[r] - first[r]):
            weights[k] = np.exp(weights[k] - top) / total


@_compiled
def _slope(vectors, scales, first, last, place, start, stop, pooled, weights, slopes, gradients):
    """Add up the scoring vector's gradient for the same reviews, given ``slopes`` of their pooled words.

    The score of word k, of weight a, has the gradient a (x_k - pooled)' slope.
    """
    row = np.empty(vectors.shape[1], np.float32)
    for r in range(start, stop):
        gradient = gradients[r // _REVIEWS_OF_A_SLOPE]
        mean = gradient.dtype.type(0)
        for j in range(len(row)):
            mean += pooled[r, j] * slopes[r, j]
        for k in range(first[r], last[r]):
            _ask_ahead(vectors, first, last, r, k, stop)
            own = gradient.dtype.type(0)
            for j in range(len(row)):
                row[j] = _value(vectors, scales, k, j)
                own += row[j] * slopes[r, j]
            own = weights[place[r] + k - first[r]] * (own - mean)
            for j in range(len(row)):
                gradient[j] += own * row[j]


@functools.cache
def _threads(number: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(number, "words")


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_threads.cache_clear)  # threads do not outlive a fork


def _share(work: Callable[[int, int], None], place: np.ndarray, words: int) -> None:
    """Call ``work`` with the start and the end of each part of the reviews, whose ``words`` begin at ``place``.

    There are as many parts and threads as torch has threads, or fewer if words are few.
    """
    parts = max(1, min(torch.get_num_threads(), words // _WORDS_OF_A_THREAD))
    inner = np.searchsorted(place, words * np.arange(1, parts) // parts) // _REVIEWS_OF_A_SLOPE * _REVIEWS_OF_A_SLOPE
    first, *others = itertools.pairwise([0, *inner.tolist(), len(place)])
    waiting = [_threads(parts).submit(work, *part) for part in others]
    work(*first)
    for part in waiting:
        part.result()


class PooledWords(torch.autograd.Function):
    """Attention-weighted means of the words of reviews, with a gradient for the vector that scores the words."""

    @staticmethod
    def forward(
        ctx: Any, vector: torch.Tensor, store: FeatureStore, reviews: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Pool reviews.

        Args:
            vector: what a word's vector is multiplied by to be scored, float32 or float64, (width,).
            store: word features.
            reviews: store rows (n,), each with a word or more.

        Returns:
            Pooled words (n, width), and the weights of the words, one after the other; these have no gradient.
        """
        rows = reviews.numpy()
        first, last = store.offsets[rows], store.offsets[rows + 1]
        length = last - first
        place, words = np.cumsum(length) - length, int(length.sum())
        pooled, weights = vector.new_empty(len(rows), store.width), vector.new_empty(words)
        vectors = store.vectors if store.scales is not None else store.vectors.view(np.int16)
        ctx.read = vectors, store.scales, first, last, place
        arrays = vector.numpy(), pooled.numpy(), weights.numpy()
        _share(lambda start, stop: _pool(*ctx.read, start, stop, *arrays), place, words)
        ctx.save_for_backward(pooled, weights)
        ctx.mark_non_differentiable(weights)
        return pooled, weights

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, slopes: torch.Tensor, _: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        """The gradient of the scoring vector, given that of the pooled words."""
        pooled, weights = ctx.saved_tensors
        parts = slopes.new_zeros(-(-len(slopes) // _REVIEWS_OF_A_SLOPE), slopes.shape[1])
        arrays = pooled.numpy(), weights.numpy(), slopes.contiguous().numpy(), parts.numpy()
        _share(lambda start, stop: _slope(*ctx.read, start, stop, *arrays), ctx.read[-1], len(weights))
        return parts.sum(0), None, None
