"""Every code block of the documentation: Python runs, command lines parse, YAML is a valid setting."""

import argparse
import importlib
import re
import shlex
import tomllib
from copy import copy

import pytest
import yaml
from documents import PAGES, ROOT, blocks, code_spans, commands, page_id, page_text
from site_is_offline import main as site_is_offline

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.experiments import cli
from manifold_lora.experiments.settings.ablation import AblationSettings
from manifold_lora.experiments.settings.parse import load_settings

# Executed by test_repository, test_tutorial, test_installed_plugin, token_geometry/test_run and
# models/test_training_scripts.
ELSEWHERE = {"README.md", "manifolds/README.md", "docs/tutorials/own-geometry.md", "docs/geometry.md"}
ELSEWHERE |= {"docs/tutorials/trainers.md"}
PYTHON_PAGES = [page for page in PAGES if blocks(page, "python") and page_id(page) not in ELSEWHERE]
SHELL_PAGES = [page for page in PAGES if any("manifold-lora " in line for line in commands(page))]
YAML_PAGES = [page for page in PAGES if blocks(page, "yaml") and page_id(page) not in ELSEWHERE]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working directory with what the pages speak of: a base model and a report."""
    from manifold_lora.models.tiny import tiny_model, word_tokenizer

    tokenizer = word_tokenizer([f"lca w{number} => ." for number in range(20)])
    tokenizer.save_pretrained(tmp_path / "base")
    model = tiny_model(len(tokenizer), hidden_size=16, layers=1, heads=2, intermediate_size=32)
    model.save_pretrained(tmp_path / "base")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "real").symlink_to(ROOT / "docs" / "real")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def registries():
    """The registries as they were, whatever a page registers."""
    from manifold_lora.experiments.tasks.registry import TASKS
    from manifold_lora.manifolds import MANIFOLDS

    kept = [(one, {name: copy(value) for name, value in vars(one).items()}) for one in (TASKS, MANIFOLDS)]
    yield
    for one, state in kept:
        vars(one).update(state)


# peft's own read of what transformers deprecates: a reader sees the warning, and can do nothing about it.
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
@pytest.mark.parametrize("page", PYTHON_PAGES, ids=page_id)
def test_the_python_of_a_page_runs_from_top_to_bottom(page, place, registries):
    """In one namespace, where ``BASE`` is the folder of a tiny model."""
    names = {"__name__": "page", "BASE": str(place / "base")}
    for number, block in enumerate(blocks(page, "python")):
        exec(compile(block, f"{page_id(page)}, block {number}", "exec"), names)


class Parsed(Exception):
    """A command line was read; what it asks for is not done."""


@pytest.fixture
def parse(tmp_path, monkeypatch):
    """Read a command line with the verb's own parser, and stop there."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "one").mkdir(parents=True)
    for name in ("C.yaml", "later_word.yaml", "texts.txt", "runs/one/run.yaml"):
        (tmp_path / name).write_text("{}")
    for name in ("experiments", "shared", "docs"):
        (tmp_path / name).symlink_to(ROOT / name)

    def stopping(reader):
        def read(*arguments, **options):
            reader(*arguments, **options)
            raise Parsed

        return read

    def parse(line):
        words = shlex.split(line.partition("manifold-lora ")[2], comments=True)
        words = words[: next((place for place, word in enumerate(words) if word in ("|", "&&", ">")), None)]
        verb, *flags = [word.removesuffix(";") for word in cli.load_named_plugins(_without_plugins(words))]
        assert verb in cli.VERBS, line
        if {"-h", "--help"} & set(flags):
            return
        module = importlib.import_module(cli.VERBS[verb][0])
        with monkeypatch.context() as patched:
            for reader in ("parse", "parse_flags"):
                if hasattr(module, reader):
                    patched.setattr(module, reader, stopping(getattr(module, reader)))
            parser = argparse.ArgumentParser
            patched.setattr(parser, "parse_args", stopping(parser.parse_args))
            for work in ("write_report", "find_spec"):
                if hasattr(module, work):
                    patched.setattr(module, work, stopping(lambda *given, **options: None))
            with pytest.raises(Parsed):
                module.main(flags)

    return parse


