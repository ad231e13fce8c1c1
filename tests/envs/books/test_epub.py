"""Small EPUBs of every make: with and without types, chapters split or spread over documents."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from envs.books import FoundBook, read_epub

MakeEpub = Callable[..., Path]

LONG = "It rained on the long road to town. " * 40


def titles(found: FoundBook) -> list[str]:
    return [chapter.title for chapter in found.book.chapters]


def texts(found: FoundBook) -> list[str]:
    return [chapter.text for chapter in found.book.chapters]


def reasons(found: FoundBook) -> dict[str, str]:
    return {left.part: left.reason for left in found.left_out}


def typed(kind: str, content: str, region: str = "bodymatter") -> str:
    return f'<body epub:type="{region}"><section epub:type="{kind}">{content}</section></body>'


def test_types_tell_chapters_from_matter(make_epub: MakeEpub) -> None:
    found = read_epub(
        make_epub(
            {
                "dedication.xhtml": typed("dedication", "<p>To you.</p>", "frontmatter"),
                "intro.xhtml": typed("introduction", "<h2>Introduction</h2><p>By a critic.</p>"),
                "prologue.xhtml": typed("prologue", "<h2>Before</h2><p>Long ago.</p>"),
                "one.xhtml": typed("chapter", "<h2>I</h2><p>One.</p>"),
                "two.xhtml": typed("chapter", "<h2>II</h2><p>Two.</p>"),
                "notes.xhtml": typed("endnotes", "<h2>Endnotes</h2><p>1. A note.</p>"),
            }
        )
    )
    assert titles(found) == ["Before", "I", "II"]
    assert texts(found) == ["Long ago.", "One.", "Two."]
    assert reasons(found) == {
        "OPS/dedication.xhtml": "a dedication",
        "Introduction": "an introduction to the book",
        "Endnotes": "endnotes",
    }


def test_a_foreword_marked_as_fiction_is_part_of_the_story(make_epub: MakeEpub) -> None:
    fiction = "frontmatter z3998:fiction"
    found = read_epub(
        make_epub(
            {
                "foreword.xhtml": typed("foreword", "<h2>Foreword</h2><p>I knew him.</p>", fiction),
                "one.xhtml": typed("chapter", "<h2>I</h2><p>One.</p>"),
                "two.xhtml": typed("chapter", "<h2>II</h2><p>Two.</p>"),
            }
        )
    )
    assert titles(found) == ["Foreword", "I", "II"]


def test_a_part_names_its_chapters_and_ends_before_the_epilogue(make_epub: MakeEpub) -> None:
    chapters = (
        '<section epub:type="chapter"><h3>I</h3><p>One.</p></section>'
        '<section epub:type="chapter"><h3>II</h3><p>Two.</p></section>'
    )
    found = read_epub(
        make_epub(
            {
                "part.xhtml": typed("part", f"<h2>Part I</h2>{chapters}"),
                "end.xhtml": typed("epilogue", "<h2>Epilogue</h2><p>After.</p>"),
            }
        )
    )
    assert titles(found) == ["Part I — I", "Part I — II", "Epilogue"]
    assert "title page" in reasons(found)["Part I"]


def test_note_marks_page_numbers_and_figures_are_not_text(make_epub: MakeEpub) -> None:
    body = (
        '<h2>I</h2><p>A word<a epub:type="noteref" href="n.xhtml#1">1</a> and'
        '<sup><a href="#f2">2</a></sup> more<span class="pagenum">[12]</span>.</p>'
        "<figure><img src='x.png' alt='x'/><figcaption>A map.</figcaption></figure>"
        "<p>An <i>italic</i>&nbsp;end&mdash;here.</p>"
    )
    other = typed("chapter", "<h2>II</h2><p>Two.</p>")
    found = read_epub(make_epub({"a.xhtml": typed("chapter", body), "b.xhtml": other}))
    assert texts(found)[0] == "A word and more.\n\nAn italic end—here."


def test_verse_keeps_its_lines_and_a_scene_break_stays(make_epub: MakeEpub) -> None:
    body = "<h2>I</h2><p>Sing:</p><p><span>one</span><br/>\n<span>two</span></p><hr/><p>Then.</p>"
    other = typed("chapter", "<h2>II</h2><p>Two.</p>")
    found = read_epub(make_epub({"a.xhtml": typed("chapter", body), "b.xhtml": other}))
    assert texts(found)[0] == "Sing:\n\none\ntwo\n\n* * *\n\nThen."


def test_a_document_with_several_chapters_is_split_at_its_headings(make_epub: MakeEpub) -> None:
    body = (
        "<body><h1>The Small Book</h1><p>by Ann Author</p>"
        "<h2>Contents</h2><p>Chapter 1 ... Chapter 2</p>"
        "<h2>Chapter 1</h2><h3>The Door</h3><p>One.</p><h3>Later</h3><p>More of one.</p>"
        "<h2>Chapter 2</h2><p>Two.</p><h2>About the Author</h2><p>She lives.</p></body>"
    )
    found = read_epub(make_epub({"all.xhtml": body}))
    assert titles(found) == ["Chapter 1: The Door", "Chapter 2"]
    assert texts(found) == ["One.\n\nLater\n\nMore of one.", "Two."]
    assert reasons(found)["About the Author"] == "about the makers"
    assert reasons(found)["Contents"] == "a table of contents"


def test_a_chapter_spread_over_documents_is_joined(make_epub: MakeEpub) -> None:
    found = read_epub(
        make_epub(
            {
                "cover.xhtml": "<body><p>A cover.</p></body>",
                "a.xhtml": "<body><h1>Chapter 1</h1><p>One.</p></body>",
                "b.xhtml": "<body><p>Still one.</p></body>",
                "c.xhtml": "<body><h1>Chapter 2</h1><p>Two.</p></body>",
            }
        )
    )
    assert texts(found) == ["One.\n\nStill one.", "Two."]
    assert reasons(found) == {"OPS/cover.xhtml (2 words)": "stands outside the chapters"}


def test_without_headings_the_table_of_contents_divides(make_epub: MakeEpub) -> None:
    found = read_epub(
        make_epub(
            {
                "t.xhtml": "<body><p>All rights reserved.</p></body>",
                "a.xhtml": "<body><p>One.</p></body>",
                "b.xhtml": '<body><p>More.</p><p id="mid">Two.</p></body>',
            },
            contents={
                "t.xhtml": "Copyright",
                "a.xhtml": "The Door",
                "b.xhtml#mid": "The Window",
            },
        )
    )
    assert titles(found) == ["The Door", "The Window"]
    assert texts(found) == ["One.\n\nMore.", "Two."]
    assert reasons(found) == {"Copyright": "a copyright notice"}


def test_headings_without_numbers_are_chapters_where_none_has_one(make_epub: MakeEpub) -> None:
    bodies = {
        f"{n}.xhtml": f"<body><h2>{name}</h2><p>{LONG}</p></body>"
        for n, name in enumerate(["The Cyclone", "The Council", "Acknowledgments"])
    }
    found = read_epub(make_epub(bodies))
    assert titles(found) == ["The Cyclone", "The Council"]


def test_a_chapter_heading_in_an_ordinary_paragraph_is_found(make_epub: MakeEpub) -> None:
    body = "<body><p>CHAPTER I</p><p>One.</p><p>CHAPTER II</p><p>Two.</p></body>"
    found = read_epub(make_epub({"all.xhtml": body}))
    assert titles(found) == ["CHAPTER I", "CHAPTER II"]
    assert texts(found) == ["One.", "Two."]


def test_parts_and_unnumbered_chapters_of_a_plain_book(make_epub: MakeEpub) -> None:
    found = read_epub(
        make_epub(
            {
                "p.xhtml": "<body><h1>PART ONE</h1></body>",
                "a.xhtml": "<body><h2>1</h2><p>One.</p></body>",
                "b.xhtml": "<body><h2>2</h2><p>Two.</p></body>",
                "i.xhtml": "<body><h2>The Storm</h2><p>Between.</p></body>",
                "e.xhtml": "<body><h2>Epilogue</h2><p>After.</p></body>",
            },
            contents={
                "p.xhtml": "PART ONE",
                "a.xhtml": "1",
                "b.xhtml": "2",
                "i.xhtml": "The Storm",
                "e.xhtml": "Epilogue",
            },
        )
    )
    assert titles(found) == [
        "PART ONE — 1", "PART ONE — 2", "PART ONE — The Storm", "Epilogue"
    ]  # fmt: skip


def test_the_licence_of_a_gutenberg_epub_is_no_text(make_epub: MakeEpub) -> None:
    body = (
        "<body><p>This eBook is for anyone.</p>"
        "<p>*** START OF THE PROJECT GUTENBERG EBOOK THE SMALL BOOK ***</p>"
        "<h2>CHAPTER I</h2><p>One.</p><h2>CHAPTER II</h2><p>Two.</p>"
        "<p>*** END OF THE PROJECT GUTENBERG EBOOK THE SMALL BOOK ***</p>"
        "<p>Section 1. General Terms of Use</p></body>"
    )
    found = read_epub(make_epub({"all.xhtml": body}))
    assert texts(found) == ["One.", "Two."]


def test_editions_of_a_book_share_an_id(make_epub: MakeEpub, two_chapters: dict[str, str]) -> None:
    one = read_epub(make_epub(two_chapters, title="Emma; or, The Match", author="Jane Austen"))
    other = read_epub(make_epub(two_chapters, title="Emma", author="Austen, Jane"))
    assert one.book.book_id == other.book.book_id == "austen_emma"
