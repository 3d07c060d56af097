"""A tree in a plane of any curvature: path lengths, Sarkar's construction, and the drawing in the disc."""

import math
from collections.abc import Sequence

import torch
from matplotlib.axes import Axes
from matplotlib.patches import Circle
from torch import Tensor

from manifold_lora.experiments.reports.figures.style import CYCLE, FAINT, INK
from manifold_lora.manifolds import Manifold, Poincare, gyroadd, gyroinverse

Edges = Sequence[tuple[int, int]]


def balanced_tree(branching: int = 3, depth: int = 3) -> list[tuple[int, int]]:
    """The edges (parent, child) of a tree whose nodes, level by level, have as many children."""
    edges, level, count = [], [0], 1
    for _ in range(depth):
        children = list(range(count, count + branching * len(level)))
        edges += [(level[i // branching], child) for i, child in enumerate(children)]
        level, count = children, count + len(children)
    return edges


def path_lengths(edges: Edges) -> Tensor:
    """Steps between the nodes 0, 1, ... of a tree, (nodes, nodes), in float64."""
    count = len(edges) + 1
    lengths = torch.full((count, count), torch.inf, dtype=torch.float64).fill_diagonal_(0)
    for a, b in edges:
        lengths[a, b] = lengths[b, a] = 1.0
    for via in range(count):
        lengths = torch.minimum(lengths, lengths[:, via, None] + lengths[None, via])
    return lengths


def distortion(manifold: Manifold, points: Tensor, lengths: Tensor) -> Tensor:
    """Mean relative error of the distances between rows against ``lengths``."""
    i, j = torch.triu_indices(len(points), len(points), 1)
    got = manifold.dist(points[i], points[j]).squeeze(-1)
    return (got / lengths[i, j] - 1).abs().mean()


def unfold(manifold: Manifold, edges: Edges) -> Tensor:
    """Sarkar's construction: the children of a node leave it in equal angles, parent included.

    Edges come parents first. Source: Sarkar, "Low distortion Delaunay embedding of trees in hyperbolic
    plane", GD 2011.
    """
    children: dict[int, list[int]] = {}
    for parent, child in edges:
        children.setdefault(parent, []).append(child)
    parents = {child: parent for parent, child in edges}
    points = {0: manifold.origin(2, dtype=torch.float64)}
    for node, kept in children.items():
        start, turns = 0.0, len(kept)
        if node in parents:
            here = gyroinverse(manifold, points[node])
            back = manifold.logmap0(gyroadd(manifold, here, points[parents[node]]))
            start, turns = math.atan2(back[1].item(), back[0].item()), len(kept) + 1
        for i, child in enumerate(kept, start=1):
            angle = start + 2 * math.pi * i / turns
            step = torch.tensor([math.cos(angle), math.sin(angle)], dtype=torch.float64)
            points[child] = gyroadd(manifold, points[node], manifold.expmap0(step))
    return torch.stack([points[node] for node in range(len(points))])


def draw_tree(
    axes: Axes, manifold: Manifold, points: Tensor, edges: Edges, labels: Sequence[str] = ()
) -> None:
    """An embedded tree, edges as geodesics, in the Poincare disc with its boundary, where infinity is.

    Every geometry of the plane is seen from its own origin: a point as the disc's at the same distance and
    in the same direction. An empty label leaves a node without a name.
    """
    kappa = manifold.kappa.item()
    disc = Poincare(kappa) if kappa < 0 else manifold
    if kappa < 0:
        radius = (-kappa) ** -0.5
        axes.add_patch(Circle((0, 0), radius, facecolor="none", edgecolor=INK, lw=1))
        axes.set(xlim=(-1.02 * radius, 1.02 * radius), ylim=(-1.02 * radius, 1.02 * radius))

    def shown(x: Tensor) -> Tensor:
        return disc.coords(disc.expmap0(manifold.logmap0(x)))

    way = torch.linspace(0, 1, 20, dtype=points.dtype)[:, None]
    for a, b in edges:
        curve = shown(manifold.geodesic(points[a], points[b], way))
        axes.plot(curve[:, 0], curve[:, 1], color=FAINT, lw=1)
    places = shown(points)
    axes.scatter(places[:, 0], places[:, 1], s=10, color=CYCLE[0], zorder=2)
    for place, label in zip(places.tolist(), labels, strict=False):
        axes.annotate(label, place, (3, 3), textcoords="offset points", fontsize=7)
    axes.set(aspect="equal")
    axes.axis("off")
