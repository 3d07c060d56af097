"""The check of constraints.txt and requirements.lock, on reports of pip that a test writes itself."""

import importlib.util
from pathlib import Path

import pytest

_spec = importlib.util.spec_from_file_location("resolvable", Path(__file__).with_name("resolvable.py"))
resolvable = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(resolvable)


def item(name, version, *requires, sha256="0" * 64, extras=()):
    return {
        "metadata": {"name": name, "version": version, "requires_dist": list(requires)},
        "download_info": {"archive_info": {"hashes": {"sha256": sha256}}},
        "requested_extras": list(extras),
    }


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project of its own: two pins and their lock."""
    (tmp_path / "constraints.txt").write_text("# a comment\ntorch==2.0\nfoo_bar==1.5\n")
    (tmp_path / "requirements.lock").write_text(f"foo-bar==1.5 \\\n    --hash=sha256:{'a' * 64}\n")
    monkeypatch.setattr(resolvable, "ROOT", tmp_path)
    return tmp_path


def test_the_lock_has_the_versions_of_the_constraints():
    assert resolvable.lock_faults() == []


def test_the_requirements_are_those_of_the_project_and_its_extras():
    found = resolvable.requirements()
    assert {"torch>=2.6", "pydantic>=2.8", "ruff>=0.6", "torchao>=0.13"} <= set(found)
    assert not [line for line in found if line.startswith("manifold-lora")]


def test_a_whole_set_has_no_fault(project, capsys):
    good = [item("torch", "2.0", "nvidia-x"), item("nvidia-x", "7"), item("foo.bar", "1.5", sha256="a" * 64)]
    assert resolvable.check("3.12", good) == resolvable.lock_faults() == resolvable.unneeded([good]) == []
    assert capsys.readouterr().out == "Python 3.12: 3 packages, 2 of them torch 2.0 and its build's\n"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (item("baz", "1", sha256="a" * 64), "baz is not pinned"),
        (item("foo-bar", "1.5"), "the file of foo-bar is not in requirements.lock"),
        (item("foo-bar", "1.5", "absent", sha256="a" * 64), "foo-bar needs absent, got nothing"),
        (item("foo-bar", "1.5", "torch>=2.1", sha256="a" * 64), "foo-bar needs torch>=2.1, got 2.0"),
        (item("foo-bar", "1.5", 'absent; python_version >= "3.12"', sha256="a" * 64), "foo-bar needs absent"),
        (
            item("foo-bar", "1.5", 'absent; extra == "x"', sha256="a" * 64, extras=["x"]),
            "foo-bar needs absent",
        ),
    ],
)
def test_what_is_wrong_is_said(project, more, message):
    (fault,) = resolvable.check("3.12", [item("torch", "2.0"), more])
    assert fault.startswith("Python 3.12: ")
    assert message in fault


@pytest.mark.parametrize("line", ['absent; python_version < "3.12"', 'absent; extra == "x"'])
def test_a_requirement_that_does_not_apply_is_none(project, line):
    assert (
        resolvable.check("3.12", [item("torch", "2.0"), item("foo-bar", "1.5", line, sha256="a" * 64)]) == []
    )


def test_what_pip_refuses_and_a_pin_that_nothing_needs_are_said(project):
    assert resolvable.check("3.12", "ERROR: ResolutionImpossible") == [
        "Python 3.12: ERROR: ResolutionImpossible"
    ]
    assert resolvable.unneeded([[item("torch", "2.0")]]) == ["constraints.txt: nothing needs foo-bar"]
    assert resolvable.unneeded([[item("torch", "2.0")], "ERROR"]) == []
    (project / "requirements.lock").write_text("foo-bar==1.6\n")
    assert len(resolvable.lock_faults()) == 2


def test_wheels_and_constraints_of_this_machine_do_not_count(monkeypatch):
    for name in ("PIP_FIND_LINKS", "PIP_CONSTRAINT", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.setenv(name, "/somewhere")
    monkeypatch.setenv("PIP_CERT", "/certificate.pem")
    kept = {name: value for name, value in resolvable.registry_only().items() if name.startswith("PIP_")}
    assert kept["PIP_CERT"] == "/certificate.pem"
    assert not {"PIP_FIND_LINKS", "PIP_CONSTRAINT", "PIP_EXTRA_INDEX_URL"} & kept.keys()
    assert kept["PIP_CONFIG_FILE"] == "/dev/null"


def test_a_registry_out_of_reach_is_said_and_proves_nothing(monkeypatch, capsys):
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    assert resolvable.main() == 0
    assert capsys.readouterr().out.startswith("resolvable: skipped, the registry cannot be reached: ")


def test_a_python_that_fails_makes_no_pin_look_idle(project, monkeypatch, capsys):
    """What a Python lacks is not known where pip finds no set for it."""
    done = type("Done", (), {"returncode": 0, "stderr": ""})
    monkeypatch.setattr(resolvable, "pip", lambda *_: done)
    monkeypatch.setattr(resolvable, "registry_only", dict)
    monkeypatch.setattr(
        resolvable, "resolve", lambda python, _: [item("torch", "2.0")] if python == "3.11" else "ERROR"
    )
    assert resolvable.main() == 1
    assert "nothing needs" not in capsys.readouterr().out
