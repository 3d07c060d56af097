"""report and bench tell how they are called."""

import pytest

from manifold_lora.experiments.cli import main


@pytest.mark.parametrize(
    ("verb", "message"), [("report", ("FOLDER", "--plugin")), ("bench", ("adapters", "gpu", "numerics"))]
)
@pytest.mark.parametrize(("flags", "code"), [(["--help"], 0), (["-h"], 0), ([], 2)])
def test_a_verb_tells_how_it_is_called(verb, message, flags, code, capsys):
    assert main([verb, *flags]) == code
    out, err = capsys.readouterr()
    assert out.startswith(f"usage: manifold-lora {verb} ")
    assert all(word in out for word in message)
    assert err == ""


@pytest.mark.parametrize("name", ["adapters", "gpu", "numerics"])
def test_every_benchmark_lists_its_switches(name, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["bench", name, "--help"])
    assert ended.value.code == 0
    assert f"manifold-lora bench {name}" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["report", "--no-such"], ["report", "a", "b"], ["bench", "speed"]])
def test_what_is_no_argument_is_reported_in_a_line(arguments, capsys):
    assert main(arguments) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
