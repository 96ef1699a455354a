"""The manifest, and files that come over a network which fails in every way."""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from file_server import FileServer, Served

from deeplabv3p.data.classes import load_classes
from deeplabv3p.errors import DataError
from deeplabv3p.models.backbones import BACKBONES
from deeplabv3p.models.registry import ModelName
from deeplabv3p.weights import download, manifest
from deeplabv3p.weights.manifest import Entry, fetch, find_entry, local_file, read_manifest

ROOT = Path(__file__).parents[2]
CONTENT = bytes(range(256)) * 4096  # 1 MiB: several blocks
SHA256 = hashlib.sha256(CONTENT).hexdigest()
MD5 = hashlib.md5(CONTENT).hexdigest()
NAME = "net.h5"


@pytest.fixture(autouse=True)
def no_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "weights"
    path.mkdir()
    return path


@pytest.fixture
def server() -> Iterator[FileServer]:
    with FileServer({NAME: Served(CONTENT)}) as running:
        yield running


def write_manifest(folder: Path, url: str, name: str = NAME, **values: object) -> None:
    """A manifest of one file."""
    values = {"url": url, "licence": "MIT", "source": "a test", **values}
    lines = [f"{key} = {value if isinstance(value, (int, list)) else repr(value)}" for key, value in values.items()]
    (folder / manifest.MANIFEST).write_text("\n".join([f'["{name}"]', *lines]))


def left(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {manifest.MANIFEST}


def refused(folder: Path, message: str) -> None:
    """The fetch fails with one line that says this, and leaves no file under the name."""
    with pytest.raises(DataError, match=message) as error:
        fetch(NAME, folder)
    assert "\n" not in str(error.value)
    assert NAME not in left(folder)


# The project's own manifest


def test_the_projects_manifest_has_what_every_backbone_names():
    names = read_manifest(ROOT / "weights")
    for record in BACKBONES.values():
        for alpha in record.alphas if record.imagenet_file else ():
            assert record.imagenet_file.format(alpha=alpha) in names


def test_whole_models_of_the_manifest_can_be_built_and_have_their_classes():
    models = [entry for entry in read_manifest(ROOT / "weights").values() if entry.model]
    assert {entry.short_name for entry in models} >= {"xception", "deeplabv3_mobilenetv2"}
    for entry in models:
        record = ModelName.parse(entry.model).record
        assert entry.output_stride in record.output_strides
        assert len(load_classes(ROOT / entry.classes).classes) == (19 if "cityscapes" in entry.name else 21)
    ranks = [entry.default for entry in models if entry.default]
    assert sorted(ranks) == list(range(1, len(ranks) + 1)), "the order of the defaults must be plain"


def test_the_file_whose_hash_this_project_knows(deeplab_data):
    name = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_224_no_top.h5"
    path = local_file(find_entry(name, ROOT / "weights"), deeplab_data / "weights/backbones")
    assert path == deeplab_data / "weights/backbones" / name


# Reading


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a = ", "not valid TOML"),
        ('"a.h5" = 3', "expected a table"),
        ('["a.h5"]\nsha = "x"', "unknown key 'sha'"),
        ('["a.h5"]\nlicence = "MIT"\nsource = "x"', "missing key 'url'"),
        ('["a.h5"]\nurl = "file:///etc/passwd"', "'url' is 'file:///etc/passwd'"),
        ('["a.h5"]\nurl = "https://x/y"\nsize = "12"', "'size' is '12', expected a positive whole number"),
        ('["a.h5"]\nsize = true', "'size' is True"),
        ('["a.h5"]\nsha256 = "abc"', "64 hex digits"),
        ('["a.h5"]\nsize_hw = [512]', r"expected \[height, width\]"),
        ('["../a.h5"]\nurl = "https://x/y"\nlicence = "MIT"\nsource = "x"', "not a plain file name"),
        ('["a.h5"]\nimported = "../../b.keras"', "expected a plain file name"),
        ('["a.h5"]\nurl = "https://x/y"\nlicence = "MIT"\nsource = "x"\nmember = "b"', "ends in .tar.gz"),
        ('["a.h5"]\nurl = "https://x/y"\nlicence = "MIT"\nsource = "x"\nmodel = "unet"', "a whole model needs all of"),
        ('["a.h5"]\nurl = "https://x/y"\nlicence = "MIT"\nsource = "x"\ndefault = 1', "a whole model needs all of"),
    ],
)
def test_a_wrong_manifest_is_an_error_that_names_the_key(text, message, tmp_path):
    (tmp_path / manifest.MANIFEST).write_text(text)
    with pytest.raises(DataError, match=message) as error:
        read_manifest(tmp_path)
    assert str(tmp_path) in str(error.value)


