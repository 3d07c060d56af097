"""Before the first cell: the base model is there, its content is known, and every arm finds its modules."""

from collections.abc import Callable
from typing import Any

from manifold_lora.experiments.runs.fingerprint import fingerprint
from manifold_lora.experiments.settings.ablation import AblationSettings
from manifold_lora.experiments.settings.parse import validate
from manifold_lora.experiments.settings.run import EMBEDDED, TaskSettings
from manifold_lora.experiments.tasks.base import Task
from manifold_lora.experiments.tasks.registry import asks_in_text, build_task, fields_of
from manifold_lora.experiments.tasks.relabelled import Relabelled
from manifold_lora.experiments.tasks.templates import PLAIN, template_of
from manifold_lora.experiments.tasks.whole_text import WholeText


def task_of(settings: TaskSettings, model: str) -> Task:
    """Build the task; style auto is text for benchmarks and under a template, else equations."""
    style = settings.style
    if style == "auto":
        wants_text = asks_in_text(settings.name) or settings.template != "plain"
        style = "text" if wants_text and model != EMBEDDED else "equation"
    template = template_of(settings.template, model) if style == "text" else PLAIN
    task = build_task(
        settings.name,
        settings.data,
        settings.seed,
        style=style,
        limit=settings.limit,
        max_bad_records=settings.max_bad_records,
        template=template,
        train=settings.train,
        tests=settings.tests,
        leaks=settings.leaks,
        fields=fields_of(settings),
        held_out=settings.held_out,
        chat=lambda: template_of("chat", model),
    )
    if settings.labels is not None:
        task = Relabelled(task, settings.labels)
    return task if settings.completion_only else WholeText(task)


def prepare(data: dict[str, Any], targets: list[Any], progress: Callable[[int, int], None]) -> dict[str, str]:
    """Make or find the base model and check the targets of every arm against its modules.

    Args:
        data: an AblationSettings as plain data.
        targets: the distinct ``target_modules`` of the arms.
        progress: called with (step, steps) while an embedded base is pre-trained.

    Returns the folder or hub name to load the base from, and the fingerprint of its content.
    Raises ManifoldLoraError for a missing model or an unknown target module.
    """
    from peft import LoraConfig

    from manifold_lora.models.load import load_base
    from manifold_lora.models.tuner.targets import check_targets

    settings = validate(AblationSettings, data, "ablation")
    base = settings.model.name
    if base == EMBEDDED:
        from manifold_lora.experiments.training.pretrain import ensure_base

        task = task_of(settings.task, base)
        steps = task.base_spec.steps
        base = str(ensure_base(task, settings.cache, lambda step, _: progress(step, steps)))
    model, _ = load_base(base, dtype=settings.model.dtype)
    for target in targets:
        check_targets(model, LoraConfig(target_modules=target))
    return {"base": base, "fingerprint": fingerprint(base, getattr(model.config, "_commit_hash", None))}
