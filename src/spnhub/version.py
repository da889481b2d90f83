"""The version of this distribution, where every room may ask for it. Imports nothing of ours."""

from __future__ import annotations

from typing import Final

__all__ = ["VERSION"]

VERSION: Final = "0.1.0"
