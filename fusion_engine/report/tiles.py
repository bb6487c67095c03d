"""Rendered samples as parts of a page: each a data: URI or a text, each sound once."""

import base64
import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass, field

from PIL import Image

from fusion_engine.values import Media

SMALL = 64
"""Pictures up to this many pixels a side are enlarged with sharp edges."""


@dataclass(frozen=True)
class Tile:
    """What a page shows for one sample.

    Args:
        alt: says what it is, to who cannot see it.
        picture: a data: URI; empty where there is none.
        width: of the picture, in pixels.
        height: of the picture, in pixels.
        sound: the name of a sound on the page; empty where it makes none.
        text: what it reads, for a text.
        gap: why there is nothing, where there is nothing.
    """

    alt: str = ""
    picture: str = ""
    width: int = 0
    height: int = 0
    sound: str = ""
    text: str = ""
    gap: str = ""

    @property
    def wordy(self) -> bool:
        """Whether it is a text, perhaps an empty one."""
        return bool(self.alt) and not (self.picture or self.sound)

    @property
    def sharp(self) -> bool:
        """Whether single pixels are to be seen."""
        return 0 < max(self.width, self.height) <= SMALL


@dataclass(frozen=True)
class Sound:
    """A sound as a data: URI, and what it is."""

    uri: str
    alt: str


@dataclass
class Shelf:
    """Makes tiles, and keeps each sound of a page once, by name, however often it is shown."""

    sounds: dict[str, Sound] = field(default_factory=dict)

    def tiles(self, media: Sequence[Media | None], alt: str, gap: str = "missing") -> list[Tile]:
        """Make a tile of each; None is a gap.

        Args:
            media: samples.
            alt: of each; a number is put behind it.
            gap: what stands in place of none.
        """
        return [Tile(gap=gap) if m is None else self.tile(m, f"{alt} {i}") for i, m in enumerate(media, 1)]

    def tile(self, media: Media, alt: str) -> Tile:
        """Make a tile of one sample."""
        kind = media.mime.partition("/")[0]
        if kind == "text":
            return Tile(alt, text=media.content.decode("utf-8", "replace"))
        if kind == "image":
            return _pictured(Tile(alt), media.mime, media.content)
        sound = self._sound(media, alt) if kind == "audio" else ""
        if media.picture is not None:
            return _pictured(Tile(alt, sound=sound), "image/png", media.picture)
        return Tile(alt, sound=sound, text="" if sound else f"{media.mime}, {len(media.content)} bytes")

    def _sound(self, media: Media, alt: str) -> str:
        name = "sound-" + hashlib.blake2b(media.content, digest_size=6).hexdigest()
        self.sounds.setdefault(name, Sound(data_uri(media.mime, media.content), alt))
        return name


def _pictured(tile: Tile, mime: str, content: bytes) -> Tile:
    """Put a picture in; the size of a drawing (SVG) is its own affair."""
    width, height = (0, 0) if "svg" in mime else Image.open(io.BytesIO(content)).size
    return Tile(tile.alt, data_uri(mime, content), width, height, tile.sound)


def data_uri(mime: str, content: bytes) -> str:
    """Write bytes as an address that needs no file."""
    return f"data:{mime};base64,{base64.b64encode(content).decode('ascii')}"
