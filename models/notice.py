"""The part of an adapter's README.md that is ours: first in the file, replaced when it is written again."""

from pathlib import Path

from huggingface_hub import ModelCard, ModelCardData

LIBRARY = "manifold-lora"
# Imports the file that registers the method with peft.
REGISTERS = "from manifold_lora import ManifoldLoraConfig"
_BEGIN, _END = "<!-- manifold-lora: begin -->", "<!-- manifold-lora: end -->"
HOW_TO_LOAD = f"""\
This adapter needs the package `{LIBRARY}`: `pip install {LIBRARY}`. Without it peft ends in a `KeyError` that
names the method.

```python
{REGISTERS}  # makes the method known to peft
from peft import AutoPeftModelForCausalLM

model = AutoPeftModelForCausalLM.from_pretrained("this folder or its name on the hub")
```
"""


def write_notice(folder: str | Path) -> None:
    """Say in ``folder/README.md`` what to install and how to load the adapter, where it does not say so."""
    path = Path(folder) / "README.md"
    if not path.is_file() or _BEGIN not in path.read_text(encoding="utf-8"):
        write_first(path, f"# Manifold adapter\n\n{HOW_TO_LOAD}")
    else:
        write_first(path, None)


def write_first(path: Path, text: str | None) -> None:
    """Put ``text`` before all else in a model card, in place of what was put there before.

    Args:
        path: the README.md; its other text stays, and its metadata gets our library and tag.
        text: Markdown; None keeps the earlier one.
    """
    if path.is_file():
        card = ModelCard.load(path)
    else:
        card = ModelCard.from_template(ModelCardData(), template_str="---\n{{ card_data }}\n---\n")
    # peft sets its own each time it saves; its loader alone cannot read the adapter.
    card.data.library_name = LIBRARY
    card.data.tags = sorted({*(card.data.tags or ()), LIBRARY, "peft"})
    before, begun, rest = card.text.partition(_BEGIN)
    old, _, after = rest.partition(_END) if begun else ("", "", "")
    ours = old.strip() if text is None else text.strip()
    others = "\n\n".join(part.strip() for part in (before, after) if part.strip())
    card.text = f"{_BEGIN}\n{ours}\n{_END}\n\n{others}".rstrip() + "\n"
    card.save(path)
