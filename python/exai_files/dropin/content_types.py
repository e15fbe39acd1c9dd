"""A file's type by its first bytes. Its name is believed only where they do not contradict it."""

from __future__ import annotations

import mimetypes
import re

__all__ = ["content_type", "executable"]

_OCTETS = "application/octet-stream"

# Its own, as the system's table and the Windows registry say something else on every machine.
_NAMES = mimetypes.MimeTypes()
for _type, _extension in (
    ("application/epub+zip", ".epub"),
    ("application/vnd.openxmlformats-officedocument.presentationml.presentation", ".pptx"),
    ("application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", ".xlsx"),
    ("application/vnd.openxmlformats-officedocument.wordprocessingml.document", ".docx"),
    ("image/bmp", ".bmp"),
    ("image/webp", ".webp"),
    ("text/javascript", ".mjs"),
    ("text/markdown", ".md"),
    ("text/plain", ".ts"),
):
    _NAMES.add_type(_type, _extension)

_SIGNATURES = (
    ("application/pdf", rb"(\xef\xbb\xbf)?\s*%PDF-"),
    ("image/png", rb"\x89PNG\r\n\x1a\n"),
    ("image/jpeg", rb"\xff\xd8\xff"),
    ("image/gif", rb"GIF8[79]a"),
    ("image/webp", rb"RIFF[\s\S]{4}WEBP"),
    ("application/zip", rb"PK(\x03\x04|\x05\x06|\x07\x08)"),
    ("application/gzip", rb"\x1f\x8b"),
    ("application/x-tar", rb"[\s\S]{257}ustar"),
)

# Types that are zip archives inside, and are known by their names alone.
_ZIPPED = re.compile(r"application/(vnd\.(openxmlformats-|oasis\.)|epub\+zip|java-archive|x-java-archive)")

_EXECUTABLES = (
    ("Windows executable", rb"MZ"),
    ("ELF executable", rb"\x7fELF"),
    ("Mach-O executable", rb"\xfe\xed\xfa[\xce\xcf]|[\xce\xcf]\xfa\xed\xfe"),
    ("Mach-O universal binary or Java class", rb"\xca\xfe\xba[\xbe\xbf]|[\xbe\xbf]\xba\xfe\xca"),
    ("WebAssembly module", rb"\x00asm"),
    ("Dalvik executable", rb"dex\n\d{3}\x00"),
    ("Debian package or static library", rb"!<arch>\n"),
    ("RPM package", rb"\xed\xab\xee\xdb"),
    ("macOS installer package", rb"xar!"),
)

_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")


def content_type(head: bytes, name: str) -> str:
    """The MIME type of a file.

    Args:
        head: Its first bytes, a few hundred or more.
        name: Its name.
    """
    named = _NAMES.guess_type(name)[0] or _OCTETS
    found = _matching(_SIGNATURES, head)
    if found == "application/zip" and _ZIPPED.match(named):
        return named
    if found:
        return found
    if not head:
        return named
    if named in dict(_SIGNATURES) or _ZIPPED.match(named):
        return "text/plain" if _is_text(head) else _OCTETS
    major = named.partition("/")[0]
    if major in ("audio", "font", "image", "video") and named != "image/svg+xml" and _is_text(head):
        return "text/plain"
    return _OCTETS if major == "text" and not _is_text(head) else named


def executable(head: bytes) -> str | None:
    """What kind of program or package it is, in words; None where it is none."""
    found = _matching(_EXECUTABLES, head)
    # "MZ" may begin a text, as the country code of Mozambique does many a table.
    return None if found == "Windows executable" and _is_text(head) else found


def _matching(kinds: tuple[tuple[str, bytes], ...], head: bytes) -> str | None:
    return next((kind for kind, pattern in kinds if re.match(pattern, head)), None)


def _is_text(head: bytes) -> bool:
    return head.startswith(_UTF_16) or not _CONTROL.search(head)
