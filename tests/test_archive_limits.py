"""Zip archives and HDF5 files of others: what is refused, and that good ones are not."""

from __future__ import annotations

import io
import os
import socket
import struct
import tracemalloc
import zipfile

import h5py
import numpy as np
import pytest

from deeplabv3p import archives, files, hdf5
from deeplabv3p.errors import DataError

KIND = "a Keras model file"


def _zip(path, members, **options):
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def _patch(path, offset_local, offset_central, value):
    """Overwrite a 16-bit field of the first member in its local and in its central header."""
    content = bytearray(path.read_bytes())
    for magic, offset in ((b"PK\3\4", offset_local), (b"PK\1\2", offset_central)):
        at = content.index(magic) + offset
        content[at : at + 2] = struct.pack("<H", value)
    path.write_bytes(content)


def test_members_are_read(tmp_path):
    path = _zip(tmp_path / "a.zip", {"a": b"1" * 1000, "b": b"2"}, compression=zipfile.ZIP_DEFLATED)
    assert archives.check_archive(path, KIND) == ["a", "b"]
    assert archives.read_member(path, "a", KIND, limit=1000) == b"1" * 1000
    assert archives.read_member(path, "c", KIND, limit=1000) is None


def _encrypted(path):
    _patch(_zip(path, {"a": b"1"}), 6, 8, 1)


def _unknown_method(path):
    _patch(_zip(path, {"a": b"1"}), 8, 10, 99)


def _damaged(path):
    _zip(path, {"a": os.urandom(5000)}, compression=zipfile.ZIP_DEFLATED)
    content = bytearray(path.read_bytes())
    content[100:200] = b"\0" * 100
    path.write_bytes(content)


def _lying(path):
    """It says that it has ten bytes and has a gigabyte."""
    _bomb(path)
    content = bytearray(path.read_bytes())
    for magic, offset in ((b"PK\3\4", 22), (b"PK\1\2", 24)):
        at = content.index(magic) + offset
        content[at : at + 4] = struct.pack("<I", 10)
    path.write_bytes(content)


def _bomb(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a", "w") as file:
        for _ in range(1 << 10):
            file.write(b"\0" * (1 << 20))


BAD = {
    "encrypted": (_encrypted, "is encrypted"),
    "an unknown method": (_unknown_method, "packed by a method"),
    "bzip2": (lambda path: _zip(path, {"a": b"1"}, compression=zipfile.ZIP_BZIP2), "packed by a method"),
    "lzma": (lambda path: _zip(path, {"a": b"1"}, compression=zipfile.ZIP_LZMA), "packed by a method"),
    "damaged": (_damaged, "cut short"),
    "lying": (_lying, "cut short"),
    "a gigabyte": (_bomb, "longer than 1,000,000 bytes"),
    "no archive": (lambda path: path.write_bytes(b"hello"), "cut short"),
    "empty": (lambda path: path.write_bytes(b""), "cut short"),
    "missing": (lambda path: None, "No such file"),
    "a folder": (lambda path: path.mkdir(), "it is a folder"),
    "a pipe": (os.mkfifo, "it is a pipe"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_archive_is_one_line_in_little_memory(what, tmp_path):
    make, message = BAD[what]
    path = tmp_path / "bad.keras"
    make(path)
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=message) as caught:
            archives.read_member(path, "a", KIND, limit=1_000_000)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
    assert "\n" not in str(caught.value)
    assert "bad.keras" in str(caught.value)


def test_a_bomb_as_a_whole_is_refused(tmp_path):
    _bomb(tmp_path / "a.keras")
    with pytest.raises(DataError, match="far more than its size, as no Keras model file does"):
        archives.check_archive(tmp_path / "a.keras", KIND)


# --- HDF5


@pytest.fixture
def weights(tmp_path):
    """A plain file of weights, open, and a secret that it should not reach."""
    np.arange(4, dtype=np.float32).tofile(tmp_path / "secret.bin")
    with h5py.File(tmp_path / "secret.h5", "w") as secret:
        secret["numbers"] = np.arange(4.0)
    with h5py.File(tmp_path / "weights.h5", "w") as file:
        layer = file.create_group("layers/conv/vars")
        layer.create_dataset("0", data=np.ones((3, 4), np.float32))
        layer.create_dataset("1", data=np.ones((300, 40), np.float32), compression="gzip", shuffle=True)
        layer.create_dataset("2", data=np.float32(1))
        layer.create_dataset("3", shape=None, dtype="f4")
        layer.create_dataset("4", data=np.ones(9000), compression="lzf")
        file["again"] = layer  # a hard link to the same group
        file["layers/conv/vars/parent"] = file["layers"]  # and one in a circle
        yield file


def _check(file):
    hdf5.check(file, file.filename, 10_000)


def test_plain_weights_are_read(weights):
    _check(weights)


def _external_link(file):
    file["layers/conv/vars/9"] = h5py.ExternalLink("secret.h5", "/numbers")


def _soft_link(file):
    file["layers/conv/vars/9"] = h5py.SoftLink("/nowhere")


def _external_storage(file):
    file.create_dataset("layers/9", shape=(4,), dtype="f4", external=[("secret.bin", 0, 16)])


def _virtual(file):
    layout = h5py.VirtualLayout(shape=(4,), dtype="f8")
    layout[:] = h5py.VirtualSource("secret.h5", "numbers", shape=(4,))
    file.create_virtual_dataset("layers/9", layout)


def _promise(file):
    file.create_dataset("layers/9", shape=(1 << 36,), dtype="f4", chunks=(1 << 20,))


def _packed_promise(file):
    """Zeros that are not even stored."""
    for index in range(100):
        file.create_dataset(f"layers/z{index}", shape=(1 << 24,), dtype="f4", chunks=(1 << 20,), compression="gzip")


def _deep(file):
    file.create_group("/".join("g" * 100)).create_dataset("0", data=1.0)


HDF5 = {
    "an external link": (_external_link, "is a link to somewhere else"),
    "a soft link": (_soft_link, "is a link to somewhere else"),
    "external storage": (_external_storage, "has its numbers in another file"),
    "a virtual dataset": (_virtual, "is made of parts of other files"),
    "more than it has": (_promise, "far more than the file's size"),
    "much of nothing": (_packed_promise, "far more than the file's size"),
    "groups without end": (_deep, "groups deep"),
}


@pytest.mark.parametrize("what", HDF5)
def test_weights_that_reach_outside_are_refused(weights, what):
    make, message = HDF5[what]
    make(weights)
    with pytest.raises(DataError, match=rf"weights\.h5 is refused: .*{message}"):
        _check(weights)


# --- what is no file


def test_what_is_no_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        for name, kind in {"pipe": "pipe", "link": "pipe", "folder": "folder", "socket": "socket"}.items():
            with pytest.raises(DataError, match=f"it is a {kind}, not a file"):
                files.read_bytes(tmp_path / name)
    with pytest.raises(DataError, match="it is a device"):
        files.check_regular("/dev/null")
    with pytest.raises(DataError, match="not the name of a file"):
        files.check_regular("a\0b")
    files.check_regular(tmp_path / "missing")
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "good").symlink_to(tmp_path / "file")
    assert files.read_bytes(tmp_path / "good") == b"content"


def test_archives_reads_no_more_than_it_says():
    """zipfile itself stops where a member says that it ends; the limit relies on it."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", b"\0" * 1_000_000)
    with zipfile.ZipFile(data) as archive, archive.open("a") as file:
        assert len(file.read(10)) == 10
