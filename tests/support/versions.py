"""An earlier version of the product, to run beside this one: its packages as they were at a commit, in an archive.

Kept as a file and not taken from the history, which a shallow clone lacks. :data:`EARLIER` is the last commit at which
hub and endpoint refused each other unless each read every kind of packet that the other knew (D-37). The dependencies
are this version's.
"""

from __future__ import annotations

import compileall
import tarfile
from pathlib import Path
from typing import Final

__all__ = ["EARLIER", "Version"]

EARLIER: Final = "58c3314"
_START: Final = """\
def hub():
    from spnhub.cli.hub import main
    return main()

def agent():
    from spnhub.cli.agent import main
    return main()

def log():
    from spnhub.cli.log import main
    return main()
"""
"""Where the installed commands of this version begin; the earlier one has no such module."""
_ARCHIVES: Final = Path(__file__).parents[1] / "versions"


class Version:
    """Unpacked into an empty folder. ``env`` makes a command of the product be that version's."""

    def __init__(self, commit: str, folder: Path) -> None:
        with tarfile.open(_ARCHIVES / f"{commit}.tar.xz") as archive:
            # Debian 12's Python 3.11.2 has no such filter yet.
            archive.extraction_filter = getattr(tarfile, "data_filter", None)
            archive.extractall(folder)
        (folder / "spnhub" / "cli" / "start.py").write_text(_START)
        # Once, and not by each process at its start.
        compileall.compile_dir(folder, quiet=1)
        self.folder = folder
        self.env = {"PYTHONPATH": str(folder)}