def _without_plugins(words):
    """The words without ``--plugin MODULE``: modules of the reader's own are not here."""
    before = ["", *words]
    return [word for word, last in zip(words, before, strict=False) if "--plugin" not in (word, last)]


@pytest.mark.parametrize("page", SHELL_PAGES, ids=page_id)
def test_every_command_line_is_one_that_its_verb_reads(page, parse):
    for line in commands(page):
        if "manifold-lora " in line and not line.startswith(("pip ", "MANIFOLD")):
            try:
                parse(line)
            except (ManifoldLoraError, SystemExit) as error:
                pytest.fail(f"{line}: {error}")


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_what_a_page_names_in_passing_exists(page):
    """Verbs, make targets, extras and files in the text; ``*``, ``...`` and capitals stand for something."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    targets = re.search(r"\.PHONY: (.*)", MAKEFILE)[1].split()
    for span in [*code_spans(page), *commands(page)]:
        for verb in re.findall(r"^manifold-lora ([a-z][\w-]*)", span):
            assert verb in cli.VERBS, span
        for target in re.findall(r"^make ([a-z][\w-]*)", span):
            assert target in targets, span
        for variable in re.findall(r" ([A-Z]+)=", span) if span.startswith("make ") else ():
            assert f"$({variable})" in MAKEFILE or f"{variable} ?=" in MAKEFILE, span
        for extras in re.findall(r"(?:manifold-lora|'\.)\[([\w,-]+)\]", span):
            assert set(extras.split(",")) <= project["optional-dependencies"].keys(), span
        for path in re.findall(r"^(?:tests|docs|experiments|manifolds|adapters|models)/[\w./*-]+$", span):
            assert list(ROOT.glob(path.rstrip("/"))), span


@pytest.mark.parametrize("page", YAML_PAGES, ids=page_id)
def test_every_yaml_is_a_valid_ablation(page, tmp_path):
    for number, block in enumerate(blocks(page, "yaml")):
        path = tmp_path / f"{number}.yaml"
        path.write_text(block)
        load_settings(AblationSettings, path)


def test_the_command_line_page_lists_every_verb():
    text = page_text(ROOT / "docs" / "reference" / "command-line.md")
    listed = dict(re.findall(r"^\| `([\w-]+)` \| (.*) \|$", text, flags=re.MULTILINE))
    assert listed == {verb: line for verb, (_, line) in cli.VERBS.items()}


def test_the_reference_has_every_public_name():
    directives = {
        name.rpartition(".")[2]
        for page in (ROOT / "docs" / "reference").glob("*.md")
        for name in re.findall(r"^::: (\S+)", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    }
    packages = ("", ".manifolds", ".manifolds.testing", ".adapters", ".models", ".experiments.tasks")
    for package in (*packages, ".experiments.token_geometry"):
        public = importlib.import_module(f"manifold_lora{package}").__all__
        assert set(public) - {"__version__"} - directives == set(), package


def test_every_page_is_in_the_navigation():
    pages = {path.relative_to(ROOT / "docs").as_posix() for path in ROOT.glob("docs/**/*.md")}
    settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    assert sorted(_leaves(settings["nav"])) == sorted(pages)
    assert settings["strict"] is True
    assert settings["theme"]["font"] is False


def _leaves(entry):
    if isinstance(entry, str):
        return [entry]
    parts = entry.values() if isinstance(entry, dict) else entry
    return [leaf for part in parts for leaf in _leaves(part)]


@pytest.mark.parametrize(
    ("head", "code"),
    [
        ('<link rel="stylesheet" href="style.css"><a href="https://example.org">elsewhere</a>', 0),
        ('<script src="https://example.org/a.js"></script>', 1),
        ('<link rel="preconnect" href="//example.org">', 1),
        ("<link rel=canonical href=https://example.org>", 0),
    ],
)
def test_a_site_that_loads_from_another_host_is_refused(head, code, tmp_path, capsys):
    (tmp_path / "index.html").write_text(head)
    assert site_is_offline(str(tmp_path)) == code
    assert ("example.org" in capsys.readouterr().out) == bool(code)
