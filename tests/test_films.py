"""Cines as people have them: MP4, AVI, MKV and GIF, made here with PyAV and Pillow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

from medfuse.errors import UnreadableError, UserError
from medfuse.io.film import SUFFIXES, read_film
from medfuse.io.read import open_case

av = pytest.importorskip("av")


def frames_of(n: int, *, colour: bool = False) -> np.ndarray:
    """(n, 48, 64, 3): a bright square that moves, and a fan's dark corners."""
    out = np.zeros((n, 48, 64, 3), np.uint8)
    out[:, 8:40, 8:56] = 60
    for k in range(n):
        out[k, 12:20, 10 + 3 * k : 18 + 3 * k] = (200, 80, 40) if colour else (200, 200, 200)
    return out


def film(
    path: Path, frames: np.ndarray, *, codec: str, fps: int = 20, times: list[int] | None = None
) -> Path:
    """Write frames; ``times``: their places in units of 1/1000 s."""
    from fractions import Fraction

    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=fps)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = {"mjpeg": "yuvj444p", "ffv1": "yuv444p"}.get(codec, "yuv420p")
        if times is not None:
            stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        for k, one in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(one, format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = times[k], Fraction(1, 1000)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "mpeg4"), ("a.avi", "mjpeg"), ("a.mkv", "ffv1")])
def test_frames_and_times_of_a_film(tmp_path, name, codec):
    given = frames_of(6)
    image = read_film(film(tmp_path / name, given, codec=codec), "US")
    assert image.pixels.shape[:3] == (6, 48, 64)
    got = image.pixels if image.pixels.ndim == 3 else image.pixels.mean(-1)
    assert np.abs(got - given[..., 0].astype(float)).mean() < 4
    assert (image.role, image.affine, image.regions) == ("cine", None, ())
    assert image.frame_ms == pytest.approx(50, rel=0.02)
    assert codec in image.warnings[0]
    assert "side, patient and mm are unknown" in image.warnings[0]


def test_a_lossless_film_is_exact_and_keeps_its_colour(tmp_path):
    given = frames_of(3, colour=True)
    image = read_film(film(tmp_path / "c.mkv", given, codec="ffv1"), "US")
    assert image.pixels.shape == (3, 48, 64, 3)
    assert np.abs(image.pixels.astype(int) - given).max() <= 3  # YUV of 8 bits and back


def test_a_gif_with_its_times(tmp_path):
    pictures = [Picture.fromarray(f[..., 0]) for f in frames_of(4)]
    pictures[0].save(tmp_path / "g.gif", save_all=True, append_images=pictures[1:], duration=[80, 80, 80, 80])
    image = read_film(tmp_path / "g.gif", "US")
    assert image.pixels.shape == (4, 48, 64)
    assert np.abs(image.pixels.astype(int) - frames_of(4)[..., 0]).max() <= 1
    assert image.frame_ms == pytest.approx(80)


def test_times_that_vary_are_said(tmp_path):
    path = film(tmp_path / "v.mkv", frames_of(4), codec="ffv1", times=[0, 40, 200, 240])
    image = read_film(path, "US")
    assert image.frame_ms == pytest.approx(80)
    assert "frame times vary from 40 to 160 ms" in image.warnings[1]


def test_a_film_is_one_case(tmp_path):
    path = film(tmp_path / "sweep.mp4", frames_of(5), codec="mpeg4")
    case = open_case({"US": [path]})
    assert [(i.modality, i.frames) for i in case.images] == [("US", 5)]
    assert open_case(path, modality="US").images[0].frames == 5
    with pytest.raises(UserError, match=r"a film of CT has no HU, spacing or place"):
        open_case({"CT": [path]})
    with pytest.raises(UserError, match=r"say --us where it is ultrasound"):
        open_case(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_is_no_film_is_one_sentence(tmp_path, suffix):
    rng = np.random.default_rng(0)
    for n, data in enumerate((b"", b"no film at all", rng.bytes(4000), b"#EXTM3U\nfile:///etc/passwd\n")):
        path = tmp_path / f"{n}{suffix}"
        path.write_bytes(data)
        with pytest.raises(UnreadableError, match=r"no film that can be read|no frame|only sound"):
            read_film(path, "US")


def test_a_film_that_is_cut_short_is_refused(tmp_path):
    whole = film(tmp_path / "w.avi", frames_of(20), codec="mjpeg").read_bytes()
    path = tmp_path / "cut.avi"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UnreadableError, match=r"cut short|no film"):
        read_film(path, "US")


@pytest.mark.attack
def test_no_playlist_is_followed(tmp_path):
    """A list of other files under a film's name made FFmpeg open them."""
    secret = film(tmp_path / "secret.mp4", frames_of(3), codec="mpeg4")
    for text in (
        f"ffconcat version 1.0\nfile '{secret}'\n",
        f"#EXTM3U\n#EXTINF:1,\n{secret}\n#EXT-X-ENDLIST\n",
    ):
        path = tmp_path / "list.mp4"
        path.write_text(text)
        with pytest.raises(UnreadableError, match=r"no film"):
            read_film(path, "US")


