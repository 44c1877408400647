"""Folders in which hostile processes worked."""

from __future__ import annotations

import subprocess
from pathlib import Path


def remove(path: Path) -> None:
    """Remove what a hostile process may have left: folders a thousand deep or closed, links to anywhere."""
    # rm neither recurses on the stack nor follows links, which is why this is not shutil.rmtree.
    if subprocess.run(["rm", "-rf", "--", path], capture_output=True, check=False).returncode != 0:
        subprocess.run(["chmod", "-R", "u+rwX", "--", path], capture_output=True, check=False)
        subprocess.run(["rm", "-rf", "--", path], capture_output=True, check=True)
