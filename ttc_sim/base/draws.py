"""All randomness: uniform numbers that depend only on (seed, stream, position).

NumPy's Philox is counter-based, so the numbers of request ``i`` can be had without those before it: two policies see
the same requests, a changed cap disturbs no other draw, and one request can be replayed alone. Nothing downstream of
the draws is random.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

_PER_BLOCK = 4  # a Philox counter step yields four 64-bit numbers
_AT_ONCE = 16_384


def columns(seed: int, stream: str, count: int, width: int) -> F64:
    """(count, width) uniform numbers whose column ``j`` does not depend on ``width``; arguments as for :func:`uniforms`."""
    out = np.empty((count, width))
    for at in range(0, width, _PER_BLOCK):
        part = min(_PER_BLOCK, width - at)
        out[:, at : at + part] = uniforms(seed, f"{stream}/{at // _PER_BLOCK}", count, part)
    return out


def uniforms(seed: int, stream: str, count: int, width: int = 1, *, start: int = 0) -> F64:
    """Uniform numbers in the open interval (0, 1) for positions ``start`` to ``start + count``.

    Args:
        seed: the scenario's seed, at least 0.
        stream: what the numbers are for; different names are independent.
        count: positions (requests, users, ...).
        width: numbers a position.
        start: the first position.

    Returns:
        Array of shape (count, width). Row ``i`` depends on ``seed``, ``stream``, ``width`` and ``start + i`` alone.

    >>> bool((uniforms(1, "arrivals", 4)[2] == uniforms(1, "arrivals", 1, start=2)[0]).all())
    True
    """
    blocks = -(-width // _PER_BLOCK)
    key = np.frombuffer(hashlib.blake2b(f"{seed}/{stream}".encode(), digest_size=16).digest(), dtype=np.uint64)
    generator = np.random.Philox(key=key, counter=np.array([start * blocks, 0, 0, 0], dtype=np.uint64))
    per_row = blocks * _PER_BLOCK
    out = np.empty((count, width))
    # In pieces that stay in the processor's cache, which is three times as fast.
    piece = max(_AT_ONCE // per_row, 1)
    for at in range(0, count, piece):
        rows = min(piece, count - at)
        raw = generator.random_raw(rows * per_row).reshape(rows, per_row)[:, :width]
        out[at : at + rows] = raw >> np.uint64(12)
    # 52 bits and half a step keep both 0 and 1 out, so that inverse distribution functions stay finite.
    out += 0.5
    out *= 2.0**-52
    return out
