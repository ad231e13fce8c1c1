"""Broken and hostile EPUBs: one line that names the file and the remedy, and no harm done."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from envs.books import BookError, read_epub, read_shelf
from envs.books.archive import Archive, Limits

MakeEpub = Callable[..., Path]

BOMB = (
    '<!DOCTYPE html [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">'
    '<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">]>'
    "<html xmlns='http://www.w3.org/1999/xhtml'><body><p>&c;</p></body></html>"
)
ENCRYPTION = (
    '<encryption xmlns="urn:oasis:names:tc:opendocument:xmlns:container"'
    ' xmlns:enc="http://www.w3.org/2001/04/xmlenc#"><enc:EncryptedData>'
    '<enc:EncryptionMethod Algorithm="{algorithm}"/><enc:CipherData>'
    '<enc:CipherReference URI="{uri}"/></enc:CipherData></enc:EncryptedData></encryption>'
)


def refusal(path: Path) -> str:
    """The one line that reading this file ends in, through the door that users take."""
    with pytest.raises(BookError) as caught:
        read_shelf([path])
    message = str(caught.value)
    assert message.startswith(str(path)) and "\n" not in message
    return message


def with_member(source: Path, name: str, content: str | bytes) -> Path:
    """A copy of an EPUB in which one member is replaced."""
    target = source.with_name("changed.epub")
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for info in old.infolist():
            new.writestr(info, content if info.filename == name else old.read(info))
    return target


@pytest.fixture
def sound(make_epub: MakeEpub, two_chapters: dict[str, str]) -> Path:
    return make_epub(two_chapters)


def test_the_sound_book_that_the_others_are_made_from_is_read(sound: Path) -> None:
    assert len(read_epub(sound).book.chapters) == 2


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_truncated_epub_is_refused(sound: Path, share: float) -> None:
    content = sound.read_bytes()
    sound.write_bytes(content[: int(share * len(content))])
    assert "truncated or damaged" in refusal(sound)


def test_a_damaged_member_is_refused(sound: Path) -> None:
    content = bytearray(sound.read_bytes())
    start = content.find(b"OPS/1.xhtml") + 20
    content[start : start + 40] = bytes(40)
    sound.write_bytes(content)
    assert "truncated or damaged" in refusal(sound)


def test_encrypted_content_is_refused(make_epub: MakeEpub, two_chapters: dict[str, str]) -> None:
    aes = ENCRYPTION.format(algorithm="http://www.w3.org/2001/04/xmlenc#aes256-cbc", uri="1.xhtml")
    path = make_epub(two_chapters, extra={"META-INF/encryption.xml": aes})
    assert "encrypted" in refusal(path)


def test_obfuscated_fonts_do_not_matter(make_epub: MakeEpub, two_chapters: dict[str, str]) -> None:
    font = ENCRYPTION.format(algorithm="http://www.idpf.org/2008/embedding", uri="OPS/font.otf")
    path = make_epub(two_chapters, extra={"META-INF/encryption.xml": font})
    assert len(read_epub(path).book.chapters) == 2


def test_a_zip_with_a_password_is_refused(sound: Path) -> None:
    content = bytearray(sound.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        position = content.find(signature)
        while position >= 0:
            content[position + offset] |= 1
            position = content.find(signature, position + 4)
    sound.write_bytes(content)
    assert "encrypted" in refusal(sound)


def test_a_zip_bomb_is_refused_before_it_is_unpacked(
    make_epub: MakeEpub, two_chapters: dict[str, str]
) -> None:
    zeros = bytes(8 << 20)
    assert "zip bomb" in refusal(make_epub(two_chapters, extra={"OPS/bomb.bin": zeros}))


def test_a_size_that_lies_does_not_pass(sound: Path) -> None:
    """The directory claims ten bytes where two megabytes are packed."""
    big = with_member(sound, "OPS/1.xhtml", "<html><body>" + "word " * 400_000 + "</body></html>")
    content = bytearray(big.read_bytes())
    directory = content.find(b"PK\x01\x02")
    while content[directory + 46 : directory + 57] != b"OPS/1.xhtml":
        directory = content.find(b"PK\x01\x02", directory + 4)
    content[directory + 24 : directory + 28] = struct.pack("<I", 10)
    big.write_bytes(content)
    assert "truncated or damaged" in refusal(big)


@pytest.mark.parametrize(
    ("limits", "word"),
    [
        (Limits(max_members=3), "members"),
        (Limits(max_member_bytes=100), "unpacks to more than 100 bytes"),
        (Limits(max_total_bytes=600), "it unpacks to more than 600 bytes"),
        (Limits(max_ratio=1, ratio_free_bytes=10), "times its size"),
    ],
)
def test_every_limit_holds(sound: Path, limits: Limits, word: str) -> None:
    with pytest.raises(BookError, match="zip bomb") as caught:
        read_epub(sound, limits)
    assert word in str(caught.value)


def test_the_total_is_counted_while_members_are_unpacked(sound: Path) -> None:
    """Reading one member again and again ends at the total, whatever the directory declares."""
    total_bytes = sum(info.file_size for info in zipfile.ZipFile(sound).infolist())
    with (
        Archive(sound, Limits(max_total_bytes=total_bytes)) as archive,
        pytest.raises(BookError, match="zip bomb"),
    ):
        for _ in range(1 + total_bytes // 100):
            archive.read("OPS/1.xhtml")


@pytest.mark.parametrize("name", ["OPS/1.xhtml", "OPS/package.opf", "META-INF/container.xml"])
def test_an_entity_bomb_is_refused(sound: Path, name: str) -> None:
    message = refusal(with_member(sound, name, BOMB))
    assert "entity bomb" in message and name in message


def test_an_external_entity_is_not_fetched(sound: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("a secret")
    body = (
        f'<!DOCTYPE html [<!ENTITY x SYSTEM "{secret.as_uri()}">]>'
        "<html><body><p>&x;</p></body></html>"
    )
    assert "entity bomb" in refusal(with_member(sound, "OPS/1.xhtml", body))


@pytest.mark.parametrize(
    "href", ["../../../etc/passwd", "/etc/passwd", "file:///etc/passwd", "..%2f..%2fx", "C:\\x"]
)
def test_a_manifest_that_points_outside_is_refused(
    make_epub: MakeEpub, two_chapters: dict[str, str], href: str
) -> None:
    item = f'<item id="out" href="{href}" media-type="application/xhtml+xml"/>'
    assert "outside the archive" in refusal(make_epub(two_chapters, extra_items=item))


def test_a_remote_film_in_the_manifest_is_legal(
    make_epub: MakeEpub, two_chapters: dict[str, str]
) -> None:
    item = '<item id="film" href="https://example.org/f.mp4" media-type="video/mp4"/>'
    assert len(read_epub(make_epub(two_chapters, extra_items=item)).book.chapters) == 2


@pytest.mark.parametrize(
    ("name", "content", "word"),
    [
        ("OPS/1.xhtml", "<html><body><p>no end", "not well-formed"),
        ("OPS/1.xhtml", "<html><body><p>&nosuchname;</p></body></html>", "not well-formed"),
        ("OPS/1.xhtml", b"<html><body><p>caf\xe9</p></body></html>", "not text in the encoding"),
        ("OPS/1.xhtml", "<div>" * 40_000 + "</div>" * 40_000, "nested too deeply"),
        ("META-INF/container.xml", "<container/>", "names no package"),
        ("OPS/package.opf", "<package/>", "no spine"),
    ],
)
def test_a_malformed_member_is_named(
    sound: Path, name: str, content: str | bytes, word: str
) -> None:
    assert word in refusal(with_member(sound, name, content))


def test_a_document_that_is_missing_is_named(sound: Path) -> None:
    target = sound.with_name("missing.epub")
    with zipfile.ZipFile(sound) as old, zipfile.ZipFile(target, "w") as new:
        for info in old.infolist():
            if info.filename != "OPS/2.xhtml":
                new.writestr(info, old.read(info))
    assert "'OPS/2.xhtml'" in refusal(target)


def test_a_book_with_one_chapter_is_refused(make_epub: MakeEpub) -> None:
    body = {"a.xhtml": "<body><h1>Chapter 1</h1><p>One.</p></body>"}
    assert "one chapter only" in refusal(make_epub(body))


def test_a_book_without_chapters_is_refused(make_epub: MakeEpub) -> None:
    assert "no chapters" in refusal(make_epub({"a.xhtml": "<body><p>Just text.</p></body>"}))
