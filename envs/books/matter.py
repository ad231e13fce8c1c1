"""Front and back matter: what stands in a book but is not told by it."""

from __future__ import annotations

import re

# EPUB's structural vocabulary. Each reason completes "left out: ...".
MATTER_TYPES = {
    "abstract": "a summary of the book",
    "acknowledgments": "acknowledgments",
    "appendix": "an appendix",
    "bibliography": "a bibliography",
    "colophon": "a colophon",
    "contributors": "a list of contributors",
    "copyright-page": "a copyright notice",
    "cover": "the cover",
    "dedication": "a dedication",
    "endnotes": "endnotes",
    "rearnotes": "endnotes",
    "footnotes": "footnotes",
    "epigraph": "an epigraph",
    "errata": "errata",
    "frontispiece": "an illustration",
    "glossary": "a glossary",
    "halftitlepage": "a half-title page",
    "halftitle": "a half-title page",
    "imprint": "an imprint",
    "imprimatur": "an imprimatur",
    "index": "an index",
    "landmarks": "navigation",
    "loi": "a list of illustrations",
    "lot": "a list of tables",
    "other-credits": "credits",
    "seriespage": "a series page",
    "titlepage": "a title page",
    "title-page": "a title page",
    "toc": "a table of contents",
    "z3998:editorial-note": "an editorial note",
    "z3998:publisher-address": "an imprint",
}
# These stand outside the story unless the book marks them as fiction, as it does with a
# foreword that a character of the story signs.
FRAME_TYPES = {
    "afterword": "an afterword about the book",
    "foreword": "a foreword about the book",
    "introduction": "an introduction to the book",
    "preface": "a preface about the book",
}

_NAMES = (
    (r"cover|(?:half[- ]?)?title[- ]?page", "a title page"),
    (r"imprint|copyright.*|uncopyright|legal(?: notice)?|licen[cs]e|all rights reserved.*",
     "a copyright notice"),
    (r"(?:table of )?contents|toc", "a table of contents"),
    (r"list of (?:illustrations|plates|figures)|illustrations", "a list of illustrations"),
    (r"dedication|dedicated to.*", "a dedication"),
    (r"epigraph", "an epigraph"),
    (r"(?:author[’']?s |translator[’']?s |editor[’']?s )?(?:preface|foreword|introduction|"
     r"introductory note|prefatory note|afterword)(?: (?:to|by) .*)?|advertisement",
     "a preface or afterword"),
    (r"acknowledge?ments?", "acknowledgments"),
    (r"(?:end|foot)?notes", "notes"),
    (r"(?:author|translator|editor|transcriber|publisher)[’']?s? notes?.*|a note on .*",
     "a note about the book"),
    (r"about (?:the )?(?:author|publisher|translator|book|project gutenberg).*",
     "about the makers"),
    (r"(?:also|other (?:books|works|titles)|more) (?:by|from) .*|by the same author|"
     r"advertisements?|praise for .*|newsletter.*|an excerpt from .*", "an advertisement"),
    (r"colophon|credits", "a colophon"),
    (r"bibliography|references|works cited|further reading", "a bibliography"),
    (r"appendix.*", "an appendix"),
    (r"glossary|index|errata|dramatis person[aæ]e?|reading group guide.*|discussion questions.*",
     "a list or guide"),
    (r"(?:the )?(?:full )?project gutenberg.*|the end|finis", "not part of the story"),
)  # fmt: skip
_PATTERNS = tuple((re.compile(pattern, re.IGNORECASE), reason) for pattern, reason in _NAMES)


def matter_by_type(types: frozenset[str], fiction: bool) -> str | None:
    """Why a division of these types is no chapter, or None if its types do not say so."""
    for kind in sorted(types):
        if kind in MATTER_TYPES:
            return MATTER_TYPES[kind]
        if kind in FRAME_TYPES and not fiction:
            return FRAME_TYPES[kind]
    return None


def matter_by_name(title: str) -> str | None:
    """Why a division with this title is no chapter, or None if its title does not say so."""
    name = " ".join(title.split()).strip(" .:—-*_[]")
    for pattern, reason in _PATTERNS:
        if pattern.fullmatch(name):
            return reason
    return None
