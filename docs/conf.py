"""Sphinx builds the site of this folder and of the documents beside the code; ``make docs`` runs it.

The source folder is the repository, so each document is a page where it stands and its links are the same in a browser
of the repository and on the site. Nothing is fetched from the network.
"""

import sys
from pathlib import Path

from pygments.lexers.special import TextLexer
from sphinx.highlighting import lexers

import spnhub

sys.path.insert(0, str(Path(__file__).parent))

project = "SPN Hub"
version = release = spnhub.__version__
html_title = f"SPN Hub {release}"
copyright = "the SPN Hub authors"  # noqa: A001 - Sphinx calls it so

extensions = ["myst_parser", "sphinx.ext.autodoc", "derived"]
root_doc = "docs/index"
include_patterns = [
    "docs/**.md",
    "README.md",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "compose/README.md",
    "schemas/README.md",
    "transport/*.md",
]
# Folders that would only be searched in vain; src has the others again, as links.
exclude_patterns = [".*", "build", "src", "tests"]

# Else the dashes of an option become one long dash.
smartquotes = False
myst_heading_anchors = 4
myst_enable_extensions = ["fieldlist"]
# Diagrams of transport/STATES.md, which browsers of repositories draw; drawing them here would need a program.
lexers["mermaid"] = TextLexer()

autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_member_order = "groupwise"
# Every reference must lead somewhere, but for these: into the standard library, whose inventory isn't fetched, and
# behind the library's surface.
nitpick_ignore_regex = [("py:.*", r"(asyncio|collections|datetime|os|typing)\..*"), ("py:meth", r"Engine\..*")]

html_theme = "furo"
html_copy_source = False
html_show_sphinx = False
html_extra_path = ["site"]  # its index.html leads to docs/index.html
