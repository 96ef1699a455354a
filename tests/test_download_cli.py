"""tools/model_converter/download_weights.py, against a server in a thread."""

from __future__ import annotations

import hashlib
import io
import runpy
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from file_server import FileServer, Served

from common import cli, pretrained

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "tools" / "model_converter" / "download_weights.py"
CONTENT = b"weights" * 400_000  # 2.8 MB
COMMON = 'licence = "MIT"\nsource = "a test"\n'
WHOLE = 'classes = "configs/voc_classes.txt"\noutput_stride = 8\nscore = "mIoU 0.5 on nothing"\n'


def archive() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        info = tarfile.TarInfo("release/graph.pb")
        info.size = len(CONTENT)
        tar.addfile(info, io.BytesIO(CONTENT))
    return buffer.getvalue()


@pytest.fixture
def main() -> Callable[[list[str]], None]:
    loaded: Callable[[list[str]], None] = runpy.run_path(str(SCRIPT))["main"]
    return loaded


@pytest.fixture
def server() -> Iterator[FileServer]:
    with FileServer({"net.h5": Served(CONTENT), "graph.tar.gz": Served(archive())}) as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path, server: FileServer, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "weights"
    path.mkdir()
    backbone = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.5_224_no_top.h5"
    (path / "manifest.toml").write_text(
        f'["{backbone}"]\nurl = "{server.url(backbone)}"\nsize = 2800000\n{COMMON}'
        f'["net.h5"]\nurl = "{server.url("net.h5")}"\nshort_name = "net"\nmodel = "xception"\n{COMMON}{WHOLE}'
        f'["graph.tar.gz"]\nurl = "{server.url("graph.tar.gz")}"\nmember = "graph.pb"\nshort_name = "graph"\n'
        f'model = "deeplabv3_mobilenetv2"\nimported = "graph.keras"\n{COMMON}{WHOLE}'
    )
    server.files[backbone] = Served(CONTENT)
    monkeypatch.setattr(pretrained, "WEIGHTS_FOLDER", path)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.chdir(tmp_path)
    return path


def test_a_model_is_downloaded_by_its_short_name_and_the_next_command_is_told(main, folder, capsys):
    main(["net"])
    assert (folder / "net.h5").read_bytes() == CONTENT
    output = capsys.readouterr()
    assert "download: 2/2 MB" in output.err
    assert output.out.splitlines() == [
        "net.h5: a test",
        "terms of use: MIT",
        f"net.h5: its SHA-256 was not known and is recorded now: {hashlib.sha256(CONTENT).hexdigest()}",
        "downloaded: weights/net.h5",
        "use it: python deeplab.py --model_type xception --weights_path weights/net.h5 "
        "--classes_path configs/voc_classes.txt --output_stride 8 --image PICTURE",
    ]
    main(["net", "--offline"])
    output = capsys.readouterr()
    assert "here already, verified: weights/net.h5" in output.out
    assert "download" not in output.err


def test_an_archive_gives_its_file_and_the_command_that_imports_it(main, folder, capsys):
    main(["graph.tar.gz", "net.h5"])
    assert (folder / "graph.pb").read_bytes() == CONTENT
    assert (
        "python tools/model_converter/import_weights.py weights/graph.pb --model_type deeplabv3_mobilenetv2 "
        "--output weights/graph.keras"
    ) in capsys.readouterr().out
    assert (folder / "net.h5").is_file()


def test_a_backbone_says_whose_first_weights_it_is(main, folder, capsys):
    name = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.5_224_no_top.h5"
    main([name, "--folder", "elsewhere"])
    assert Path("elsewhere", name).is_file()
    assert not (folder / name).exists()
    out = capsys.readouterr().out
    assert "--model_type mobilenetv2, mobilenetv2_lite" in out
    assert "with --alpha 0.5" in out


@pytest.mark.parametrize("arguments", [["--list"], []])
def test_the_list_says_what_is_here(arguments, main, folder, capsys):
    (folder / "graph.keras").write_text("imported")
    (folder / "net.h5").write_bytes(CONTENT)
    main(arguments)
    rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line}
    assert rows["net"].split() == ["net", "yes", "unknown", "MIT", "xception"]
    assert rows["graph"].split()[1] == "imported"
    assert rows["net:"] == "net: mIoU 0.5 on nothing"
    backbone = next(row for name, row in rows.items() if name.startswith("mobilenet_v2"))
    assert backbone.split()[1:4] == ["no", "2.8", "MB"]
    (folder / "net.h5.sha256").write_text("0" * 64)
    main(arguments)
    assert "wrong file" in capsys.readouterr().out


def test_the_projects_own_list_can_be_shown(main, capsys):
    main(["--list"])
    lines = capsys.readouterr().out.splitlines()
    assert next(line for line in lines if line.startswith("resnet50_weights")).endswith("resnet50")
    assert "none yet" not in "\n".join(lines), "a file that no network takes"


def test_errors_are_told_in_one_line(main, folder, server, capsys):
    server.files["net.h5"].status = 404
    Path("file").write_text("precious")
    for arguments, code, message in (
        (["vgg"], 3, "'vgg' is not in"),
        (["net", "--offline"], 3, "offline nothing is downloaded"),
        (["net"], 3, "the server answers 404"),
        (["net", "--folder", "file"], 3, "is a file"),
        (["--flag"], 2, "unrecognized arguments"),
    ):
        assert cli.exit_code(lambda arguments=arguments: main(arguments)) == code
        errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1
        assert message in errors[0]
