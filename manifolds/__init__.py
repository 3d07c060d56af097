"""Manifolds of constant curvature and their products: points, tangent vectors, geodesics, gradients."""

from typing import TYPE_CHECKING

from manifold_lora.lazy import lazy

__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "..errors": "CurvatureError LinearOnlyError ManifoldLoraError PointError UnknownNameError",
        ".base": "Manifold",
        ".build": "build_manifold",
        ".complex_hyperbolic": "ComplexHyperbolic",
        ".curvature": "Curvature",
        ".euclidean": "Euclidean",
        ".frechet": "mean",
        ".gyro": "gyration gyroadd gyroinverse gyroscale",
        ".half_space": "HalfSpace",
        ".klein": "Klein",
        ".lorentz": "Lorentz",
        ".plugins": "load_plugins",
        ".poincare": "Poincare",
        ".product": "Product",
        ".radial": "Radial",
        ".radial_law": "RadialLaw",
        ".registry": "MANIFOLDS",
        ".regression": "Geodesic geodesic_regression",
        ".spec": "CurvatureSpec ManifoldSpec",
        ".sphere": "Sphere",
        ".stereographic": "Stereographic",
        ".wrapped_normal": "WrappedNormal",
    },
)

if TYPE_CHECKING:
    from manifold_lora.errors import CurvatureError as CurvatureError
    from manifold_lora.errors import LinearOnlyError as LinearOnlyError
    from manifold_lora.errors import ManifoldLoraError as ManifoldLoraError
    from manifold_lora.errors import PointError as PointError
    from manifold_lora.errors import UnknownNameError as UnknownNameError
    from manifold_lora.manifolds.base import Manifold as Manifold
    from manifold_lora.manifolds.build import build_manifold as build_manifold
    from manifold_lora.manifolds.complex_hyperbolic import ComplexHyperbolic as ComplexHyperbolic
    from manifold_lora.manifolds.curvature import Curvature as Curvature
    from manifold_lora.manifolds.euclidean import Euclidean as Euclidean
    from manifold_lora.manifolds.frechet import mean as mean
    from manifold_lora.manifolds.gyro import gyration as gyration
    from manifold_lora.manifolds.gyro import gyroadd as gyroadd
    from manifold_lora.manifolds.gyro import gyroinverse as gyroinverse
    from manifold_lora.manifolds.gyro import gyroscale as gyroscale
    from manifold_lora.manifolds.half_space import HalfSpace as HalfSpace
    from manifold_lora.manifolds.klein import Klein as Klein
    from manifold_lora.manifolds.lorentz import Lorentz as Lorentz
    from manifold_lora.manifolds.plugins import load_plugins as load_plugins
    from manifold_lora.manifolds.poincare import Poincare as Poincare
    from manifold_lora.manifolds.product import Product as Product
    from manifold_lora.manifolds.radial import Radial as Radial
    from manifold_lora.manifolds.radial_law import RadialLaw as RadialLaw
    from manifold_lora.manifolds.registry import MANIFOLDS as MANIFOLDS
    from manifold_lora.manifolds.regression import Geodesic as Geodesic
    from manifold_lora.manifolds.regression import geodesic_regression as geodesic_regression
    from manifold_lora.manifolds.spec import CurvatureSpec as CurvatureSpec
    from manifold_lora.manifolds.spec import ManifoldSpec as ManifoldSpec
    from manifold_lora.manifolds.sphere import Sphere as Sphere
    from manifold_lora.manifolds.stereographic import Stereographic as Stereographic
    from manifold_lora.manifolds.wrapped_normal import WrappedNormal as WrappedNormal
