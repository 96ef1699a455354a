"""Archives that want more than to be read, folders with links, and what tells that sources have changed."""

from __future__ import annotations

import gzip
import io
import os
import stat
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from built_sets import to_folder, to_tar, to_zip

from deeplabv3p.data.convert import archive, sources
from deeplabv3p.data.convert.sources import fingerprint, open_tree
from deeplabv3p.errors import DataError

KINDS = [".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz"]
CONTENT = {"a/one.txt": b"1" * 3000, "a/b/two words é.txt": b"2", "three.bin": bytes(range(256)) * 40, "a/empty": b""}


def pack(path: Path, content: dict) -> Path:
    if path.suffix == ".zip":
        return to_zip(path, content)
    mode = {".gz": "w:gz", ".tgz": "w:gz", ".bz2": "w:bz2", ".xz": "w:xz"}.get(path.suffix, "w")
    return to_tar(path, content, mode)


def read_all(paths: list[Path], scratch: Path) -> dict[str, bytes]:
    with open_tree(paths, scratch) as tree:
        return {name: file.read() for name, file in tree.files.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_archives_give_what_was_put_in(tmp_path, kind):
    path = pack(tmp_path / f"set{kind}", CONTENT)
    assert read_all([path], tmp_path / "scratch") == {f"set{kind}/{name}": data for name, data in CONTENT.items()}
    names = {p.name for p in (tmp_path / "scratch").rglob("*") if p.is_file()}
    assert names <= {"0", "1", "2", "3"}  # no name of the archive reaches the disk


def test_a_folder_and_several_sources_of_one_name(tmp_path):
    for place in ("x", "y"):
        to_folder(tmp_path / place / "set", {"train.txt": place})
    got = read_all([tmp_path / "x" / "set", tmp_path / "y" / "set"], tmp_path / "s")
    assert got == {"set/train.txt": b"x", "set_2/train.txt": b"y"}
    assert read_all([tmp_path / "x" / "set" / "train.txt"], tmp_path / "s") == {"train.txt": b"x"}


@pytest.mark.parametrize("kind", [".zip", ".tar", ".tar.gz"])
@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/etc/evil", "..\\evil", "C:\\evil", "a/..\\..\\evil"])
def test_names_that_lead_outside_are_refused(tmp_path, kind, name):
    path = pack(tmp_path / f"set{kind}", {"good": b"1", name: b"2"})
    with pytest.raises(DataError, match="leads out of the archive"):
        read_all([path], tmp_path / "scratch")
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize("kind", ["w", "w:gz"])
def test_links_and_devices_in_tar_files_are_not_followed(tmp_path, kind):
    path = tmp_path / "set.tar"
    with tarfile.open(path, kind) as tar:
        for name, type_, target in (
            ("link", tarfile.SYMTYPE, "/etc/passwd"),
            ("hard", tarfile.LNKTYPE, "good"),
            ("pipe", tarfile.FIFOTYPE, ""),
            ("device", tarfile.CHRTYPE, ""),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = type_, target
            tar.addfile(info)
        info = tarfile.TarInfo("good")
        info.size = 4
        tar.addfile(info, io.BytesIO(b"good"))
    with open_tree([path], tmp_path / "scratch") as tree:
        assert list(tree.files) == ["set.tar/good"]
        assert tree.notes == ["set.tar: 4 links or special files are not followed"]


def test_links_in_zip_files_are_not_followed(tmp_path):
    path = to_zip(tmp_path / "set.zip", {"good": b"1", "__MACOSX/._good": b"x", ".DS_Store": b"x"})
    with zipfile.ZipFile(path, "a") as out:
        info = zipfile.ZipInfo("link")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        out.writestr(info, "/etc/passwd")
    with open_tree([path], tmp_path / "scratch") as tree:
        assert list(tree.files) == ["set.zip/good"]
        assert "1 links" in tree.notes[0]


@pytest.mark.parametrize("kind", [".zip", ".tar.gz", ".tar"])
@pytest.mark.parametrize(
    ("limit", "value", "reason"),
    [
        ("MAX_FILES", 3, "more than 3 files"),
        ("MAX_BYTES", 5000, "more than 0 GiB"),
        ("MAX_FILE_BYTES", 4000, "'three.bin' with 10,240 bytes"),
    ],
)
def test_limits_are_named(tmp_path, monkeypatch, kind, limit, value, reason):
    path = pack(tmp_path / f"set{kind}", CONTENT)
    monkeypatch.setattr(archive, limit, value)
    with pytest.raises(DataError, match=f"unpacks to {reason}.*refused"):
        read_all([path], tmp_path / "scratch")


@pytest.mark.parametrize("kind", [".zip", ".tar.gz"])
def test_bombs_are_refused_before_they_are_unpacked(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(archive, "RATIO_FROM", 1 << 20)
    path = pack(tmp_path / f"bomb{kind}", {f"{n}": bytes(1 << 20) for n in range(8)})
    assert path.stat().st_size < 20_000
    with pytest.raises(DataError, match="more than 200 times its own size"):
        read_all([path], tmp_path / "scratch")
    on_disk = sum(p.stat().st_size for p in (tmp_path / "scratch").rglob("*") if p.is_file())
    assert on_disk <= max(1 << 20, 200 * path.stat().st_size)


def test_a_zip_file_that_lies_about_a_size(tmp_path):
    path = to_zip(tmp_path / "set.zip", {"a": b"x" * 1000})
    data = bytearray(path.read_bytes())
    at = data.index(b"PK\x01\x02") + 24  # the uncompressed size in the index
    data[at : at + 4] = (10).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"set\.zip:a"):
        read_all([path], tmp_path / "scratch")


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_archives(tmp_path, kind):
    """Cut anywhere, at the borders of files, too, where a tar file looks whole."""
    data = np.random.default_rng(0).bytes(20_000)
    whole = pack(tmp_path / f"whole{kind}", {"a": data, "b": data[::-1]}).read_bytes()
    path = tmp_path / f"set{kind}"
    cuts = {0, 1, 100, 512, 600, 20_992, 41_984, len(whole) // 2, len(whole) - 1 - 9000 * (kind == ".tar")}
    for part in [*(whole[:cut] for cut in sorted(cuts) if cut < len(whole)), b"not an archive" * 80]:
        path.write_bytes(part)
        with pytest.raises(DataError, match=f"set{kind}"):
            read_all([path], tmp_path / "scratch")
    # Compressed tar files have check sums over all; of the others the names' own do.
    if kind not in {".tar", ".zip"}:
        for at in range(3000, len(whole) - 100, 12_000):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :])
            with pytest.raises(DataError, match=f"set{kind}"):
                read_all([path], tmp_path / "scratch")


def test_headers_and_tails_that_are_bombs(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "_HEADERS", 1 << 20)
    path = tmp_path / "set.tgz"
    with tarfile.open(path, "x:gz", format=tarfile.PAX_FORMAT, pax_headers={"comment": "x" * (4 << 20)}) as tar:
        tar.addfile(tarfile.TarInfo("a"))
    with pytest.raises(DataError, match="more than its headers say"):
        read_all([path], tmp_path / "scratch")
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("a"))
    with gzip.open(tmp_path / "tail.tgz", "wb") as packed:
        packed.write(out.getvalue() + bytes(4 << 20))
    with pytest.raises(DataError, match="more than its headers say"):
        read_all([tmp_path / "tail.tgz"], tmp_path / "scratch")


