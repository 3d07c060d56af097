# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False
"""``fast.scalars`` in Triton: one kernel a direction takes the numbers per token from rank space and back.

Notation and formulas are those of ``fast.scalars`` and of the geometries' radial laws, which the tests
compare with in float64; u, G, q and gamma those of ``fast.function``. KIND is the law's name.
"""

import triton
import triton.language as tl

from manifold_lora.adapters.cuda.functions import asin, at_least, at_most, expm1, log1p
from manifold_lora.adapters.fast import scalars as token_scalars

_SMALLEST_NORM = tl.constexpr(token_scalars.SMALLEST_NORM)
_SMALLEST_IMAGE = tl.constexpr(token_scalars.SMALLEST_IMAGE)
_SMALL_IMAGE = tl.constexpr(token_scalars.SMALL_IMAGE)
_FAR_IMAGE = tl.constexpr(token_scalars.FAR_IMAGE)
_LARGEST_HALF = tl.constexpr(65504.0)


@triton.jit
def _phi(a, KIND: tl.constexpr):
    """phi(a) and phi'(a)."""
    if KIND == "hyperbolic":
        m = expm1(a)
        phi, slope = 0.5 * (m + m / (m + 1.0)), 0.5 * (m + 1.0 + 1.0 / (m + 1.0))
    elif KIND == "ball":
        m = expm1(a)
        phi, slope = m / (m + 2.0), 2.0 * ((m + 1.0) / (m + 2.0)) / (m + 2.0)
    elif KIND == "round":
        half = 0.5 * a
        phi, slope = tl.sin(half) / tl.cos(half), 0.5 / (tl.cos(half) * tl.cos(half))
    else:
        phi, slope = tl.sin(a), tl.cos(a)
    return phi, slope


@triton.jit
def _psi(z, KIND: tl.constexpr):
    """psi(z) and psi'(z), z >= 0."""
    if KIND == "hyperbolic":
        root = tl.sqrt(1.0 + z * z)
        theta, slope = log1p(z + z * z / (1.0 + root)), 1.0 / root
    elif KIND == "ball":
        theta, slope = log1p(2.0 * z / (1.0 - z)), 2.0 / ((1.0 - z) * (1.0 + z))
    elif KIND == "round":
        # atan by asin; beyond 1 the complement, where asin's argument is small.
        root = tl.sqrt(1.0 + z * z)
        theta = 2.0 * tl.where(z > 1.0, 1.5707963267948966 - asin(1.0 / root), asin(z / root))
        slope = 2.0 / (1.0 + z * z)
    else:
        theta, slope = asin(z), 1.0 / tl.sqrt((1.0 - z) * (1.0 + z))
    return theta, slope


@triton.jit
def _image(
    n,
    length,
    out,
    R,
    alpha,
    KIND: tl.constexpr,
    UNIT: tl.constexpr,
    CAP: tl.constexpr,
    EDGE: tl.constexpr,
    LIMIT: tl.constexpr,
):
    """(n, beyond the limit, a beyond the cap, phi, phi'(a), k, z, clipped before B, clipped after B)."""
    n = at_least(n, _SMALLEST_NORM)
    a = n * 0.0 + alpha / R if UNIT else n / R
    entered = at_most(a, LIMIT)
    within = at_most(entered, CAP)
    phi, phi_slope = _phi(within, KIND)
    k = phi / entered
    if UNIT:
        k = k * (alpha / n)
    z = at_least(out / n * phi, _SMALLEST_IMAGE)
    early = z < z
    late = early
    if KIND == "ball" or KIND == "spherical":
        middle = length / n * phi
        early = middle > EDGE
        shrink = EDGE / at_least(middle, EDGE)
        late = z * shrink > EDGE
        shrink = tl.where(late, EDGE / z, shrink)
        z, k = z * shrink, k * shrink
    return n, a > LIMIT, entered - within, phi, phi_slope, k, z, early, late


@triton.jit
def _rows_of(u_ptr, gram_ptr, square_ptr, rows, ranks, tokens, rank):
    """u, u G, abs(x), abs(u) and abs(B u) of a block of tokens, in float64."""
    live, inside = rows < tokens, ranks < rank
    tile = rows.to(tl.int64)[:, None] * rank + ranks[None, :]
    u = tl.load(u_ptr + tile, mask=live[:, None] & inside[None, :], other=0.0).to(tl.float32).to(tl.float64)
    turned = u * 0.0
    for j in range(rank):
        column = tl.load(u_ptr + rows.to(tl.int64) * rank + j, mask=live, other=0.0)
        line = tl.load(gram_ptr + j * rank + ranks, mask=inside, other=0.0)
        turned += column.to(tl.float32).to(tl.float64)[:, None] * line[None, :]
    # Rows beyond the last have length 1: no warning of the interpreter's arithmetic is about them.
    n = tl.sqrt(tl.load(square_ptr + rows, mask=live, other=1.0).to(tl.float64))
    out = tl.sqrt(at_least(tl.sum(turned * u, axis=1), 0.0))
    return u, turned, n, tl.sqrt(tl.sum(u * u, axis=1)), out


