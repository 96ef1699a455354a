"""Torch's files are read without torch, and what could run code in them is refused before it does."""

from __future__ import annotations

import io
import os
import pickle
import sys
import types
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deeplabv3p import weights
from deeplabv3p.errors import DataError
from deeplabv3p.weights import names, torch_files

STORAGES = {
    "f4": "FloatStorage",
    "f2": "HalfStorage",
    "i8": "LongStorage",
    "u2": "BFloat16Storage",
    "b1": "BoolStorage",
}


class Stored:
    """An array that is pickled as torch pickles a tensor: size, strides and offset within a storage."""

    def __init__(self, storage: np.ndarray, size: tuple[int, ...], strides: tuple[int, ...], offset: int = 0) -> None:
        self.storage, self.arguments = storage, (offset, size, strides, False, OrderedDict())

    @classmethod
    def plain(cls, array: np.ndarray) -> Stored:
        return cls(array.ravel(), array.shape, tuple(step // array.itemsize for step in array.strides))


@pytest.fixture
def save(monkeypatch, tmp_path):
    """Writes an object as ``torch.save`` does, with stand-ins for torch's classes that are gone when it is read."""

    def save(content: Any, name: str = "model.pth", compression: int = zipfile.ZIP_STORED) -> Path:
        torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
        rebuild = types.FunctionType((lambda: None).__code__, {}, "_rebuild_tensor_v2")
        rebuild.__module__, rebuild.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
        utils._rebuild_tensor_v2 = rebuild
        for kind in STORAGES.values():
            setattr(torch, kind, type(kind, (), {"__module__": "torch", "__qualname__": kind}))
        path, data, stored = tmp_path / name, io.BytesIO(), []

        class Pickler(pickle.Pickler):
            def persistent_id(self, value):
                if not isinstance(value, np.ndarray):
                    return None
                stored.append(value)
                kind = getattr(torch, STORAGES[value.dtype.str[1:]])
                return ("storage", kind, str(len(stored) - 1), "cpu", value.size)

            def reducer_override(self, value):
                return (rebuild, (value.storage, *value.arguments)) if isinstance(value, Stored) else NotImplemented

        with monkeypatch.context() as context:
            context.setitem(sys.modules, "torch", torch)
            context.setitem(sys.modules, "torch._utils", utils)
            Pickler(data, protocol=2).dump(content)
        with zipfile.ZipFile(path, "w", compression) as archive:
            archive.writestr("archive/data.pkl", data.getvalue())
            archive.writestr("archive/byteorder", "little")
            for index, storage in enumerate(stored):
                archive.writestr(f"archive/data/{index}", storage.tobytes())
        return path

    return save


def test_tensors_of_every_kind_are_read(save):
    row = np.arange(24, dtype=np.float32)
    state = OrderedDict(
        matrix=Stored.plain(row.reshape(4, 6)),
        turned=Stored(row, (6, 4), (1, 6)),
        part=Stored(row, (2, 3), (6, 1), offset=8),
        half=Stored.plain(row.astype(np.float16)),
        brain=Stored((row.view(np.uint32) >> 16).astype(np.uint16), (24,), (1,)),
        number=Stored(np.array([7]), (), ()),
        flag=Stored.plain(row > 3),
        nothing=Stored(row, (0, 3), (3, 1)),
    )
    read = torch_files.read_state_dict(save(state))
    matrix = row.reshape(4, 6)
    np.testing.assert_array_equal(read["matrix"], matrix)
    np.testing.assert_array_equal(read["turned"], matrix.T)
    np.testing.assert_array_equal(read["part"], matrix[1:3, 2:5])
    np.testing.assert_array_equal(read["half"], row)
    np.testing.assert_array_equal(read["brain"], row)  # small whole numbers fit into 8 bits of mantissa
    np.testing.assert_array_equal(read["flag"], row > 3)
    assert read["number"] == 7
    assert read["nothing"].shape == (0, 3)
    assert "torch" not in sys.modules


class Evil:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


@pytest.mark.parametrize(
    ("evil", "name"),
    [
        (Evil(os.system, "touch {}"), "system"),
        (Evil(eval, "__import__('pathlib').Path('{}').touch()"), "eval"),
        (Evil(getattr, OrderedDict, "fromkeys"), "getattr"),
        (types.SimpleNamespace(lr=0.1), "SimpleNamespace"),
    ],
)
def test_what_is_pickled_is_not_run(evil, name, save, tmp_path):
    target = tmp_path / "touched"
    if isinstance(evil, Evil):
        evil.arguments = tuple(a.format(target) if isinstance(a, str) else a for a in evil.arguments)
    path = save({"state_dict": {"a": Stored.plain(np.zeros(3, np.float32))}, "args": evil})
    with pytest.raises(DataError, match=rf"refused: its pickle asks for \S*{name}") as error:
        weights.read_source(path)
    assert "\n" not in str(error.value)
    assert not target.exists()


def test_a_pickle_cannot_change_what_reads_it(save, tmp_path):
    """BUILD sets attributes of what a pickle got hold of: nothing of it may outlive the load."""
    path = save({"a": Stored.plain(np.zeros(3, np.float32))})
    # A class is put on the stack, and BUILD is asked to set an attribute of it.
    attack = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}X\x05\x00\x00\x00ownedK\x01sb0}."
    with zipfile.ZipFile(path) as archive:
        assert archive.read("archive/data.pkl")
    with zipfile.ZipFile(tmp_path / "evil.pth", "w") as archive:
        archive.writestr("archive/data.pkl", attack)
    with pytest.raises(DataError, match="no tensors"):
        weights.read_source(tmp_path / "evil.pth")
    assert not hasattr(torch_files._strided, "owned")
    assert torch_files.read_state_dict(path)["a"].shape == (3,)