def test_of_every_file_it_is_known_what_it_may_be_used_for():
    for entry in read_manifest(ROOT / "weights").values():
        assert entry.trained_on, entry.name
        assert entry.terms == f"{entry.licence}; trained on {entry.trained_on}"


def test_short_names_are_unique(tmp_path):
    keys = ("licence", "source", "model", "classes", "score", "short_name")
    table = "\n".join(['url = "https://x/y"', *(f'{key} = "u"' for key in keys)])
    (tmp_path / manifest.MANIFEST).write_text(f'["a.h5"]\n{table}\n["b.h5"]\n{table}')
    with pytest.raises(DataError, match="'u' stands twice"):
        read_manifest(tmp_path)


def test_an_unknown_name_is_told_the_known_ones():
    with pytest.raises(DataError, match=r"'vgg' is not in .*deeplabv3_mobilenetv2"):
        find_entry("vgg", ROOT / "weights")


# Downloading


@pytest.mark.parametrize("known", [{"sha256": SHA256}, {"md5": MD5, "size": len(CONTENT)}, {}])
def test_a_download_is_verified_or_its_hash_recorded(known, folder, server):
    write_manifest(folder, server.url(NAME), **known)
    calls: list[tuple[int, int]] = []
    fetched = fetch(NAME, folder, progress=lambda done, total, info=None: calls.append((done, total)))
    assert fetched.path == folder / NAME
    assert fetched.path.read_bytes() == CONTENT
    assert (fetched.downloaded, fetched.sha256, fetched.recorded) == (True, SHA256, "sha256" not in known)
    assert left(folder) == ({NAME} if "sha256" in known else {NAME, f"{NAME}.sha256"})
    assert len(calls) > 1
    assert calls[-1] == (len(CONTENT), len(CONTENT))
    again = fetch(NAME, folder, offline=True)
    assert (again.path, again.downloaded, again.recorded) == (fetched.path, False, False)
    assert len(server.asked) == 1


def test_a_recorded_file_that_changes_is_refused_until_its_record_goes(folder, server):
    write_manifest(folder, server.url(NAME))
    fetch(NAME, folder)
    assert (folder / f"{NAME}.sha256").read_text() == f"{SHA256}  {NAME}\n"
    (folder / NAME).write_bytes(CONTENT + b"!")
    for use in (lambda: fetch(NAME, folder), lambda: local_file(find_entry(NAME, folder), folder)):
        with pytest.raises(DataError, match="has changed"):
            use()
    (folder / f"{NAME}.sha256").unlink()
    assert fetch(NAME, folder).recorded


@pytest.mark.parametrize(
    ("known", "message"),
    [
        ({"sha256": "0" * 64}, "SHA-256"),
        ({"md5": "0" * 32}, "MD5"),
        ({"size": len(CONTENT) - 1}, "the server has a file of 1048576 bytes, the manifest says 1048575"),
    ],
)
def test_what_is_not_the_file_of_the_manifest_is_refused_and_removed(known, message, folder, server):
    write_manifest(folder, server.url(NAME), **known)
    refused(folder, message)
    assert left(folder) == set()
    (folder / NAME).write_bytes(CONTENT)  # put there by hand: told, and not removed
    with pytest.raises(DataError, match="Delete it"):
        fetch(NAME, folder)
    assert left(folder) == {NAME}


def test_a_broken_download_goes_on_where_it_stopped(folder, server):
    server.files[NAME].break_after = 300_000
    write_manifest(folder, server.url(NAME), sha256=SHA256)
    refused(folder, "ended after 300000 of 1048576 bytes; run the command again")
    assert fetch(NAME, folder).downloaded
    assert [asked for _, asked in server.asked] == [None, "bytes=300000-"]
    assert left(folder) == {NAME}


