"""The figure: numbers become lengths that can be measured again, and what is missing is shown as missing."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from gra_train.reporting.figure import Panel, Point, figure, nice
from gra_train.reporting.picture import renderer, to_png

SVG = "{http://www.w3.org/2000/svg}"


def test_bars_are_as_long_as_their_values_and_intervals() -> None:
    panel = Panel("a < b", ("g",), {"one": [Point(20.0, 15.0, 30.0)], "two": [Point(40.0)], "three": [None]})
    root = ET.fromstring(figure([panel]))
    bars = [e for e in root.iter(f"{SVG}rect") if e.find(f"{SVG}title") is not None]
    first, second = (float(bar.get("height", "0")) for bar in bars)
    assert second == pytest.approx(2 * first, abs=0.11)
    (line,) = [e for e in root.iter(f"{SVG}line") if e.get("stroke") == "#222"]
    assert float(line.get("y1", "0")) - float(line.get("y2", "0")) == pytest.approx(0.75 * first, abs=0.11)
    texts = ["".join(e.itertext()) for e in root.iter(f"{SVG}text")]
    assert "?g three: missing" in texts
    assert "a < b" in texts


def test_lines_go_through_their_points_in_order() -> None:
    points = [Point(3.0, x=3), Point(1.0, x=1), Point(2.0, x=2)]
    root = ET.fromstring(figure([Panel("", (), {"a": points}, lines=True), Panel("", (), {"b": []}, lines=True)]))
    (line,) = root.iter(f"{SVG}polyline")
    xs, ys = zip(*(map(float, pair.split(",")) for pair in line.get("points", "").split()), strict=True)
    assert list(xs) == sorted(xs)
    assert list(ys) == sorted(ys, reverse=True), "up is more"
    assert ys[0] - ys[1] == pytest.approx(ys[1] - ys[2], abs=0.11)
    assert "missing" in [e.text for e in root.iter(f"{SVG}text")]


def test_steps_of_an_axis() -> None:
    assert [nice(x) for x in (0.07, 0.3, 1.0, 3.0, 12, 70)] == pytest.approx([0.1, 0.5, 1, 5, 20, 100])


def test_a_png_where_something_can_draw_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "f.svg").write_text(figure([Panel("a", ("g",), {"one": [Point(1.0)], "two": [Point(2.0)]})]))
    if renderer():
        png = to_png(tmp_path / "f.svg")
        assert png is None or png.read_bytes().startswith(b"\x89PNG")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert renderer() == ""
    assert to_png(tmp_path / "f.svg") is None
