"""What `cmake --install` puts there can be found and used by a program of somebody else."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

BUILD = Path(os.environ.get("DEEPLAB_DEVICE_BUILD", Path(__file__).parents[2] / "inference/cpp/build/host"))
pytestmark = pytest.mark.skipif(
    not (BUILD / "libdeeplab.so").exists() or shutil.which("cmake") is None,
    reason=f"{BUILD} holds no library (DEEPLAB_DEVICE_BUILD names a build folder), or there is no cmake",
)

PROJECT = """
cmake_minimum_required(VERSION 3.22)
project(user CXX)
set(CMAKE_CXX_STANDARD 20)
find_package(deeplab REQUIRED)
add_executable(user user.cpp)
target_link_libraries(user PRIVATE deeplab::deeplab)
"""
PROGRAM = """
#include <deeplab/deeplab.hpp>
#include <iostream>
int main() {
  std::unique_ptr<deeplab::Segmenter> segmenter;
  const deeplab::Status status = deeplab::Segmenter::open("none.tflite", {}, segmenter);
  std::cout << static_cast<int>(status.code) << ' ' << status.message;
}
"""


def run(*command: object, **options) -> str:
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.skipif(shutil.which("ninja") is None, reason="there is no ninja")
def test_without_doctest_it_says_how_to_go_on_and_goes_on(tmp_path):
    sources = Path(__file__).parents[2] / "inference/cpp"
    command = ["cmake", "-G", "Ninja", "-S", sources, "-B", tmp_path, "-DCMAKE_DISABLE_FIND_PACKAGE_doctest=ON"]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True)
    assert done.returncode != 0
    said = " ".join(done.stderr.split())  # cmake breaks lines
    assert "apt install doctest-dev" in said
    assert "make device TESTS=OFF" in said
    run(*command, "-DDEEPLAB_TESTS=OFF")


def test_a_program_finds_the_installed_library(tmp_path):
    there = tmp_path / "there"
    run("cmake", "--install", BUILD, "--prefix", there)
    (tmp_path / "CMakeLists.txt").write_text(PROJECT)
    (tmp_path / "user.cpp").write_text(PROGRAM)
    run("cmake", "-S", tmp_path, "-B", tmp_path / "build", f"-DCMAKE_PREFIX_PATH={there}")
    run("cmake", "--build", tmp_path / "build")
    assert run(tmp_path / "build/user").startswith("3 there is no model file none.tflite")
    assert "usage: deeplabSegment" in run(there / "bin/deeplabSegment", "-h")
    flags = run(
        "pkg-config",
        "--cflags",
        "--libs",
        "deeplab",
        env=os.environ | {"PKG_CONFIG_PATH": str(there / "lib/pkgconfig")},
    )
    assert f"-I{there}" in flags
    assert "-ldeeplab" in flags
