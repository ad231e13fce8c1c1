"""From files to books: EPUB, Project Gutenberg text, JSONL and Hugging Face datasets."""

from envs.books.epub import read_epub
from envs.books.errors import BookError
from envs.books.found import FoundBook, LeftOut
from envs.books.gutenberg import read_gutenberg
from envs.books.listing import as_json, as_table
from envs.books.published import read_published_episodes
from envs.books.shelf import EpisodeSource, Shelf, ShelfEntry, read_shelf

__all__ = [
    "BookError",
    "EpisodeSource",
    "FoundBook",
    "LeftOut",
    "Shelf",
    "ShelfEntry",
    "as_json",
    "as_table",
    "read_epub",
    "read_gutenberg",
    "read_published_episodes",
    "read_shelf",
]
