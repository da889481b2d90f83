"""Write the table into the documents anew."""

from __future__ import annotations

from tests.authorisation.page import PAGE, render

if __name__ == "__main__":
    PAGE.write_text(render(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