STREAMS = [
    ("1.2.840.10008.1.2.4.100", "mpeg2video", "mpeg2video", 25),
    ("1.2.840.10008.1.2.4.102", "libx264", "mp4", 20),
    ("1.2.840.10008.1.2.4.102", "libx264", "h264", 20),
    ("1.2.840.10008.1.2.4.103", "libx264", "mpegts", 20),
    ("1.2.840.10008.1.2.4.107", "libx265", "hevc", 20),
]


def dicom_of(path: Path, syntax: str, data: bytes, frames: int) -> Path:
    """An ultrasound cine whose pixels are one film."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.encaps import encapsulate
    from pydicom.uid import UID, generate_uid

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID("1.2.840.10008.5.1.4.1.1.3.1")
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = UID(syntax)
    ds = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SOPClassUID, ds.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    ds.StudyInstanceUID, ds.SeriesInstanceUID = generate_uid(), generate_uid()
    ds.PatientName, ds.PatientID, ds.Modality = "FILM^MADE", "F1", "US"
    ds.ImageType = ["ORIGINAL", "PRIMARY"]
    ds.NumberOfFrames, ds.Rows, ds.Columns = frames, 48, 64
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PlanarConfiguration = 3, "YBR_PARTIAL_420", 0
    ds.BitsAllocated = ds.BitsStored = 8
    ds.HighBit, ds.PixelRepresentation, ds.FrameTime = 7, 0, 50
    ds.LossyImageCompression = "01"
    ds.PixelData = encapsulate([data])
    ds["PixelData"].VR = "OB"
    ds.save_as(path, enforce_file_format=True)
    return path


@pytest.mark.parametrize(("syntax", "codec", "container", "fps"), STREAMS)
def test_a_dicom_object_that_is_one_film(tmp_path, syntax, codec, container, fps):
    if codec not in av.codecs_available:
        pytest.skip(f"no {codec} here to make one")
    given = frames_of(6)
    made = tmp_path / f"x.{container}"
    with av.open(str(made), "w", format=container) as out:
        stream = out.add_stream(codec, rate=fps)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for one in given:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(one, format="rgb24")))
        out.mux(stream.encode())
    (tmp_path / "d").mkdir()
    case = open_case(dicom_of(tmp_path / "d" / "f.dcm", syntax, made.read_bytes(), 6).parent)
    (image,) = case.images
    assert (image.modality, image.frames, image.frame_ms) == ("US", 6, 50)
    got = image.pixels if image.pixels.ndim == 3 else image.pixels.mean(-1)
    assert np.abs(got - given[..., 0].astype(float)).mean() < 6


def test_a_dicom_film_with_fewer_frames_than_said_is_refused(tmp_path):
    made = film(tmp_path / "x.mp4", frames_of(4), codec="mpeg4")
    (tmp_path / "d").mkdir()
    dicom_of(tmp_path / "d" / "f.dcm", "1.2.840.10008.1.2.4.102", made.read_bytes(), 9)
    with pytest.raises(UserError, match=r"holds 4 frames where its header says 9"):
        open_case(tmp_path / "d")


def test_a_film_in_a_folder_is_not_passed_over(tmp_path):
    film(tmp_path / "sweep.mp4", frames_of(5), codec="mpeg4")
    with pytest.raises(UserError, match=r"a film, whose modality is stated nowhere; give it by itself"):
        open_case(tmp_path)


def test_a_film_of_more_frames_than_fit_is_refused_with_what_fits(tmp_path, monkeypatch):
    from medfuse.io import streams

    path = film(tmp_path / "a.mp4", frames_of(6), codec="mpeg4")
    monkeypatch.setattr(streams, "_room", lambda: 3 * 48 * 64 * 3)
    with path.open("rb") as file:
        said = streams.film_frames(file, "mov")
    assert "MiB of frames, which is what fits" in said
    assert "MEDFUSE_DECODE_MEMORY_GIB" in said


def test_frames_may_fill_what_a_child_has_left_and_no_more(monkeypatch):
    import resource

    from medfuse.io import streams

    gib = 2**30
    monkeypatch.setattr(resource, "getrlimit", lambda which: (4096 * gib, 4096 * gib))
    assert 4000 * gib * streams.SHARE < streams._room() < 4096 * gib * streams.SHARE
    monkeypatch.setattr(resource, "getrlimit", lambda which: (gib // 1024, gib // 1024))
    assert streams._room() == 0


def test_a_film_is_refused_by_name_and_not_copied(tmp_path):
    from medfuse.deidentify.folder import deidentify_folder
    from medfuse.deidentify.profile import Options

    (tmp_path / "in").mkdir()
    film(tmp_path / "in" / "DOE_JANE.mp4", frames_of(3), codec="mpeg4")
    film(tmp_path / "in" / "b.AVI", frames_of(3), codec="mjpeg")
    done = deidentify_folder(
        tmp_path / "in", tmp_path / "out", key=bytes(32), options=Options(False, True, True)
    )
    assert sorted(r.path.name for r in done.refused) == ["DOE_JANE.mp4", "b.AVI"]
    assert all("is a film" in r.reason for r in done.refused)
    assert done.report.skipped == {}
    assert "DOE" not in (tmp_path / "out" / "report.json").read_text()
    assert all("is a film" in r.reason for r in done.report.refused)
