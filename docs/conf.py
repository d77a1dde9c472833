"""Sphinx: the site of ``make docs``, from the same Markdown that one reads in the repository, and from docstrings.

The source folder is the root of the repository, so that links between pages stay what they are. ``README.md`` is the front page.
"""

from __future__ import annotations

import shutil
from importlib import metadata
from pathlib import Path

from sphinx.application import Sphinx

project = "sr-deploy"
version = release = metadata.version(project)
copyright = "the authors of sr-deploy, Apache-2.0"
root_doc = "README"
include_patterns = [
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "docs/*.md",
    "docs/*.rst",
    "*/README.md",
    "train/pretrained/README.md",
]
exclude_patterns = ["build", ".*", "tests"]
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_heading_anchors = 4
highlight_language = "none"
smartquotes = False  # "--" and "..." are what they are

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_default_options = {"members": True}

html_theme = "furo"
html_title = f"sr-deploy {release}"
html_static_path = ["site.css"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_theme_options = {"navigation_with_keys": True}

CONTENTS = """
```{toctree}
:hidden:
:caption: Use it

docs/install
docs/infer
docs/infer_api
docs/infer_formats
docs/infer_sources
docs/infer_large
docs/infer_video
```

```{toctree}
:hidden:
:caption: Make an engine

docs/models
docs/training
docs/calibration
docs/gate
docs/tensorrt
```

```{toctree}
:hidden:
:caption: Look things up

docs/glossary
docs/api
benchmarks/README
train/pretrained/README
calib_data/README
CHANGELOG
```

```{toctree}
:hidden:
:caption: Work on it

docs/architecture
docs/add_a_network
docs/add_a_backend
CONTRIBUTING
```
"""


def add_contents(app: Sphinx, page: str, source: list[str]) -> None:
    """Add the table of contents to the front page, where the repository shows none."""
    if page == root_doc:
        source[0] += CONTENTS


def write_index(app: Sphinx, error: Exception | None) -> None:
    """Make the front page that of the folder, too."""
    if error is None:
        shutil.copyfile(Path(app.outdir) / f"{root_doc}.html", Path(app.outdir) / "index.html")


def keep_first_paragraph(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:  # noqa: PLR0917
    """Leave out of a room's docstring what is for those who read its code: where to begin, what it imports."""
    if what == "module" and "" in lines and hasattr(obj, "__path__"):
        del lines[lines.index("") :]


def setup(app: Sphinx) -> None:
    """Register all three."""
    app.connect("autodoc-process-docstring", keep_first_paragraph)
    app.connect("source-read", add_contents)
    app.connect("build-finished", write_index)
