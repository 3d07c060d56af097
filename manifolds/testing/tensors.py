"""Properties of the results as tensors: shapes, dtypes, batches, overflow."""

import torch

from manifold_lora.manifolds.testing.agreement import Check
from manifold_lora.manifolds.testing.properties import of_every_geometry

HALVES = {torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11}


@of_every_geometry()
def shape_dtype_device_kept(check: Check) -> None:
    """Results have the dtype, device and batch shape of their arguments; reductions keep the axis."""
    case, m, v = check.case, check.case.manifold, check.case.free(0)[:, None]
    for dtype in (case.dtype, *HALVES):
        w = v.to(dtype)
        x = m.expmap0(w)
        u = m.logmap(x, x)
        batch, point = w.shape[:-1], case.n + m.extra_dims
        for name, got, last in (
            ("expmap0", x, point), ("logmap0", m.logmap0(x), case.n), ("lift", m.lift(w), point),
            ("coords", m.coords(x), case.n), ("projx", m.projx(x), point), ("proju", m.proju(x, u), point),
            ("inner", m.inner(x, u, u), 1), ("egrad2rgrad", m.egrad2rgrad(x, u), point),
            ("expmap", m.expmap(x, u), point), ("logmap", u, point), ("dist", m.dist(x, x), 1),
            ("norm", m.norm(x, u), 1), ("transp", m.transp(x, x, u), point),
        ):  # fmt: skip
            found = (got.shape, got.dtype, got.device)
            want = (torch.Size((*batch, last)), dtype, w.device)
            check.hold(found == want, f"{name} gave {found}, not {want}")


@of_every_geometry()
def batch_equals_loop(check: Check) -> None:
    """A batch gives what its rows give one by one."""
    case, m = check.case, check.case.manifold
    v, w = case.free(0), case.free(1)
    x, y = m.expmap0(v), m.expmap0(w)
    rows = [(m.expmap0(a), m.expmap0(b)) for a, b in zip(v, w, strict=True)]
    check.agree(x, torch.stack([a for a, _ in rows]))
    size = case.length * case.condition
    check.agree(m.dist(x, y), torch.stack([m.dist(a, b) for a, b in rows]), size)
    u = m.logmap(x, y)
    longest = u.abs().amax(-1, keepdim=True) * case.condition
    check.agree(u, torch.stack([m.logmap(a, b) for a, b in rows]), longest)


@of_every_geometry()
def broadcasting(check: Check) -> None:
    """One origin serves a batch: leading axes broadcast."""
    case, m, x = check.case, check.case.manifold, check.case.point(0)
    o = m.origin(case.n, dtype=case.dtype)
    everywhere = o.expand_as(x)
    u = m.logmap(o, x)
    check.agree(u, m.logmap(everywhere, x), u.abs().amax(-1, keepdim=True))
    check.agree(m.dist(o, x), m.dist(everywhere, x))
    check.agree(m.expmap(o, u), m.expmap(everywhere, u), x.abs().amax(-1, keepdim=True))
    check.agree(
        m.transp(o, x, u), m.transp(everywhere, x, u), u.abs().amax(-1, keepdim=True) * case.condition
    )


@of_every_geometry()
def overflow_saturates(check: Check) -> None:
    """Vectors far beyond the dtype's reach give finite points and finite gradients."""
    case, m = check.case, check.case.manifold
    for length in (1e2, 1e4, 1e18):
        v = case.free(0, length * case.unit).requires_grad_()
        x, z = m.expmap0(v), m.lift(v)
        check.finite(f"expmap0 of length {length:g} R", x)
        check.finite(f"lift of length {length:g} R", z)
        back = m.logmap0(x).sum() + m.logmap0(z).sum()
        check.finite(f"logmap0 beyond length {length:g} R", back)
        check.finite(f"gradient at length {length:g} R", *torch.autograd.grad(back, v))


@of_every_geometry()
def nan_stays(check: Check) -> None:
    """NaN in, NaN out: a guard must not hide it."""
    case, m = check.case, check.case.manifold
    v = torch.full_like(case.free(0), torch.nan)
    check.hold(bool(m.expmap0(v).isnan().any()), "expmap0 hides a NaN")
    check.hold(bool(m.logmap0(m.lift(v)).isnan().any()), "logmap0 after lift hides a NaN")


@of_every_geometry(radii=(1.0, 0.5, 0.1, 1e-4))
def half_precision(check: Check) -> None:
    """bfloat16 and float16 results are the exact ones rounded once: 2^-8 and 2^-11."""
    case = check.case
    m = case.manifold
    for dtype, unit in HALVES.items():
        v, w = (case.free(index, min(case.length, 100.0)).to(dtype) for index in (0, 1))
        x, y = m.expmap0(v), m.expmap0(w)
        wide = (v.to(case.dtype), w.to(case.dtype), x.to(case.dtype), y.to(case.dtype))
        for name, got, want in (
            ("expmap0", x, m.expmap0(wide[0])),
            ("logmap0", m.logmap0(x), m.logmap0(m.projx(wide[2]))),
            ("dist", m.dist(x, y), m.dist(m.projx(wide[2]), m.projx(wide[3]))),
        ):
            error = (got.double() - want.double()).abs().max().item()
            allowed = 1.01 * unit * want.abs().max().item() + torch.finfo(dtype).tiny
            check.hold(error <= allowed, f"{name} in {dtype}: error {error:.3g}, allowed {allowed:.3g}")
            check.worst.note(error, error / max(want.abs().max().item(), 1e-300), allowed)
