"""Base64 as Go's decoder takes it, with its complaint: it names the byte at which a text goes wrong."""

from __future__ import annotations

import binascii


def decode(text: str) -> bytes:
    """The bytes of a padded text in the standard alphabet. ValueError has Go's words."""
    try:
        if len(text) % 4:
            raise binascii.Error("not whole groups of four")
        return binascii.a2b_base64(text.encode("ascii", "replace"), strict_mode=True)
    except binascii.Error:
        raise ValueError(f"illegal base64 data at input byte {_bad_byte(text)}") from None


def _bad_byte(text: str) -> int:
    letters = text.rstrip("=")
    for at, char in enumerate(letters):
        if not (char.isascii() and (char.isalnum() or char in "+/")):
            return at
    if len(letters) == len(text):
        return len(letters) // 4 * 4  # the text ends within a group of four
    return len(text) if len(letters) % 4 == 2 else len(letters)