def test_damage_inside_a_zip_member(tmp_path):
    path = to_zip(tmp_path / "set.zip", {"a": os.urandom(5000)})
    data = bytearray(path.read_bytes())
    data[2000] ^= 255
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"cannot read .*set\.zip:a"):
        read_all([path], tmp_path / "scratch")


def test_encrypted_zip_files(tmp_path):
    path = to_zip(tmp_path / "set.zip", {"a": b"secret"})
    data = bytearray(path.read_bytes())
    for signature, flag in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(signature) + flag] |= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"cannot read .*set\.zip:a"):
        read_all([path], tmp_path / "scratch")


def test_links_in_folders(tmp_path):
    """Linked folders are read, once; a circle ends; broken links are no files."""
    to_folder(tmp_path / "real", {"a.jpg": b"1"})
    root = to_folder(tmp_path / "root", {"own.txt": b"2"})
    (root / "linked").symlink_to(tmp_path / "real")
    (root / "again").symlink_to(tmp_path / "real")
    (root / "circle").symlink_to(root)
    (root / "broken").symlink_to(tmp_path / "nowhere")
    assert read_all([root], tmp_path / "s") == {"root/again/a.jpg": b"1", "root/own.txt": b"2"}


def test_missing_sources_and_too_many_files(tmp_path, monkeypatch):
    for function in (
        lambda: fingerprint([tmp_path / "none"]),
        lambda: read_all([tmp_path / "none.zip"], tmp_path / "s"),
    ):
        with pytest.raises(DataError, match="does not exist"):
            function()
    monkeypatch.setattr(sources, "MAX_FILES", 2)
    with pytest.raises(DataError, match="more than 2 files"):
        fingerprint([to_folder(tmp_path / "in", {str(n): b"" for n in range(3)})])


