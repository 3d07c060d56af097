"""A geometry's phi and psi are stated once: change them, and every path of every transform changes alike."""

from dataclasses import replace

import pytest
import torch

from manifold_lora.adapters.spec import AdapterSpec
from manifold_lora.adapters.update import ManifoldUpdate
from manifold_lora.errors import ManifoldLoraError
from manifold_lora.manifolds import Euclidean, Lorentz, Poincare, RadialLaw, Sphere, Stereographic
from manifold_lora.manifolds.registry import MANIFOLDS

GEOMETRIES = {"lorentz": Lorentz, "poincare": Poincare, "sphere": Sphere}
# On the sphere, where time is the cosine, the broken phi still gives points.
BROKEN = {
    "phi": lambda law: {"phi": lambda xp, a: law.phi(xp, 3 * a), "phi_slope": None},
    "psi": lambda law: {"psi": lambda xp, z: 3 * law.psi(xp, z), "psi_slope": None},
}


def every_path(name, transform="direct", **parts):
    """(path, output) of four tokens, and of one token without gradient."""
    generator = torch.Generator().manual_seed(0)
    x, A, B = (
        torch.randn(size, generator=generator, dtype=torch.float64) * 0.02
        for size in ((4, 8), (3, 8), (6, 3))
    )
    spec = AdapterSpec.parse(
        {"manifold": name, "transform": transform, "norm_scaling": "identity", "max_angle": "inf"} | parts
    )
    update = ManifoldUpdate.from_spec(spec, 8, 6, 3).double()
    for path in update.paths():
        update.use(path)
        yield path, update(x.requires_grad_(), A, B).detach()
        with torch.no_grad():
            yield f"{path}, one token", update(x[:1], A, B).expand(4, 6)
    yield "lora", x.detach() @ A.T @ B.T


def broken(monkeypatch, geometry, what):
    law = geometry.radial_law
    monkeypatch.setattr(geometry, "radial_law", replace(law, grows=False, **BROKEN[what](law)))


