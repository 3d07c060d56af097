"""Fréchet mean on each geometry and a tree in the plane of negative curvature, by geoopt's optimisers.

``python -m manifold_lora.experiments.examples.frechet --out outputs/frechet``
"""

import argparse
import math
from pathlib import Path

import geoopt
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from torch import Tensor

from manifold_lora.experiments.reports.figures.style import CYCLE, FAINT, INK, png, styled
from manifold_lora.manifolds import Euclidean, Lorentz, Manifold, Poincare, Sphere
from manifold_lora.models.riemannian import riemannian_parameter


def frechet_mean(manifold: Manifold, points: Tensor, steps: int = 200) -> Tensor:
    """The point of least summed squared distance to the rows of ``points``, by RiemannianSGD."""
    mean = riemannian_parameter(points[0], manifold)
    optimizer = geoopt.optim.RiemannianSGD([mean], lr=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        manifold.dist(mean[None], points).square().mean().backward()
        optimizer.step()
    return mean.detach()


def tree(branching: int = 3, depth: int = 3) -> tuple[Tensor, list[tuple[int, int]]]:
    """Path lengths between the nodes of a balanced tree, and its edges (parent, child)."""
    edges, level, count = [], [0], 1
    for _ in range(depth):
        grown = []
        for parent in level:
            for _ in range(branching):
                edges.append((parent, count))
                grown.append(count)
                count += 1
        level = grown
    lengths = torch.full((count, count), float("inf"), dtype=torch.float64).fill_diagonal_(0)
    for a, b in edges:
        lengths[a, b] = lengths[b, a] = 1.0
    for via in range(count):
        lengths = torch.minimum(lengths, lengths[:, via, None] + lengths[None, via])
    return lengths, edges


def distortion(manifold: Manifold, points: Tensor, lengths: Tensor) -> Tensor:
    """Mean relative error of the distances between rows against ``lengths``."""
    i, j = torch.triu_indices(len(points), len(points), 1)
    got = manifold.dist(points[i], points[j]).squeeze(-1)
    return (got / lengths[i, j] - 1).abs().mean()


def unfold(manifold: Manifold, edges: list[tuple[int, int]]) -> Tensor:
    """Sarkar's construction: the children of a node leave it in equal angles, parent included.

    Source: Sarkar, "Low distortion Delaunay embedding of trees in hyperbolic plane", GD 2011.
    """
    origin = manifold.origin(2, dtype=torch.float64)
    children: dict[int, list[int]] = {}
    for parent, child in edges:
        children.setdefault(parent, []).append(child)
    points, parents = {0: origin}, {child: parent for parent, child in edges}
    for node, kept in children.items():  # Parents come before their children.
        start, turns = 0.0, len(kept)
        if node in parents:
            back = manifold.logmap0(manifold.transvect(points[node], origin, points[parents[node]]))
            start, turns = math.atan2(back[1].item(), back[0].item()), len(kept) + 1
        for i, child in enumerate(kept, start=1):
            angle = start + 2 * math.pi * i / turns
            step = torch.tensor([math.cos(angle), math.sin(angle)], dtype=torch.float64)
            points[child] = manifold.transvect(origin, points[node], manifold.expmap0(step))
    return torch.stack([points[node] for node in range(len(points))])


def embed(
    manifold: Manifold, edges: list[tuple[int, int]], lengths: Tensor, steps: int = 300
) -> tuple[Tensor, float]:
    """Points whose distances follow ``lengths``, by RiemannianAdam; and their distortion."""
    points = riemannian_parameter(unfold(manifold, edges), manifold)
    optimizer = geoopt.optim.RiemannianAdam([points], lr=0.05, stabilize=10)
    i, j = torch.triu_indices(len(lengths), len(lengths), 1)
    for _ in range(steps):
        optimizer.zero_grad()
        gap = manifold.dist(points[i], points[j]).squeeze(-1) / lengths[i, j] - 1
        gap.square().mean().backward()
        optimizer.step()
    final = points.detach()
    return final, distortion(manifold, final, lengths).item()


def draw(manifold: Manifold, points: Tensor, edges: list[tuple[int, int]], title: str, path: Path) -> None:
    """The embedded tree, edges as geodesics, in the Poincaré disc with its boundary, where infinity is."""
    disc = Poincare(manifold.kappa.item()) if manifold.kappa.item() < 0 else manifold
    with styled():
        path.write_bytes(png(_drawn(manifold, disc, points, edges, title), dpi=110))


def _drawn(
    manifold: Manifold, disc: Manifold, points: Tensor, edges: list[tuple[int, int]], title: str
) -> Figure:
    figure = Figure(figsize=(4, 4.2))
    axis = figure.subplots()
    if disc.kappa.item() < 0:
        radius = (-disc.kappa.item()) ** -0.5
        axis.add_patch(Circle((0, 0), radius, facecolor="none", edgecolor=INK, lw=1))
        axis.set(xlim=(-1.02 * radius, 1.02 * radius), ylim=(-1.02 * radius, 1.02 * radius))
    for a, b in edges:
        way = torch.linspace(0, 1, 20, dtype=points.dtype)[:, None]
        curve = manifold.geodesic(points[a][None], points[b][None], way)
        shown = disc.coords(disc.expmap0(manifold.logmap0(curve)))
        axis.plot(shown[:, 0], shown[:, 1], color=FAINT, lw=1)
    nodes = disc.coords(disc.expmap0(manifold.logmap0(points)))
    axis.scatter(nodes[:, 0], nodes[:, 1], s=10, color=CYCLE[0], zorder=2)
    axis.set(title=title, aspect="equal")
    axis.axis("off")
    return figure


def main() -> None:
    """Print the means and distortions; write one plot per geometry of the tree."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("outputs/frechet"))
    parser.add_argument("--steps", type=int, default=300)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    for manifold in (Euclidean(), Lorentz(), Poincare(), Sphere()):
        generator = torch.Generator().manual_seed(1)
        points = manifold.random(20, 3, generator=generator, dtype=torch.float64)
        mean = frechet_mean(manifold, points)
        pull = manifold.norm(mean, manifold.logmap(mean[None], points).mean(0)).item()
        place = ", ".join(f"{value:.6f}" for value in manifold.logmap0(mean).tolist())
        print(f"{type(manifold).__name__:10} Frechet mean at ({place}), pull left {pull:.1e}")
    lengths, edges = tree()
    for manifold in (Lorentz(-4.0), Poincare(-4.0), Euclidean()):
        points, error = embed(manifold, edges, lengths, given.steps)
        name = type(manifold).__name__
        print(f"{name:10} tree of {len(lengths)} nodes in 2 dimensions: mean distortion {error:.3f}")
        draw(
            manifold, points, edges, f"{name}: distortion {error:.3f}", given.out / f"tree-{name.lower()}.png"
        )


if __name__ == "__main__":
    main()
