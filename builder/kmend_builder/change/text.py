# SPDX-License-Identifier: GPL-2.0-or-later
"""Source text and its lines. Bytes that are not UTF-8 survive as surrogates; only a newline ends a line."""

ENCODING = "utf-8"


def decode(data: bytes) -> str:
    """Text of a source file, without loss."""
    return data.decode(ENCODING, "surrogateescape")


def encode(value: str) -> bytes:
    """The bytes decode() made the text from."""
    return value.encode(ENCODING, "surrogateescape")


def lines(value: str) -> list[str]:
    """The lines, each with its newline; str.splitlines() would also split at form feeds, which sources have."""
    parts = value.split("\n")
    tail = parts.pop()
    return [part + "\n" for part in parts] + ([tail] if tail else [])
