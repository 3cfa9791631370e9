"""photos.py: small pictures that look nothing like each other: 36 squares of random colours, as PNG."""

import hashlib
import random
import struct
import zlib

SIDE, SQUARES = 48, 6


def _chunk(name, body):
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def _png(rng):
    colours = [[bytes(rng.randrange(256) for _ in range(3)) for _ in range(SQUARES)] for _ in range(SQUARES)]
    step = SIDE // SQUARES
    rows = b"".join((b"\0" + b"".join(colour * step for colour in row)) * step for row in colours)
    return (b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", struct.pack(">IIBBBBB", SIDE, SIDE, 8, 2, 0, 0, 0)) +
            _chunk(b"IDAT", zlib.compress(rows)) + _chunk(b"IEND", b""))


def make(n, seed):
    """{SHA-256: picture}"""
    rng = random.Random(f"photos {seed}")
    made = [_png(rng) for _ in range(n)]
    return {hashlib.sha256(data).hexdigest(): data for data in made}