def test_fingerprints_tell_what_changed(tmp_path):
    folder = to_folder(tmp_path / "in", {"a": b"1", "b": b"2"})
    packed = to_zip(tmp_path / "set.zip", CONTENT)
    before = fingerprint([folder, packed])
    assert before == fingerprint([folder, packed])
    os.utime(packed, ns=(1, 1))  # a copy of an archive is the same archive
    assert before == fingerprint([folder, packed])
    os.utime(folder / "a", ns=(1, 1))
    changed = fingerprint([folder, packed])
    assert changed != before
    to_zip(packed, {**CONTENT, "a/empty": b"x"})
    assert fingerprint([folder, packed]) != changed


@pytest.mark.parametrize("kind", [".tar", ".tar.gz", ".zip", ".json"])
def test_a_change_in_the_middle_is_another_source(tmp_path, kind):
    """The size and both ends are the same, as of a member that was replaced by one of its size."""
    path = tmp_path / f"set{kind}"
    data = np.random.default_rng(0).bytes(6 << 20)
    for number, middle in enumerate((data, data[: 3 << 20] + b"x" + data[(3 << 20) + 1 :])):
        if kind == ".json":
            path.write_bytes(middle)
        elif kind == ".tar.gz":  # stored, not packed, so that sizes are equal
            plain = to_tar(tmp_path / "plain.tar", {"a": middle}).read_bytes()
            with gzip.GzipFile(path, "wb", compresslevel=0, mtime=0) as out:
                out.write(plain)
        elif kind == ".tar":
            to_tar(path, {"a": middle})
        else:
            with zipfile.ZipFile(path, "w") as archive_:
                archive_.writestr(zipfile.ZipInfo("a"), middle)
        os.utime(path, ns=(1, 1))
        told: list[int] = []
        marks = fingerprint([path], lambda done, total, info=None, told=told: told.append(done))
        assert (len(told) > 1) == (kind != ".zip")
        if number == 0:
            first, size = marks, path.stat().st_size
    assert path.stat().st_size == size
    assert marks != first


def test_where_a_picture_is_found(tmp_path):
    names = ["x/json/1.json", "x/pictures/1.jpg", "y/pictures/1.jpg", "y/2.jpg", "z/2.jpg"]
    with open_tree([to_folder(tmp_path / "in", dict.fromkeys(names, b""))], tmp_path / "s") as tree:
        near = tree.files["in/x/json/1.json"]

        def found(relative: str) -> str | None:
            file = tree.beside(near, relative)
            return file and file.name

        assert found("../pictures/1.jpg") == "in/x/pictures/1.jpg"
        assert found("1.jpg") == "in/x/pictures/1.jpg"  # the nearest
        assert found("C:\\data\\y\\pictures\\1.jpg") == "in/x/pictures/1.jpg"
        assert found("y/pictures/1.jpg") == "in/y/pictures/1.jpg"
        assert found("2.jpg") is None  # two that are as near
        assert found("z/2.jpg") == "in/z/2.jpg"
        assert found("../../../../etc/passwd") is None