@pytest.mark.parametrize("what", BROKEN)
@pytest.mark.parametrize(
    ("name", "transform"),
    [*((name, "direct") for name in GEOMETRIES), ("lorentz", "boost"), ("sphere", "boost")],
)
def test_a_broken_law_moves_every_path(name, transform, what, monkeypatch):
    whole = dict(every_path(name, transform))
    broken(monkeypatch, GEOMETRIES[name], what)
    moved = dict(every_path(name, transform))
    assert moved.keys() == whole.keys()
    assert ("fused" in moved) == ((name, transform) != ("sphere", "boost"))
    for path, output in moved.items():
        if "one token" in path or path == "lora":
            continue
        assert (output.norm() / whole[path].norm()) > 2, path
        torch.testing.assert_close(output, moved["general"], rtol=1e-6, atol=1e-9)
        torch.testing.assert_close(moved[f"{path}, one token"][0], output[0], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", GEOMETRIES)
def test_the_charts_ask_the_law(name, monkeypatch):
    geometry = GEOMETRIES[name](-1.0 if name != "sphere" else 1.0).double()
    v = torch.full((3, 4), 0.01, dtype=torch.float64)
    image, back = geometry.coords(geometry.expmap0(3 * v)), geometry.logmap0(geometry.lift(v))
    stretch = geometry.chart_exp(9 * v[:, :1] ** 2)
    broken(monkeypatch, GEOMETRIES[name], "phi")
    torch.testing.assert_close(geometry.coords(geometry.expmap0(v)), image)
    torch.testing.assert_close(geometry.chart_exp(v[:, :1] ** 2), 3 * stretch)
    broken(monkeypatch, GEOMETRIES[name], "psi")
    torch.testing.assert_close(geometry.logmap0(geometry.lift(v)), 3 * back)


@pytest.mark.parametrize("function", ["expmap0", "logmap0", "lift", "coords"])
def test_a_geometry_whose_maps_were_replaced_is_asked_itself(function, monkeypatch):
    plain = getattr(Lorentz, function)
    monkeypatch.setattr(Lorentz, function, lambda self, x: plain(self, x) * 1.5)
    outputs = dict(every_path("lorentz"))
    assert set(outputs) == {"general", "general, one token", "lora"}


@pytest.mark.parametrize("name", GEOMETRIES)
@pytest.mark.parametrize("function", ["expmap0", "logmap0"])
def test_a_subclass_with_another_map_is_asked_itself(name, function):
    """The chart that it inherits says nothing of a map that it writes anew."""
    geometry, kappa = GEOMETRIES[name], 1.0 if name == "sphere" else -1.0
    plain = getattr(geometry, function)
    longer = {
        "expmap0": lambda self, v: plain(self, 1.5 * v),
        "logmap0": lambda self, x: 1.5 * plain(self, x),
    }
    other = type("Other", (geometry,), {function: longer[function]})
    spec = AdapterSpec.parse({"manifold": name, "curvature": kappa, "norm_scaling": "identity"})
    whole, moved = (
        ManifoldUpdate.from_spec(spec, 8, 6, 3, manifold=part(kappa)).double() for part in (geometry, other)
    )
    assert moved.paths() == ("general",)
    generator = torch.Generator().manual_seed(0)
    x, A, B = (
        torch.randn(size, generator=generator, dtype=torch.float64) * 0.1 for size in ((4, 8), (3, 8), (6, 3))
    )
    assert (moved(x, A, B).norm() / whole(x, A, B).norm()) > 1.2
    with torch.no_grad():
        assert (moved(x[:1], A, B).norm() / whole(x[:1], A, B).norm()) > 1.2


def test_a_replaced_chart_is_asked_by_all_that_is_left(monkeypatch):
    whole = dict(every_path("lorentz"))
    plain = Lorentz.chart_exp
    monkeypatch.setattr(Lorentz, "chart_exp", lambda self, sq: 7 * plain(self, sq))
    outputs = dict(every_path("lorentz"))
    assert "fused" not in outputs
    for path in ("rank_space", "general"):
        torch.testing.assert_close(outputs[path], 7 * whole[path], rtol=0.2, atol=0)


class Flared(Euclidean):
    """Flat space in the chart x = sinh|v|/|v| v, which is no identity."""

    radial_law = RadialLaw(phi=lambda xp, a: xp.sinh(a), psi=lambda xp, z: xp.arcsinh(z))


class Bent(Poincare):
    """A ball that somebody else wrote: two functions and nothing more."""

    radial_law = RadialLaw(
        phi=lambda xp, a: xp.tanh(a / 2), psi=lambda xp, z: 2 * xp.arctanh(z), cap=600.0, bounded=True
    )


class Handmade(Lorentz):
    """Another stretch, written as a chart: no law of its parent speaks for it."""

    def chart_exp(self, sq):
        """Twice the hyperboloid's."""
        return 2 * super().chart_exp(sq)


@pytest.fixture
def plugins(monkeypatch):
    for name, part, facts in (
        ("flared", Flared, {"kappa_sign": 0, "extra_dims": 0}),
        ("bent", Bent, {"kappa_sign": -1, "extra_dims": 0}),
        ("handmade", Handmade, {"kappa_sign": -1, "extra_dims": 1}),
    ):
        monkeypatch.setitem(MANIFOLDS._parts, name, part)
        monkeypatch.setitem(MANIFOLDS._metadata, name, facts)


def test_a_plug_in_that_states_two_functions_has_the_fast_path(plugins):
    ours, theirs = dict(every_path("bent")), dict(every_path("poincare"))
    assert ours.keys() == theirs.keys()
    for path, output in ours.items():
        torch.testing.assert_close(output, theirs[path], rtol=1e-13, atol=0)


def test_a_chart_of_its_own_leaves_the_fast_path(plugins):
    outputs = dict(every_path("handmade"))
    assert "fused" not in outputs
    torch.testing.assert_close(outputs["rank_space"], outputs["general"], rtol=1e-11, atol=0)


def test_flat_is_not_linear(plugins):
    spec = AdapterSpec.parse({"manifold": "flared", "norm_scaling": "identity"})
    update = ManifoldUpdate.from_spec(spec, 8, 6, 3)
    assert not spec.is_linear
    assert not update.is_linear
    assert "linear" not in update.paths()
    outputs = dict(every_path("flared"))
    assert {"fused", "rank_space", "general"} <= set(outputs)
    for path in ("fused", "rank_space"):
        torch.testing.assert_close(outputs[path], outputs["general"], rtol=1e-9, atol=1e-13)
    assert (outputs["general"] - outputs["lora"]).abs().max() > 1e-5 * outputs["lora"].abs().max()
    assert AdapterSpec.parse({"manifold": "euclidean"}).is_linear


def test_stereographic_takes_the_fast_path_where_its_sign_is_settled():
    def paths(curvature):
        spec = AdapterSpec.parse({"manifold": "stereographic", "curvature": curvature})
        return ManifoldUpdate.from_spec(spec, 8, 6, 3).paths()

    assert paths(-0.6)[0] == paths(0.4)[0] == paths({"kappa": -0.6, "mode": "learned"})[0] == "fused"
    assert paths(0.0)[0] == paths({"kappa": -0.6, "mode": "free"})[0] == "rank_space"
    assert isinstance(Stereographic(-1.0).radial_law, RadialLaw)


@pytest.mark.parametrize(
    "changes",
    [
        {"phi": lambda xp, a: a * a},
        {"phi": lambda xp, a: abs(a)},
        {"phi": lambda xp, a: xp.arctan(5 * a)},
        {"phi_slope": lambda xp, a: xp.sinh(a)},
        {"psi": lambda xp, z: z.clamp(max=1)},
    ],
    ids=["even", "not analytic", "series too short", "slope of another", "torch only"],
)
def test_what_is_no_radial_law_is_refused(changes):
    with pytest.raises(ManifoldLoraError, match="radial law"):
        replace(Lorentz.radial_law, **changes)
