"""Commands where something about the process is odd: streams, encodings, the current folder, the memory."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]


def run(code: str, tmp_path: Path, **options) -> subprocess.CompletedProcess[str]:
    """A command that is ``main`` of this code."""
    lines = "".join(f"    {line}\n" for line in code.splitlines())
    script = (
        f"import sys\nsys.path.insert(0, {str(ROOT)!r})\nfrom common import cli\ndef main():\n{lines}\ncli.run(main)"
    )
    options = {"cwd": tmp_path, "capture_output": True, "text": True} | options
    return subprocess.run([sys.executable, "-c", script], **options)


STRICT = {"PYTHONIOENCODING": "ascii:strict", "LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def test_any_name_can_be_printed_on_any_stream(tmp_path):
    code = "print('Stra\\xdfe \\u2192 \\xd7', b'caf\\xe9.png'.decode('utf-8', 'surrogateescape'), '\\ud800')\nreturn 0"
    for environment in (STRICT, {"PYTHONIOENCODING": "latin-1:strict"}, {}):
        done = run(code, tmp_path, env=os.environ | environment, text=False)
        assert done.returncode == 0, done.stderr
        assert b"caf\\udce9.png" in done.stdout


def test_an_error_about_such_a_name_is_one_line(tmp_path):
    code = (
        "from deeplabv3p.errors import DataError\n"
        "raise DataError(b'caf\\xe9 \\xc3\\xa9'.decode('utf-8', 'surrogateescape'))"
    )
    done = run(code, tmp_path, env=os.environ | STRICT)
    assert (done.returncode, done.stderr) == (3, "error: caf\\udce9 \\xe9\n")


@pytest.mark.parametrize("closed", ["0<&-", "1>&-", "2>&-", "0<&- 1>&- 2>&-"])
def test_closed_streams_are_no_trouble(tmp_path, closed):
    code = (
        "import sys\n"
        "from common.console import ConsoleProgress\n"
        "with ConsoleProgress('work', 'steps') as progress: progress(1, 2)\n"
        "print('done')\n"
        "print(sys.stdin.read(), file=sys.stderr)\n"
        "open('worked', 'w').close()\n"
        "return 0"
    )
    lines = "".join(f"    {line}\n" for line in code.splitlines())
    script = (
        f"import sys\nsys.path.insert(0, {str(ROOT)!r})\nfrom common import cli\ndef main():\n{lines}\ncli.run(main)"
    )
    (tmp_path / "command.py").write_text(script)
    done = subprocess.run(
        ["sh", "-c", f'"{sys.executable}" command.py {closed}'],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
    assert (tmp_path / "worked").exists()


def test_a_current_folder_that_is_gone_is_one_line(tmp_path):
    code = "import os, pathlib\nos.rmdir(os.getcwd())\nreturn pathlib.Path('x').resolve()"
    (tmp_path / "gone").mkdir()
    done = run(code, tmp_path, cwd=tmp_path / "gone")
    assert done.returncode == 2
    assert done.stderr == "error: the current folder does not exist any more. Change to another one.\n"


def test_little_memory_is_one_line(tmp_path):
    done = run("import numpy\nnumpy.ones((1 << 45,))", tmp_path)
    assert done.returncode == 3
    assert done.stderr.startswith("error: there is not enough memory")
    assert done.stderr.count("\n") == 1


@pytest.fixture
def dataset(tmp_path):
    """A dataset with a picture whose name is no text, as an archive of another encoding unpacks."""
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    for name in (b"caf\xe9", b"plain", "Straße".encode()):
        for folder, suffix in ((b"images", b".png"), (b"labels", b".png")):
            path = os.path.join(os.fsencode(tmp_path), folder, name + suffix)  # noqa: PTH118
            try:
                with open(path, "wb") as file:  # noqa: PTH123
                    shape = (8, 8, 3) if folder == b"images" else (8, 8)
                    Image.fromarray((np.arange(np.prod(shape)) % 2).reshape(shape).astype(np.uint8)).save(file, "PNG")
            except OSError:
                pytest.skip("this file system takes no such names")
    (tmp_path / "classes.txt").write_text("a 0 0 0\nb 1 1 1\n")
    (tmp_path / "all.txt").write_text("plain\nStraße\n", encoding="utf-8")
    return tmp_path


COMMANDS = {
    "doctor": ["tools/dataset_converter/doctor.py", "."],
    "stats": ["tools/dataset_converter/stats.py", "--dataset_path", ".", "--dataset_file", "all.txt"],
    "browse": ["tools/dataset_converter/browse.py", "--dataset_path", ".", "--dataset_file", "all.txt"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_take_names_that_are_no_text(dataset, command):
    script, *arguments = COMMANDS[command]
    words = [sys.executable, str(ROOT / script), *arguments, "--classes_path", "classes.txt", "--output_path", "out"]
    done = subprocess.run(words, cwd=dataset, env=os.environ | STRICT, capture_output=True)
    assert done.returncode in {0, 3}, done.stderr.decode()
    assert b"Traceback" not in done.stderr


def test_a_command_without_a_current_folder(dataset):
    gone = dataset / "gone"
    gone.mkdir()
    script = str(ROOT / "tools/dataset_converter/stats.py")
    words = [sys.executable, script, "--dataset_path", str(dataset), "--dataset_file", str(dataset / "all.txt")]
    words += ["--classes_path", str(dataset / "classes.txt"), "--output_path", "out"]
    line = " ".join(f"'{word}'" for word in words)
    shell = shutil.which("sh")
    assert shell
    done = subprocess.run([shell, "-c", f"rmdir '{gone}'; {line}"], cwd=gone, capture_output=True, text=True)
    assert done.returncode in {2, 3}
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: ")
