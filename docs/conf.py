"""Configuration of the documentation; built by ``make docs``."""

from importlib.metadata import version as installed_version

project = "skprotolm"
author = "The skprotolm developers"
copyright = f"2026, {author}"
version = release = installed_version("skprotolm")

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx_gallery.gen_gallery",
]
templates_path = ["_templates"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"skprotolm {release}"

# A name in single backticks becomes a link where there is such an object.
default_role = "autolink"
# The docs are built without the network, so other projects' objects stay plain text.
nitpick_ignore_regex = [
    (r"py:.*", r"(joblib|numpy|pandas|sentence_transformers|sklearn|torch)\..+"),
]

# Types stand in the numpydoc sections; annotations would repeat them.
autodoc_typehints = "none"
# Templates list the members, so numpydoc needs no tables of its own.
numpydoc_show_class_members = False
numpydoc_validation_checks = {
    "GL08",  # every public object has a docstring,
    "SS01",  # with a summary,
    "PR01",  # every parameter is documented,
    "PR02",  # and none that does not exist,
    "PR03",  # in the order of the signature,
    "PR04",  # with its type
    "PR07",  # and a description,
    "RT03",  # as is every returned value
}
numpydoc_validation_exclude = {
    # Users read the attributes of these, and build none.
    r"\.(Prototypes?|Nearest|Explanations?|WordAlignment|Simulatability)$",
    r"\.Nearest\.(count|index)$",  # a tuple's
    r"\.__\w+__$",
}

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "filename_pattern": r"plot_\w+\.py$",
    # All else in the folder (demo.py) is no page of the gallery.
    "ignore_pattern": r"(^|[\\/])(?!plot_)[^\\/]+\.py$",
    "abort_on_example_error": True,
    "download_all_examples": False,
    "show_memory": False,
}


def setup(app):
    """Document our own members; scikit-learn and Python document theirs."""
    app.connect("autodoc-skip-member", _skip_inherited_from_elsewhere)


def _skip_inherited_from_elsewhere(app, what, name, obj, skip, options):
    module = getattr(obj, "__module__", None) or project
    return skip or not module.startswith(project)
