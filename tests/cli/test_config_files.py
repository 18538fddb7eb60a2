"""Which configuration is a comparison."""

from pathlib import Path

import pytest

from squish_pl.cli.config_files import names_key


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["validate", "--config", "has.yaml"], True),
        (["validate", "--config=has.yaml"], True),
        (["validate", "-c", "has.yaml"], True),
        (["validate", "--config", "has_not.yaml"], False),
        (["validate", "--config", "has_not.yaml", "--config", "has.yaml"], True),
        (["validate", "--contenders", "[]"], True),
        (["validate", "--contenders=[]"], True),
        (["validate", "--contenders+=Opening"], True),
        (["validate", "--config", "broken.yaml"], False),
        (["validate", "--config", "list.yaml"], False),
        (["validate", "--config", "none.yaml"], False),
        (["validate", "--config"], False),
    ],
)
def test_names_key(arguments: list[str], expected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("has.yaml").write_text("contenders: [Opening]")
    Path("has_not.yaml").write_text("model: {contenders: 3}")
    Path("broken.yaml").write_text("contenders: [")
    Path("list.yaml").write_text("- contenders")
    assert names_key(arguments, "contenders") is expected
