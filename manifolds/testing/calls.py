"""Properties of how operations may be called: broadcast, vectorised, traced, many times over."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from manifold_lora.manifolds.base import Manifold
from manifold_lora.manifolds.testing.agreement import Check
from manifold_lora.manifolds.testing.case import Case
from manifold_lora.manifolds.testing.properties import of_every_geometry

Call = Callable[..., Tensor]


def _calls(m: Manifold) -> dict[str, tuple[Call, str]]:
    """Every operation, and what its arguments are: free vector v, points x and y, vectors u and w at x."""
    return {
        "expmap0": (m.expmap0, "v"),
        "logmap0": (m.logmap0, "x"),
        "lift": (lambda v: m.lift(v / 4), "v"),
        "coords": (m.coords, "x"),
        "projx": (m.projx, "x"),
        "proju": (m.proju, "xu"),
        "inner": (m.inner, "xuw"),
        "egrad2rgrad": (m.egrad2rgrad, "xu"),
        "expmap": (m.expmap, "xu"),
        "logmap": (m.logmap, "xy"),
        "dist": (m.dist, "xy"),
        "sqdist": (m.sqdist, "xy"),
        "norm": (m.norm, "xu"),
        "transp": (m.transp, "xyu"),
    }


def _arguments(case: Case) -> dict[str, Tensor]:
    x = case.point(0)
    return {
        "v": case.free(0),
        "x": x,
        "y": case.point(1),
        "u": case.tangent(x, 2),
        "w": case.tangent(x, 3),
    }


def _size(case: Case, tensors: list[Tensor], got: Tensor) -> Tensor:
    """What a result's rounding is relative to: itself, and what went in."""
    largest = max(tensor.abs().max().item() for tensor in tensors)
    return (got.detach().abs().amax(-1, keepdim=True) + largest) * case.condition**2


@of_every_geometry(radii=(1.0, 0.1, 1e-4))
def all_pairs(check: Check) -> None:
    """Points (a, 1) with points (1, b) give all pairs: each is what the two give alone."""
    case, given = check.case, _arguments(check.case)
    for name, (act, letters) in _calls(case.manifold).items():
        if letters in ("v", "x"):
            continue
        # Vectors stay with their point x; y, where there is one, goes along the other axis.
        left = [given[c][:, None] if c != "y" else given[c][None, :] for c in letters]
        got = act(*left)
        for j in range(len(given["x"]) if "y" in letters else 1):
            rows = [given[c][i] if c != "y" else given[c][j] for i in (0, 1) for c in letters]
            half = len(letters)
            for i in (0, 1):
                want = act(*rows[i * half : (i + 1) * half])
                check.hold(got[i, j].shape == want.shape, f"{name} of all pairs has shape {tuple(got.shape)}")
                check.agree(got[i, j][None], want[None], _size(case, left, want[None]))


@of_every_geometry(radii=(1.0, 1e-4), effort=0.5)
def arguments_stay(check: Check) -> None:
    """No operation writes into its arguments."""
    given = _arguments(check.case)
    for name, (act, letters) in _calls(check.case.manifold).items():
        mine = [given[c].clone() for c in letters]
        act(*mine)
        same = all(torch.equal(tensor, given[c]) for tensor, c in zip(mine, letters, strict=True))
        check.hold(same, f"{name} changes its arguments")


@of_every_geometry(radii=(1.0, 1e-4, 2.5), effort=0.5)
def vectorised(check: Check) -> None:
    """torch.func.vmap over rows gives what a batch gives, and jvp what the backward pass gives."""
    case, given = check.case, _arguments(check.case)
    for name, (act, letters) in _calls(case.manifold).items():
        tensors = [given[c] for c in letters]
        want = act(*tensors)
        check.agree(torch.func.vmap(act)(*tensors), want, _size(case, tensors, want))
        starts = [tensor.clone().requires_grad_() for tensor in tensors]
        pushed = tuple(case.ambient(tensor, i) * tensor.abs().max() for i, tensor in enumerate(tensors))
        weight = case.ambient(want, 9)
        value, slope = torch.func.jvp(act, tuple(tensors), pushed)  # type: ignore[misc]
        result = act(*starts)
        if not result.requires_grad:
            check.agree((slope * weight).sum()[None], 0.0, 0.0)
            continue
        grads = torch.autograd.grad(result, starts, weight, materialize_grads=True, allow_unused=True)
        pulled = torch.stack([(g.double() * p.double()).sum() for g, p in zip(grads, pushed, strict=True)])
        size = pulled.abs().sum() + (slope.double() * weight.double()).abs().sum()
        got = (slope.double() * weight.double()).sum()
        check.agree(got[None], pulled.sum()[None], size * case.condition**3, slack=8.0)
        check.hold(value.shape == want.shape, f"{name} under jvp has shape {tuple(value.shape)}")


@of_every_geometry(radii=(1.0,), effort=0.1)
def traceable(check: Check) -> None:
    """No operation looks at the values: it can be traced into one graph, as torch.compile does."""
    given = _arguments(check.case)
    for act, letters in _calls(check.case.manifold).values():
        tensors = [given[c] for c in letters]
        # A wrapped method hides how many arguments it takes.
        trace = make_fx(lambda *args, act=act: act(*args), tracing_mode="fake", _allow_non_fake_inputs=True)
        traced = trace(*tensors)
        check.agree(traced(*tensors), act(*tensors), _size(check.case, tensors, act(*tensors)))


@of_every_geometry(radii=(1.0, 0.1), effort=0.25)
def hundred_steps(check: Check) -> None:
    """The mean of three points, a hundred steps long, stays on the manifold and where it is."""
    case, m = check.case, check.case.manifold
    cloud = case.point(0, 0.5 * case.length)
    x = cloud[0]
    for _ in range(100):
        x = m.expmap(x, m.logmap(x, cloud).mean(0))
    size = x.abs().max() * case.condition**2
    check.agree(m.projx(x)[None], x[None], size)
    check.agree(
        m.norm(x, m.logmap(x, cloud).mean(0))[None], 0.0, case.length * case.condition**2 + case.floor
    )
