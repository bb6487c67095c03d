"""Digits as images, pen strokes, speech, text and labels, with missing cells and noise on request."""

import zlib
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from fusion_engine import Dataset, require
from fusion_engine_digits.gaps import check, check_columns, kept
from fusion_engine_digits.phrases import DIGITS, meaning, phrase
from fusion_engine_digits.source import ARRAY_OF, Source, read
from fusion_engine_digits.speech import exchange, shifted, with_noise

Row = Mapping[str, Any]


class Digits(Dataset):
    """Handwritten and spoken digits; a row is {modality: raw sample or None}.

    The packaged data set has 1437 rows to learn from and 360 to test on, mostly by other writers; ``data/README.md``
    says where it comes from. Raw samples:

    - ``image``: uint8 [h w], 0..255 (8 x 8 in the packaged data set);
    - ``mirror``: the image mirrored left to right, as a second image modality, with noise and gaps of its own;
    - ``strokes``: float32 [n 3], dx, dy in pixels and 1 where the pen is lifted after the point;
    - ``audio``: (float32 [l] in [-1, 1], rate in Hz), the digit spoken. In the packaged data set 8 kHz, at most 0.55 s,
      paired by label: test rows are spoken by voices that no other row has;
    - ``text``: str, a phrase of at most 20 bytes that is true of the digit: "the digit 7", or "more than four";
    - ``label``: int.

    Whatever is random is keyed by (seed, row of the data set, modality, pairing): a further modality or another
    validation share leaves noise, clips and phrases as they are. Test and validation rows are complete. Files are read
    when a split is first asked for.

    Args:
        modalities: which, in this order.
        missing: the share of all cells taken out of the training rows; a row always keeps one. Of m modalities a share
            of up to (m - 1) / m can be missing.
        validation: the share of the training rows set aside, after a seeded shuffle.
        noise: the deviation of the Gaussian noise added to images of every split, in units of their range; what leaves
            the range is cut off.
        audio_noise: white noise added to the clips of every split, as a ratio of signal to noise in decibels, of
            mean power over the clip, an offset's silence included; None adds none. What would leave [-1, 1] is made
            quieter as a whole.
        audio_offset: seconds of silence put around each clip, of every split: it begins after a random part of them.
        strokes_part: the share of each row's points that is kept, from the first one on; at least one point.
        ambiguous: the share of phrases that name several digits.
        pairings: how often the training rows are repeated, each time with another clip, a phrase drawn anew and other
            gaps beside the same image and strokes. The first pairing comes first, and is what it is alone.
        seed: of noise, gaps, shuffle, clips and phrases.
        path: another data set of the same layout, an npz file or a folder with one: image uint8 [n h w] (0..255; or
            0..16, if nothing is brighter), strokes [n l 3], strokes_length or length [n], audio int16 [n l],
            audio_length [n], sample_rate (8000, if there is none), label [n], and test [n] (0 or 1) or fold [n]. Arrays
            that no modality needs may be absent. Audio i belongs to row i; in further pairings training rows of one
            label exchange theirs. Text is made from the label.
        fold: which fold is the test split, where the file at ``path`` has folds and no test flag. Files in which a
            recording occurs twice have folds that keep the two together; the validation split is by row and does not.
        group: a further column that every row gets under its own name, such as speaker or recording: a 1-D array [n]
            of the file at ``path``, whole numbers or text. What belongs together is kept together by it.
        hold_out: ``{speaker: 3}``: the rows that have this value are the test split, and no others; any such array.

    Raises:
        ConfigError: modalities are repeated or none, more is to be missing than rows can spare, or ``group`` and
            ``hold_out`` do not fit the rest.
        DataError: the file at ``path`` does not fit; raised when a split is asked for.
    """

    def __init__(
        self,
        *,
        modalities: tuple[Literal["image", "mirror", "strokes", "audio", "text", "label"], ...] = ("image", "strokes"),
        missing: Annotated[float, Field(ge=0, lt=1)] = 0.0,
        validation: Annotated[float, Field(ge=0, lt=1)] = 0.1,
        noise: Annotated[float, Field(ge=0)] = 0.0,
        audio_noise: Annotated[float, Field(ge=-100, le=100)] | None = None,
        audio_offset: Annotated[float, Field(ge=0, le=10)] = 0.0,
        strokes_part: Annotated[float, Field(gt=0, le=1)] = 1.0,
        ambiguous: Annotated[float, Field(ge=0, le=1)] = 0.3,
        pairings: Annotated[int, Field(ge=1)] = 1,
        seed: Annotated[int, Field(ge=0)] = 0,
        path: str | None = None,
        fold: Annotated[int, Field(ge=0)] = 4,
        group: str | None = None,
        hold_out: Annotated[Mapping[str, int | str], Field(min_length=1, max_length=1)] | None = None,
    ) -> None:
        check(modalities, missing)
        check_columns(modalities, path, group, hold_out, pairings)
        self.modalities, self.missing, self.validation_share = modalities, missing, validation
        self.noise, self.audio_noise, self.ambiguous, self.pairings = noise, audio_noise, ambiguous, pairings
        self.audio_offset, self.strokes_part = audio_offset, strokes_part
        self.seed, self.path, self.fold, self.group, self.hold_out = seed, path, fold, group, hold_out

    @cached_property
    def train(self) -> Sequence[Row]:
        """The rows to learn from, in the data set's order, with gaps; pairing after pairing."""
        return [row for pairing in range(self.pairings) for row in self._training_rows(pairing)]

    @cached_property
    def validation(self) -> Sequence[Row]:
        """The rows to choose by: complete, and by the same writers and voices as the training rows."""
        return [self._row(i) for i in self._split[1].tolist()]

    @cached_property
    def test(self) -> Sequence[Row]:
        """The rows to report on: complete, in the data set's order."""
        return [self._row(i) for i in np.flatnonzero(self._source.test).tolist()]

    def labels(self, modality: str, raw: Any) -> frozenset[Any] | None:
        """Return the digits that a text names, none if it is no phrase of the data set; None for other modalities."""
        return meaning(raw) if modality == "text" else None

    @cached_property
    def _source(self) -> Source:
        needed = {ARRAY_OF[name] for name in self.modalities}
        if "audio" in needed and (self.path is None or self.pairings > 1):
            needed.add("label")
        source = read(self.path, needed, self.fold, group=self.group, hold_out=self.hold_out)
        if source.label is not None and "text" in self.modalities:
            low, high = source.label.min(initial=0), source.label.max(initial=0)
            fits = low in DIGITS and high in DIGITS
            require(fits, "text names digits alone", expected="labels from 0 to 9", actual=f"{low} to {high}")
        return source

    @cached_property
    def _columns(self) -> Mapping[str, Sequence[Any]]:
        """The raw samples of every row that are the same in each pairing."""
        return {name: self._column(name) for name in self.modalities if name not in ("audio", "text")}

    @cached_property
    def _clips(self) -> Sequence[NDArray[np.int64]]:
        """Which clip each row has, [n] a pairing."""
        label, test, bank = self._source.label, self._source.test, self._source.bank
        if label is None:
            return [np.arange(len(test))]
        if bank is not None:
            return [bank.deal(label, test, pairing, self._random("audio")) for pairing in range(self.pairings)]
        return [exchange(label, self._split[0], pairing, self._random("audio")) for pairing in range(self.pairings)]

    @cached_property
    def _split(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows of the training and the validation split, each in the data set's order."""
        rows = self._random("validation").permutation(np.flatnonzero(~self._source.test))
        count = round(self.validation_share * len(rows))
        return np.sort(rows[count:]), np.sort(rows[:count])

    def _training_rows(self, pairing: int) -> Iterable[Row]:
        there = self._there(pairing)
        return (self._row(i, pairing, there[i]) for i in self._split[0].tolist())

    def _row(self, i: int, pairing: int = 0, there: NDArray[np.bool_] | None = None) -> Row:
        cells = enumerate(self.modalities)
        row: dict[str, Any] = {}
        row |= {name: self._cell(name, i, pairing) if there is None or there[m] else None for m, name in cells}
        return row if self._source.group is None else {**row, str(self.group): self._source.group[i].item()}

    def _cell(self, name: str, i: int, pairing: int) -> Any:
        """Return one raw sample."""
        if name == "audio":
            return self._sound(i, pairing)
        if name == "text":
            assert self._source.label is not None
            return phrase(int(self._source.label[i]), self._random("text", at=(pairing, i)), self.ambiguous)
        return self._columns[name][i]

    def _sound(self, i: int, pairing: int) -> tuple[NDArray[np.float32], int]:
        speech = self._source.speech
        assert speech is not None
        clip = speech.clips[self._clips[pairing][i]]
        if self.audio_offset:
            clip = shifted(clip, round(self.audio_offset * speech.rate), self._random("offset", at=(pairing, i)))
        if self.audio_noise is not None:
            clip = with_noise(clip, self.audio_noise, self._random("noise", "audio", at=(pairing, i)))
        return clip, speech.rate

    def _random(self, *purpose: str, at: tuple[int, ...] = ()) -> np.random.Generator:
        return np.random.default_rng([self.seed, *(zlib.crc32(word.encode()) for word in purpose), *at])

    def _column(self, name: str) -> Sequence[Any]:
        """One modality's raw sample of every row."""
        source = self._source
        if source.image is not None and ARRAY_OF[name] == "image":
            image = source.image if name == "image" else np.ascontiguousarray(source.image[:, :, ::-1])
            return list(self._noisy(image, name))
        if source.strokes is not None and source.length is not None and name == "strokes":
            ends = np.ceil(source.length * self.strokes_part).astype(int)
            return [x[:n] for x, n in zip(source.strokes, ends, strict=True)]
        assert source.label is not None
        return [int(x) for x in source.label]

    def _noisy(self, image: NDArray[np.uint8], name: str) -> NDArray[np.uint8]:
        if self.noise == 0:
            return image
        noise = self._random("noise", name).standard_normal(image.shape, dtype=np.float32)
        return np.clip(np.rint(image + 255 * self.noise * noise), 0, 255).astype(np.uint8)

    def _there(self, pairing: int) -> NDArray[np.bool_]:
        """Choose the cells [n m] that training rows keep."""
        n, at = len(self._source.test), (pairing,) if pairing else ()
        heights = [self._random("missing", name, at=at).random(n) for name in self.modalities]
        return kept(np.stack(heights, 1), self.missing)
