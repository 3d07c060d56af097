from manifold_lora.experiments.commands.arguments import parse
from manifold_lora.experiments.token_geometry.settings import GeometrySettings


def test_flags_reach_the_settings():
    flags = ["--model", "m", "--data", "a.json", "gsm8k", "--base", "0", "--layers", "[0, 2]"]
    found = parse(GeometrySettings, [*flags, "--distance", "{name: lorentz, curvature: -0.5}"], "geometry")
    assert (found.model, found.data, found.base, found.layers) == ("m", ("a.json", "gsm8k"), 0, [0, 2])
    assert found.distance == {"name": "lorentz", "curvature": -0.5}


def test_a_config_file_comes_first_and_flags_win(tmp_path):
    config = tmp_path / "geometry.yaml"
    config.write_text("model: m\ndata: [gsm8k]\nadapters: {lorentz: folder}\nprompts: 3\n")
    found = parse(GeometrySettings, [str(config), "--prompts", "5"], "geometry")
    assert (found.data, found.adapters, found.prompts, found.base) == (
        ("gsm8k",),
        {"lorentz": "folder"},
        5,
        "all",
    )
