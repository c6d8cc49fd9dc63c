"""CITATION.cff is what tools that make a reference of it take, and says what pyproject.toml says."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import yaml

import grokinterp as gi

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text())
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_it_has_what_the_format_requires_and_nothing_that_it_does_not_know():
    required = {"cff-version", "message", "title", "authors"}
    optional = {
        "abstract", "commit", "contact", "date-released", "doi", "identifiers", "keywords", "license",
        "license-url", "preferred-citation", "references", "repository", "repository-artifact",
        "repository-code", "type", "url", "version",
    }  # fmt: skip
    assert required <= set(CITATION) <= required | optional
    assert CITATION["cff-version"] == "1.2.0"
    assert CITATION["type"] in ("software", "dataset")
    assert all(CITATION[key] and isinstance(CITATION[key], str) for key in ("message", "title", "version"))
    of_entity = {"name", "address", "alias", "city", "country", "email", "location", "website"}
    assert all("name" in author and set(author) <= of_entity for author in CITATION["authors"])


def test_it_says_what_the_package_says():
    assert CITATION["version"] == gi.__version__
    assert CITATION["license"] == PROJECT["license"]
    assert CITATION["keywords"] == PROJECT["keywords"]
    assert CITATION["title"].startswith(PROJECT["name"])
    assert PROJECT["description"].startswith(CITATION["title"].partition(": ")[2].capitalize())
    holders = [author["name"] for author in CITATION["authors"]]
    assert all(name in (ROOT / "LICENSE").read_text() for name in holders)


def test_a_tool_takes_it():
    citation = pytest.importorskip("cffconvert", reason="cffconvert is not installed").Citation(
        (ROOT / "CITATION.cff").read_text()
    )
    citation.validate()
    assert "grokinterp" in citation.as_bibtex()