def test_a_server_without_ranges_sends_the_whole_file_again(folder, server):
    server.files[NAME] = Served(CONTENT, ranges=False, break_after=300_000)
    write_manifest(folder, server.url(NAME))
    refused(folder, "run the command again")
    assert fetch(NAME, folder).sha256 == SHA256


@pytest.mark.parametrize("version", ['"v2"', None, 'W/"v1"'])
def test_two_versions_of_a_file_are_never_joined(version, folder, server):
    """The file changes between two attempts, or the server does not say which version it has: start again."""
    server.files[NAME] = Served(b"old" * 200_000, version='"v1"' if version == '"v2"' else version, break_after=300_000)
    write_manifest(folder, server.url(NAME))
    refused(folder, "run the command again")
    server.files[NAME] = Served(CONTENT, version=version)
    assert fetch(NAME, folder).sha256 == SHA256
    if version != '"v2"':
        assert server.asked[-1][1] is None


def test_a_part_that_is_longer_than_the_file_starts_again(folder, server):
    write_manifest(folder, server.url(NAME))
    (folder / f"{NAME}.part").write_bytes(CONTENT + b"more")
    (folder / f"{NAME}.part.version").write_text('"v1"')
    assert fetch(NAME, folder).sha256 == SHA256
    assert left(folder) == {NAME, f"{NAME}.sha256"}


def test_a_server_that_continues_elsewhere_is_not_believed(folder, server, monkeypatch):
    server.files[NAME].break_after = 300_000
    write_manifest(folder, server.url(NAME))
    refused(folder, "again")
    monkeypatch.setattr(download._Part, "size", property(lambda part: 200_000 if part.path.exists() else 0))
    real = download.urllib.request.Request
    monkeypatch.setattr(
        download.urllib.request,
        "Request",
        lambda url, headers: real(url, headers=headers | ({"Range": "bytes=300000-"} if "Range" in headers else {})),
    )
    refused(folder, "continues at another place")
    assert left(folder) == set()


def test_without_a_length_the_size_of_the_manifest_tells_a_broken_download(folder, server):
    server.files[NAME] = Served(CONTENT, length=False, break_after=300_000)
    write_manifest(folder, server.url(NAME), size=len(CONTENT))
    refused(folder, "ended after 300000 of 1048576 bytes")


def test_a_download_that_does_not_end_is_stopped(folder, server, monkeypatch):
    monkeypatch.setattr(download, "MAX_BYTES", 500_000)
    server.files[NAME] = Served(CONTENT, length=False)
    write_manifest(folder, server.url(NAME))
    refused(folder, "more than 500000 bytes come")
    assert left(folder) == set()


def test_a_redirect_is_followed(folder, server):
    server.redirects["old.h5"] = server.url(NAME)
    write_manifest(folder, server.url("old.h5"), sha256=SHA256)
    assert fetch(NAME, folder).downloaded
    server.redirects["loop.h5"] = server.url("loop.h5")
    (folder / NAME).unlink()
    write_manifest(folder, server.url("loop.h5"))
    refused(folder, "redirect")


@pytest.mark.parametrize(("status", "message"), [(404, "the server answers 404"), (500, "the server answers 500")])
def test_a_server_that_refuses_is_told(status, message, folder, server):
    server.files[NAME].status = status
    write_manifest(folder, server.url(NAME))
    refused(folder, message)
    assert left(folder) == set()


def test_no_network_says_what_to_do_by_hand(folder):
    with FileServer({}) as server:
        url = server.url(NAME)
    write_manifest(folder, url)  # nobody listens there any more
    refused(folder, rf"cannot download {NAME} \(.*refused.*\)\. Get it from {url} and put it into {folder}")


def test_offline_downloads_nothing_and_says_where_to_put_the_file(folder, server):
    write_manifest(folder, server.url(NAME))
    with pytest.raises(DataError, match=f"Get it from {re.escape(server.url(NAME))} and put it into {folder}"):
        fetch(NAME, folder, offline=True)
    assert server.asked == []


