"""Building models: the machinery in seconds, and (nightly) one model anew, which behaves like the shipped one."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from gra_train.errors import UserError
from gra_train.mini.build import build
from gra_train.mini.models import model_path, recipe


@pytest.mark.slow
def test_a_build_is_complete_and_repeatable(tmp_path: Path, play: SimpleNamespace) -> None:
    lines: list[str] = []
    for folder in ("a", "b"):
        assert build(tmp_path / folder, only=["wren"], steps=20, workers=1, progress=lines.append) == [
            tmp_path / folder / "wren"
        ]
    names = sorted(p.name for p in (tmp_path / "a").iterdir())
    assert names == ["wren"]
    for file in (tmp_path / "a" / "wren").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / "wren" / file.name).read_bytes(), file.name
    assert any("100%" in line for line in lines)
    assert "recipe: " in (tmp_path / "a" / "wren" / "README.md").read_text()
    play.load(tmp_path / "a" / "wren")


@pytest.mark.parametrize("wrong", [{"only": ["robbin"]}, {"workers": 0}])
def test_wrong_arguments(tmp_path: Path, wrong: dict[str, object]) -> None:
    with pytest.raises(UserError):
        build(tmp_path, **wrong)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_another_seed_is_another_recipe() -> None:
    assert recipe("wren", seed=1).digest() != recipe("wren").digest()


@pytest.mark.nightly
@pytest.mark.timeout(1200)
def test_a_rebuilt_model_behaves_like_the_shipped_one(tmp_path: Path, play: SimpleNamespace) -> None:
    """The same recipe: floats may differ between machines, behaviour may not by much."""
    (folder,) = build(tmp_path, only=["robin"], workers=1)
    again, shipped = play.load(folder), play.load(model_path("robin"))
    assert abs(play.accuracy(*again, number=150) - play.accuracy(*shipped, number=150)) < 0.12


def test_built_models_make_a_pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `mini build` leaves beside the models can be given as pool=."""
    from gra_train.compose import compose
    from gra_train.mini import command
    from gra_train.mini.models import MODELS_DIR, NAMES

    folder = tmp_path / "7"
    folder.mkdir()
    for name in NAMES:
        (folder / name).symlink_to(MODELS_DIR / name)
    monkeypatch.setattr("gra_train.mini.build.build", lambda out, **_: [out / name for name in NAMES])
    assert command.main(["build", "--out", str(folder)]) == 0
    pool = compose(["experiment=mini", f"pool={folder / 'pool.yaml'}"]).pool
    assert pool.name == "mini-7"
    assert [m.path for m in pool.models] == [str(folder / m.name) for m in pool.models]
    assert pool.large
    assert pool.large.path == str(folder / "heron72")
