"""An SVG as PNG, by whatever renderer this machine has; none: no PNG. (No PNG is kept under version control.)"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def renderer() -> str:
    """The name of a renderer on the PATH, or ""."""
    return next((name for name in ("rsvg-convert", "inkscape", *BROWSERS) if shutil.which(name)), "")


def to_png(svg: Path) -> Path | None:
    """Write a PNG beside the SVG (twice its size in pixels). None where nothing here can, or it fails."""
    name, png = renderer(), svg.with_suffix(".png")
    size = re.search(r'width="(\d+)" height="(\d+)"', svg.read_text())
    if not name or not size:
        return None
    with tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch) / "figure.png"
        command = {
            "rsvg-convert": [name, "--zoom", "2", "-o", str(made), str(svg)],
            "inkscape": [name, "--export-dpi", "192", "-o", str(made), str(svg)],
        }.get(name) or [
            name, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--force-device-scale-factor=2",
            f"--user-data-dir={scratch}/profile", f"--window-size={size[1]},{size[2]}", f"--screenshot={made}",
            svg.absolute().as_uri(),
        ]  # fmt: skip
        try:
            done = subprocess.run(command, capture_output=True, timeout=60, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return None
        if done.returncode or not made.is_file():
            return None
        shutil.copyfile(made, png)
    return png
