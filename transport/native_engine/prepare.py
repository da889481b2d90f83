"""Builds spnhub-native: maturin's backend (PEP 517), once the patched quinn-proto stands beside it.

The crate comes from cargo's registry as it was published; its name, version and checksum are in
``quinn-proto/Cargo.lock``. ``quinn-proto/quinn-proto.patch`` is applied to a fresh copy, line by line, and only where
every line of its context is what it says. ``python prepare.py`` does just that.
"""

from __future__ import annotations

import hashlib
import io
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from importlib import import_module
from typing import Any

HERE = pathlib.Path(__file__).parent.resolve()
PIN = HERE / "quinn-proto"
PATCHED = HERE / "patched" / "quinn-proto"
NAME = "quinn-proto"


def prepare() -> None:
    """Make ``patched/quinn-proto``, unless it is what the pin and the patch make.

    :raises ValueError: the crate isn't the one that is pinned, or the patch isn't for it.
    """
    patch = (PIN / "quinn-proto.patch").read_bytes()
    lock = (PIN / "Cargo.lock").read_bytes()
    made_of = hashlib.sha256(lock + patch).hexdigest()
    stamp = PATCHED / ".made-of"
    if stamp.exists() and stamp.read_text() == made_of:
        return
    shutil.rmtree(PATCHED, ignore_errors=True)
    _fetch(_pinned(lock.decode()), PATCHED)
    _apply(patch.decode(), PATCHED)
    stamp.write_text(made_of)


def _pinned(lock: str) -> str:
    """The crate's checksum, SHA-256 in hex."""
    found = re.search(rf'name = "{NAME}"\nversion = "[^"]+"\nsource = "[^"]+"\nchecksum = "([0-9a-f]{{64}})"', lock)
    if found is None:
        raise ValueError(f"{NAME} has no checksum in Cargo.lock")
    return found[1]


def _fetch(checksum: str, target: pathlib.Path) -> None:
    """Unpack the crate as it was published."""
    manifest = str(PIN / "Cargo.toml")
    cargo = shutil.which("cargo")
    if cargo is None:
        raise ValueError("cargo is needed to build spnhub-native")
    subprocess.run([cargo, "fetch", "--locked", "--manifest-path", manifest], check=True)
    answer = subprocess.run(
        [cargo, "metadata", "--locked", "--format-version", "1", "--manifest-path", manifest],
        check=True,
        stdout=subprocess.PIPE,
    ).stdout
    packages = json.loads(answer)["packages"]
    (source,) = (pathlib.Path(one["manifest_path"]).parent for one in packages if one["name"] == NAME)
    # …/registry/src/INDEX/NAME-VERSION beside …/registry/cache/INDEX/NAME-VERSION.crate
    crate = source.parent.parent.parent / "cache" / source.parent.name / f"{source.name}.crate"
    if not crate.exists():
        # From a folder that `cargo vendor` made, which keeps the checksum of the whole.
        if json.loads((source / ".cargo-checksum.json").read_text())["package"] != checksum:
            raise ValueError(f"{source} is not the {NAME} that is pinned")
        shutil.copytree(source, target)
        return
    data = crate.read_bytes()
    if hashlib.sha256(data).hexdigest() != checksum:
        raise ValueError(f"{crate} is not the {NAME} that is pinned")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        # Debian 12's Python 3.11.2 has no such filter yet.
        archive.extraction_filter = getattr(tarfile, "data_filter", None)
        archive.extractall(target.parent)  # noqa: S202 - its checksum is pinned
    (target.parent / source.name).rename(target)


def _apply(patch: str, target: pathlib.Path) -> None:
    """Apply a unified diff whose every line has to fit where it says."""
    for part in re.split(r"^(?=--- a/)", patch, flags=re.MULTILINE)[1:]:
        lines = part.splitlines(keepends=True)
        path = target / lines[1].split()[1].removeprefix("b/")
        old, new, at = path.read_text().splitlines(keepends=True), list[str](), 0
        for line in lines[2:]:
            if hunk := re.match(r"@@ -(\d+)", line):
                begin = int(hunk[1]) - 1
                new += old[at:begin]
                at = begin
            elif line[0] == "+":
                new.append(line[1:])
            else:
                if old[at] != line[1:]:
                    raise ValueError(f"quinn-proto.patch doesn't fit {path.name}, line {at + 1}")
                if line[0] == " ":
                    new.append(old[at])
                at += 1
        path.write_text("".join(new + old[at:]))


def _prepared(hook: str) -> Callable[..., Any]:
    """One of maturin's hooks (PEP 517, PEP 660), which first prepares."""

    def call(*arguments: Any, **rest: Any) -> Any:
        prepare()
        return getattr(import_module("maturin"), hook)(*arguments, **rest)

    return call


def _requires(*_: Any) -> list[str]:
    return []


get_requires_for_build_wheel = get_requires_for_build_editable = get_requires_for_build_sdist = _requires
build_wheel = _prepared("build_wheel")
build_editable = _prepared("build_editable")
build_sdist = _prepared("build_sdist")
prepare_metadata_for_build_wheel = _prepared("prepare_metadata_for_build_wheel")
prepare_metadata_for_build_editable = _prepared("prepare_metadata_for_build_editable")


if __name__ == "__main__":
    prepare()
    sys.stdout.write(f"{PATCHED}\n")
