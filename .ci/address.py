"""Give a copy of the sources the address that they are published at: the metadata's URLs, and a README whose links work
where an index shows it. The repository itself names no address: whoever publishes it has one.

    python .ci/address.py FOLDER https://example.org/spn-hub
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

_LINK = re.compile(r"(!?)\[((?:[^\[\]]|!\[[^\]]*\]\([^)]*\))*)\]\((?![a-z]+:|#)([^)]+)\)")
"""A link of Markdown, or a picture, to a file beside it."""


def urls(address: str) -> str:
    """The table of a ``pyproject.toml``."""
    return (
        "[project.urls]\n"
        f'Source = "{address}"\n'
        f'Issues = "{address}/issues"\n'
        f'Documentation = "{address}/blob/main/docs/index.md"\n'
        f'Changelog = "{address}/blob/main/CHANGELOG.md"\n\n'
    )


def absolute(readme: str, address: str, tag: str) -> str:
    """The README, with links to this version's files."""

    def replace(found: re.Match[str]) -> str:
        picture, text, target = found.groups()
        kind = "raw" if picture else "blob"
        return f"{picture}[{text}]({address}/{kind}/{tag}/{target})"

    return _LINK.sub(replace, readme)


def main(folder: Path, address: str) -> None:
    """Change the two files of ``folder``."""
    address = address.removesuffix("/").removesuffix(".git")
    settings, readme = folder / "pyproject.toml", folder / "README.md"
    text = settings.read_text(encoding="utf-8")
    project = tomllib.loads(text)["project"]
    settings.write_text(text.replace("[project.scripts]\n", f"{urls(address)}[project.scripts]\n", 1), encoding="utf-8")
    tag = f"v{project['version']}"
    readme.write_text(absolute(readme.read_text(encoding="utf-8"), address, tag), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
