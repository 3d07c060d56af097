# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False
"""Elementary functions in float64 for Triton, whose own language ends at exp, log, sqrt, sin and cos.

Its bindings to CUDA's library have more, but not in the interpreter: what runs on a GPU would go untested.
Each function is right to a few units in the last place of float64, and passes NaN on.
"""

import triton
import triton.language as tl


@triton.jit
def expm1(x):
    """exp(x) - 1; rounding errors of exp and log cancel (Kahan; Higham, Accuracy and Stability, 1.14.1)."""
    e = tl.exp(x)
    small = e == 1.0
    return tl.where(small, x, (e - 1.0) * (x / tl.where(small, 1.0, tl.log(e))))


@triton.jit
def log1p(x):
    """log(1 + x) for x >= 0, in the same way."""
    y = 1.0 + x
    small = y == 1.0
    return tl.where(small, x, tl.log(y) * (x / tl.where(small, 1.0, y - 1.0)))


@triton.jit
def asin(x):
    """asin(x), abs(x) <= 1: fdlibm's rational approximation to 1/2, from there by the half-angle formula."""
    far = tl.abs(x) > 0.5
    square = tl.where(far, (1.0 - tl.abs(x)) * 0.5, x * x)
    near = tl.where(far, tl.sqrt(square), tl.abs(x))
    p = 7.91534994289814532176e-04 + square * 3.47933107596021167570e-05
    p = 2.01212532134862925881e-01 + square * (-4.00555345006794114027e-02 + square * p)
    p = 1.66666666666666657415e-01 + square * (-3.25565818622400915405e-01 + square * p)
    q = -6.88283971605453293030e-01 + square * 7.70381505559019352791e-02
    q = 1.0 + square * (-2.40339491173441421878e00 + square * (2.02094576023350569471e00 + square * q))
    angle = near + near * (square * p / q)
    angle = tl.where(far, 1.5707963267948966 - 2.0 * angle, angle)
    return tl.where(x < 0.0, -angle, angle)


@triton.jit
def at_least(x, low):
    """The maximum of both; NaN where x is NaN, as torch's and unlike Triton's."""
    return tl.where(x < low, low, x)


@triton.jit
def at_most(x, high):
    """The minimum of both; NaN where x is NaN."""
    return tl.where(x > high, high, x)