@pytest.mark.parametrize(
    "tensor",
    [
        Stored(np.zeros(4, np.float32), (5,), (1,)),
        Stored(np.zeros(4, np.float32), (2, 2), (3, 1)),
        Stored(np.zeros(4, np.float32), (2,), (1,), offset=3),
        Stored(np.zeros(4, np.float32), (2,), (-1,), offset=1),
        Stored(np.zeros(4, np.float32), (1 << 40,), (0,)),
    ],
)
def test_a_tensor_beyond_its_storage_is_refused(tensor, save):
    with pytest.raises(DataError, match="beyond its storage"):
        weights.read_source(save({"a": tensor}))


def test_other_files_are_one_clear_error(save, tmp_path):
    state = {"a": Stored.plain(np.zeros(1000, np.float32))}
    path = save(state)
    (tmp_path / "cut.pth").write_bytes(path.read_bytes()[:-300])
    (tmp_path / "old.pth").write_bytes(b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.")
    cases = {
        "cut.pth": "damaged",
        "old.pth": "old format",
        save(state, "packed.pth", zipfile.ZIP_DEFLATED).name: "compressed",
        save([1, 2], "list.pth").name: "no tensors by name",
        save(state, "other.pth").name: "MobileNetV2",
        save({"layer1.0.conv1.weight": state["a"]}, "resnet.pth").name: "3x3",
    }
    for name, message in cases.items():
        with pytest.raises(DataError, match=message) as error:
            weights.read_source(tmp_path / name)
        assert name in str(error.value)
        assert "\n" not in str(error.value)


def test_a_pickle_with_any_byte_changed_is_read_or_refused(save, tmp_path):
    """Nothing but a DataError comes of it, and no memory is set aside that a damaged number asks for."""
    with zipfile.ZipFile(save({"a": Stored.plain(np.zeros((2, 3), np.float32))})) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    pickled, refused = members["archive/data.pkl"], 0
    for position in range(len(pickled)):
        changed = bytearray(pickled)
        changed[position] ^= 0xFF
        with zipfile.ZipFile(tmp_path / "changed.pth", "w") as archive:
            for name, data in (members | {"archive/data.pkl": bytes(changed)}).items():
                archive.writestr(name, data)
        try:
            torch_files.read_state_dict(tmp_path / "changed.pth")
        except DataError:
            refused += 1
    assert refused > len(pickled) // 2


def test_pickled_arrays_are_not_read(tmp_path):
    path = tmp_path / "evil.npz"
    np.savez(path, **{"features.0.0.weight": np.array([{"a": 1}], object)})
    with pytest.raises(DataError, match="evil"):
        weights.read_source(path)


def test_both_layouts_of_mobilenetv2_have_the_same_names():
    """torchvision first numbered the layers of a block through, and nests them since: three modules a convolution,
    the last one without activation."""
    flat, nested = ["features.0.0", "features.0.1"], ["features.0.0", "features.0.1"]
    for block in range(1, 18):
        convolutions = 3 if block > 1 else 2
        for index in range(convolutions):
            flat += [f"features.{block}.conv.{3 * index}", f"features.{block}.conv.{3 * index + 1}"]
            last = index == convolutions - 1
            nested += [f"features.{block}.conv.{index}{'' if last else '.0'}"]
            nested += [f"features.{block}.conv.{index + 1}" if last else f"features.{block}.conv.{index}.1"]
    ours = [names.from_torch_mobilenetv2(modules) for modules in (flat, nested)]
    assert [ours[0][name] for name in flat] == [ours[1][name] for name in nested]
    assert len(set(ours[0].values())) == len(flat) == 2 + 4 + 16 * 6
    assert ours[1]["features.3.conv.1.0"] == "block_2_depthwise"
    assert ours[1]["features.1.conv.2"] == "expanded_conv_project_BN"


def test_a_state_dict_equals_the_same_arrays(save, tmp_path):
    """Wrapped by a training script and by data parallelism, as files from elsewhere are."""
    rng = np.random.default_rng(0)
    arrays = {
        "features.0.0.weight": rng.random((32, 3, 3, 3), np.float32),
        **{f"features.0.1.{part}": rng.random(32, np.float32) for part in ("weight", "bias", "running_mean")},
        "features.0.1.running_var": rng.random(32, np.float32),
        "features.0.1.num_batches_tracked": np.array(3),
        "features.1.conv.0.weight": rng.random((32, 1, 3, 3), np.float32),
    }
    np.savez(tmp_path / "arrays.npz", **arrays)
    state = {f"module.encoder.{name}": Stored.plain(np.atleast_1d(array)) for name, array in arrays.items()}
    dictionary = weights.read_source(save({"epoch": 3, "state_dict": state}))
    source = weights.read_source(tmp_path / "arrays.npz")
    assert set(source.layers) == set(dictionary.layers) == {"Conv1", "bn_Conv1", "features.1.conv.0"}
    assert source.epsilons == {"bn_Conv1": 1e-5}
    for name, tensors in source.layers.items():
        for a, b in zip(tensors, dictionary.layers[name], strict=True):
            np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(source.layers["Conv1"][0][1, 2, 0], arrays["features.0.0.weight"][:, 0, 1, 2])