@triton.jit
def _narrow(wide, dtype: tl.constexpr):
    """``fused_function.narrow``."""
    if dtype == tl.float16:
        wide = at_least(at_most(wide, _LARGEST_HALF), -_LARGEST_HALF)
    return wide.to(tl.float32).to(dtype)


@triton.jit
def gains(
    u_ptr,
    gram_ptr,
    square_ptr,
    radius_ptr,
    length_ptr,
    factor_ptr,
    w_ptr,
    tokens,
    rank,
    KIND: tl.constexpr,
    UNIT: tl.constexpr,
    CAP: tl.constexpr,
    EDGE: tl.constexpr,
    LIMIT: tl.constexpr,
    ROWS: tl.constexpr,
    RANKS: tl.constexpr,
):
    """W = factor c u."""
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    ranks = tl.arange(0, RANKS)
    u, _, n, length, out = _rows_of(u_ptr, gram_ptr, square_ptr, rows, ranks, tokens, rank)
    R, alpha, factor = tl.load(radius_ptr), tl.load(length_ptr), tl.load(factor_ptr)
    _, _, excess, _, _, k, z, _, _ = _image(n, length, out, R, alpha, KIND, UNIT, CAP, EDGE, LIMIT)
    theta, _ = _psi(z, KIND)
    if KIND == "hyperbolic":
        theta += tl.where(z > _FAR_IMAGE, excess, 0.0)
    w = u * (theta / z * k * factor)[:, None]
    tile = rows.to(tl.int64)[:, None] * rank + ranks[None, :]
    mask = (rows < tokens)[:, None] & (ranks < rank)[None, :]
    tl.store(w_ptr + tile, _narrow(w, w_ptr.dtype.element_ty), mask=mask)


@triton.jit
def slopes(
    P_ptr,
    u_ptr,
    gram_ptr,
    square_ptr,
    radius_ptr,
    length_ptr,
    factor_ptr,
    dU_ptr,
    w_ptr,
    bent_ptr,
    along_ptr,
    sums_ptr,
    tokens,
    rank,
    KIND: tl.constexpr,
    UNIT: tl.constexpr,
    CAP: tl.constexpr,
    EDGE: tl.constexpr,
    LIMIT: tl.constexpr,
    BENT: tl.constexpr,
    ROWS: tl.constexpr,
    RANKS: tl.constexpr,
):
    """dU, W, gamma c_q/q u, gamma c_n/n, and sums over the block."""
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    ranks = tl.arange(0, RANKS)
    live = rows < tokens
    mask = live[:, None] & (ranks < rank)[None, :]
    tile = rows.to(tl.int64)[:, None] * rank + ranks[None, :]
    u, turned, n, length, out = _rows_of(u_ptr, gram_ptr, square_ptr, rows, ranks, tokens, rank)
    R, alpha, factor = tl.load(radius_ptr), tl.load(length_ptr), tl.load(factor_ptr)
    n, past, excess, phi, phi_slope, k, z, early, late = _image(
        n, length, out, R, alpha, KIND, UNIT, CAP, EDGE, LIMIT
    )
    theta, psi_slope = _psi(z, KIND)
    if KIND == "hyperbolic":
        theta += tl.where(z > _FAR_IMAGE, excess, 0.0)
    c = theta / z * k
    e = tl.where(late, 0.0, psi_slope * k)
    d = psi_slope * phi_slope
    if UNIT:
        d = d * (alpha / n)
    d = tl.where(past, c, tl.where(late | early, 0.0, d))
    carried = tl.where(late | early, 0.0, e)
    along = -carried if UNIT else d - carried

    P = tl.load(P_ptr + tile, mask=mask, other=0.0).to(tl.float32).to(tl.float64)
    by_factor = tl.sum(P * u, axis=1) * c
    P *= factor
    gamma = tl.sum(P * u, axis=1)
    # Where z is small e - c cancels: the second term of psi's series is exact there.
    bent = phi / n
    near = z < _SMALL_IMAGE
    by_out = gamma * tl.where(near, BENT * k * bent * bent, (e - c) / at_least(out * out, _SMALLEST_IMAGE))
    dU = c[:, None] * P + by_out[:, None] * turned
    if KIND == "ball" or KIND == "spherical":
        short = at_least(length, _SMALLEST_NORM)
        dU += tl.where(early, -gamma * e / (short * short), 0.0)[:, None] * u
    tl.store(dU_ptr + tile, _narrow(dU, dU_ptr.dtype.element_ty), mask=mask)
    tl.store(w_ptr + tile, _narrow(u * (c * factor)[:, None], w_ptr.dtype.element_ty), mask=mask)
    tl.store(bent_ptr + tile, (by_out[:, None] * u).to(tl.float32), mask=mask)
    tl.store(along_ptr + rows, (gamma * along / (n * n)).to(tl.float32), mask=live)
    sums = sums_ptr + tl.program_id(0) * 3
    tl.store(sums, tl.sum(tl.where(live, gamma * (c - d), 0.0), axis=0))
    tl.store(sums + 1, tl.sum(tl.where(live, gamma * d, 0.0), axis=0))
    tl.store(sums + 2, tl.sum(tl.where(live, by_factor, 0.0), axis=0))