def test_a_full_disk_is_told(folder, server, monkeypatch):
    write_manifest(folder, server.url(NAME))
    real = Path.open

    class Full(io.BytesIO):
        def write(self, data: object) -> int:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(
        Path, "open", lambda self, *args, **more: Full() if self.suffix == ".part" else real(self, *args, **more)
    )
    refused(folder, r"cannot write .*net\.h5\.part: No space left on device")


def test_a_file_in_the_cache_of_keras_is_used_where_it_is(folder, tmp_path):
    cached = tmp_path / "keras" / "models" / NAME
    cached.parent.mkdir(parents=True)
    cached.write_bytes(CONTENT)
    write_manifest(folder, "https://example.org/x", md5=MD5)
    fetched = fetch(NAME, folder)
    assert (fetched.path, fetched.downloaded, fetched.recorded) == (cached, False, True)
    assert left(folder) == {f"{NAME}.sha256"}
    assert left(cached.parent) == {NAME}


def test_another_folder_gets_the_files_of_the_same_manifest(folder, server, tmp_path):
    write_manifest(folder, server.url(NAME), sha256=SHA256)
    assert fetch(NAME, folder, into=tmp_path / "new").path == tmp_path / "new" / NAME
    assert left(folder) == set()


# Archives


ARCHIVE = "release.tar.gz"


def pack(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for info, content in members:
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def of_type(name: str, kind: bytes, target: str = "") -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info, b""


def archive_entry(folder: Path, content: bytes, **known: object) -> None:
    (folder / ARCHIVE).write_bytes(content)
    write_manifest(folder, "https://example.org/x", ARCHIVE, member="graph.pb", **known)


def test_only_the_named_file_leaves_an_archive(folder, tmp_path):
    packed = pack(
        (tarfile.TarInfo("../outside.txt"), b"escaped"),
        (tarfile.TarInfo(str(tmp_path / "absolute.txt")), b"escaped"),
        of_type("release/graph.pb", tarfile.SYMTYPE, "/etc/passwd"),
        of_type("release/graph.pb", tarfile.DIRTYPE),
        (tarfile.TarInfo("release/graph.pb"), CONTENT),
        (tarfile.TarInfo("release/model.ckpt"), b"unwanted"),
    )
    archive_entry(folder, packed, sha256=hashlib.sha256(packed).hexdigest())
    fetched = fetch(ARCHIVE, folder)
    assert fetched.path == folder / "release.pb"
    assert fetched.path.read_bytes() == CONTENT
    assert fetched.recorded
    assert left(folder) == {ARCHIVE, "release.pb", "release.pb.sha256"}, "the archive stays, it may be the user's"
    assert {path.name for path in tmp_path.iterdir()} == {"weights"}
    (folder / ARCHIVE).unlink()
    assert fetch(ARCHIVE, folder, offline=True).path == fetched.path


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no archive", "cannot unpack"),
        (pack((tarfile.TarInfo("release/graph.pb"), CONTENT))[:2000], "cannot unpack"),
        (pack((tarfile.TarInfo("release/other.pb"), CONTENT)), "holds no file graph.pb"),
        (pack(of_type("graph.pb", tarfile.SYMTYPE, "/etc/passwd")), "holds no file graph.pb"),
    ],
)
def test_a_wrong_archive_is_an_error_and_leaves_nothing(content, message, folder):
    archive_entry(folder, content)
    with pytest.raises(DataError, match=message) as error:
        fetch(ARCHIVE, folder)
    assert "\n" not in str(error.value)
    assert left(folder) == {ARCHIVE}


def test_an_archive_that_grows_without_end_is_stopped(folder, monkeypatch):
    monkeypatch.setattr(download, "MAX_BYTES", len(CONTENT) - 1)
    archive_entry(folder, pack((tarfile.TarInfo("junk"), CONTENT), (tarfile.TarInfo("graph.pb"), b"x")))
    with pytest.raises(DataError, match="unpacks to more than"):
        fetch(ARCHIVE, folder)


def test_the_product_of_an_archive_has_its_members_suffix():
    entry = Entry("a.b.tar.gz", "https://x", "MIT", "x", member="frozen.pb")
    assert entry.product == "a.b.pb"
