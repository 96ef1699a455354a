"""Galleries: complete, self-contained, escaped, bounded in size, and layers that show what they should."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_report import NASTY, Page

from common import gallery_page
from common.dataset_gallery import PictureCards, contact_sheet, suspect_card
from common.gallery_page import Card, error_layer, fit, label_layer, outline_layer, thumbnail, write_gallery
from deeplabv3p.data.classes import ClassList
from deeplabv3p.data.dataset import Dataset, Sample
from deeplabv3p.errors import DataError
from deeplabv3p.evaluation.label_errors import Doubt, SuspectLabel
from deeplabv3p.pixels import IGNORE
from deeplabv3p.spec import ClassInfo

CLASSES = (ClassInfo("background", (0, 0, 0)), ClassInfo("road", (128, 64, 128)), ClassInfo(NASTY, (10, 200, 30)))


def card(title: str = "a", classes: tuple[int, ...] = (1,), size: int = 0) -> Card:
    return Card(title, "some text", b"\xff\xd8" + bytes(size), {"label": b"\x89PNG"}, classes)


def rgba(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGBA"))


def test_a_page_is_whole_and_escaped(tmp_path):
    (path,) = write_gallery(tmp_path / "g.html", NASTY, NASTY, CLASSES, [card(NASTY, (1, 2)), card("b", ())])
    text = path.read_text(encoding="utf-8")
    page = Page(text.replace("<input", "<br").replace("<br", "<img"))  # void tags that the checker knows
    assert page.tags.count("article") == 2
    assert page.text.count(NASTY) >= 4, "title, heading, note, card, legend and filter"
    assert page.tags.count("script") == 1
    assert "alert(" not in "".join(re.findall(r"<script>(.*?)</script>", text, re.DOTALL))
    assert not re.search(r"""(src|href)=["'](?!data:)""", text), "nothing is loaded from elsewhere"
    assert [label for name, label in page.attributes if name == "data-classes"] == [" 1 2 ", "  "]


def test_only_the_pages_own_script_may_run(tmp_path):
    (path,) = write_gallery(tmp_path / "g.html", "t", "n", CLASSES, [card()])
    text = path.read_text(encoding="utf-8")
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'" in text


def test_the_script_finds_what_it_asks_for(tmp_path):
    """Every id and class that the script names is on the page."""
    (path,) = write_gallery(tmp_path / "g.html", "t", "n", CLASSES, [card()])
    text = path.read_text(encoding="utf-8")
    ids = set(re.findall(r'at\("(\w+)"\)', gallery_page._SCRIPT))
    assert ids == {"text", "class", "layer", "opacity", "shown"}
    assert all(f'id="{name}"' in text for name in ids)
    assert 'class="stack"' in text
    assert 'class="layer" data-layer="label"' in text
    assert '<option value="label">label</option>' in text


DOCUMENT = """
const made = {};
const element = (data) => ({ value: "", textContent: "", hidden: false, dataset: {}, handlers: {}, classes: new Set(),
  addEventListener(name, action) { this.handlers[name] = action; }, classList: { toggle() {} }, ...data });
const cards = [["Street one", " 1 2 "], ["street TWO", " 2 "], ["field", "  "]].map(([text, classes]) => element({
  textContent: text, dataset: { classes }, querySelector: () => element({}) }));
const layers = ["label", "errors"].map((layer) => element({ dataset: { layer } }));
const style = {};
globalThis.document = {
  getElementById: (id) => (made[id] ??= element({ value: id === "layer" ? "label" : "" })),
  querySelectorAll: (query) => ({ article: cards, ".layer": layers })[query],
  documentElement: { style: { setProperty: (name, value) => { style[name] = value; } } },
};
const shown = () => cards.filter((card) => !card.hidden).map((card) => card.textContent);
const type = (id, value) => { made[id].value = value; made[id].handlers.input(); };
const results = {};
const note = (name) => { results[name] = [shown(), made.shown.textContent]; };
"""
STEPS = """
note("all"); results.layers = layers.map((layer) => layer.hidden);
type("text", "STREET"); note("street"); type("text", "street two"); note("both words"); type("text", "");
type("class", "1"); note("class 1"); type("class", "2"); note("class 2"); type("text", "one"); note("class and text");
type("layer", "errors"); results.errors = layers.map((layer) => layer.hidden);
type("opacity", "30"); results.style = style;
console.log(JSON.stringify(results));
"""


def test_the_script_filters_by_class_and_text(tmp_path):
    """The script on a document of a few lines, where Node.js is installed."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("Node.js is not installed")
    (tmp_path / "run.js").write_text(f"{DOCUMENT}{{{gallery_page._SCRIPT}}}{STEPS}", encoding="utf-8")
    done = subprocess.run([node, str(tmp_path / "run.js")], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["all"] == [["Street one", "street TWO", "field"], "3 of 3 shown"]
    assert found["street"] == [["Street one", "street TWO"], "2 of 3 shown"]
    assert found["both words"] == [["street TWO"], "1 of 3 shown"]
    assert found["class 1"] == [["Street one"], "1 of 3 shown"]
    assert found["class 2"] == [["Street one", "street TWO"], "2 of 3 shown"]
    assert found["class and text"] == [["Street one"], "1 of 3 shown"]
    assert found["layers"] == [False, True]
    assert found["errors"] == [True, False]
    assert found["style"] == {"--opacity": 0.3}


def test_only_classes_that_occur_can_be_chosen(tmp_path):
    (path,) = write_gallery(tmp_path / "g.html", "t", "n", CLASSES, [card(classes=(1,)), card(classes=(0, 1))])
    assert re.findall(r'<option value="(\d)">', path.read_text(encoding="utf-8")) == ["0", "1"]


def test_pages_are_bounded_and_linked(tmp_path):
    cards = [card(f"picture {index}", size=3000) for index in range(7)]
    paths = write_gallery(tmp_path / "g.html", "t", "n", CLASSES, cards, page_bytes=13_000)
    assert [path.name for path in paths] == ["g.html", "g_2.html", "g_3.html"]
    titles = [re.findall(r"<h3>(.*?)</h3>", path.read_text(encoding="utf-8")) for path in paths]
    assert [title for page in titles for title in page] == [f"picture {index}" for index in range(7)]
    second = paths[1].read_text(encoding="utf-8")
    assert '<a href="g.html">1</a> <b>2</b> <a href="g_3.html">3</a>' in second
    assert len(write_gallery(tmp_path / "h.html", "t", "n", CLASSES, cards[:2], page_bytes=1)) == 2


def test_a_gallery_of_nothing(tmp_path):
    (path,) = write_gallery(tmp_path / "g.html", "t", "n", CLASSES, [])
    assert "<article" not in path.read_text(encoding="utf-8")


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot write"):
        write_gallery(tmp_path / "file" / "g.html", "t", "n", CLASSES, [card()])


def test_thumbnails_keep_their_shape_and_are_never_enlarged():
    assert fit((360, 480), 320) == (240, 320)
    assert fit((480, 360), 320) == (320, 240)
    assert fit((20, 30), 320) == (20, 30)
    assert fit((10_000, 3), 320) == (320, 1)
    image = Image.open(io.BytesIO(thumbnail(np.zeros((360, 480, 3), np.uint8), (240, 320))))
    assert image.size == (320, 240)


def test_labels_are_tinted_but_for_black_and_ignored():
    label = np.array([[0, 1], [2, IGNORE]], np.uint8)
    layer = rgba(label_layer(label, CLASSES, (2, 2)))
    assert layer[0, 1].tolist() == [128, 64, 128, 255]
    assert layer[1, 0].tolist() == [10, 200, 30, 255]
    assert layer[0, 0, 3] == 0
    assert layer[1, 1, 3] == 0


def test_errors_are_red_where_labelled():
    truth, prediction = np.array([[0, 1, IGNORE]], np.uint8), np.array([[0, 2, 2]], np.uint8)
    layer = rgba(error_layer(truth, prediction, (1, 3)))
    assert layer[0, 0, 3] == 0
    assert layer[0, 1].tolist() == [229, 57, 53, 255]
    assert layer[0, 2].tolist() == [224, 224, 192, 255]


def test_an_outline_hides_nothing_of_the_region():
    mask = np.zeros((20, 20), np.bool_)
    mask[5:10, 5:15] = True
    drawn = rgba(outline_layer(mask, (20, 20)))[..., 3] > 0
    assert not drawn[mask].any()
    assert drawn[3:12, 3:17].sum() == drawn.sum() == 9 * 14 - 50


def dataset(folder: Path, wrong: list[int]) -> tuple[Dataset, list[np.ndarray]]:
    """Pictures of 8x10 pixels of class 1, and predictions with that many pixels wrong."""
    samples, predictions = [], []
    for index, number in enumerate(wrong):
        paths = folder / f"i{index}.png", folder / f"l{index}.png"
        Image.fromarray(np.full((8, 10, 3), 90, np.uint8)).save(paths[0])
        Image.fromarray(np.ones((8, 10), np.uint8)).save(paths[1])
        prediction = np.ones((8, 10), np.uint8)
        prediction.reshape(-1)[:number] = 2
        samples.append(Sample(f"p{index}", *paths))
        predictions.append(prediction)
    return Dataset(folder, tuple(samples), ClassList(CLASSES, True), IGNORE, "list"), predictions


def collected(data: Dataset, predictions: list[np.ndarray] | None, order: str, limit: int = 10) -> PictureCards:
    cards = PictureCards(CLASSES, order=order, limit=limit, side=64)
    for index, sample in enumerate(data.samples):
        cards.add(sample, *data.load(index), None if predictions is None else predictions[index])
    return cards


def test_the_worst_come_first_and_ties_in_the_order_of_the_list(tmp_path):
    data, predictions = dataset(tmp_path, [8, 0, 40, 8, 80])
    assert collected(data, predictions, "wrong").indexes() == [4, 2, 0, 3, 1]
    assert collected(data, predictions, "miou").indexes() == [4, 2, 0, 3, 1]
    assert collected(data, predictions, "list").indexes() == [0, 1, 2, 3, 4]
    assert collected(data, predictions, "wrong", limit=3).indexes() == [4, 2, 0]
    assert collected(data, None, "list", limit=2).indexes() == [0, 1]
    first = collected(data, predictions, "wrong").cards()[1]
    assert first.title == "p2"
    assert first.text.startswith("50.0 % of the pixels wrong, mIoU 0.250; road")
    assert first.classes == [1, 2], "what is predicted is found, too"
    assert list(first.layers) == ["label", "prediction", "errors"]


def test_the_two_orders_differ(tmp_path):
    data, predictions = dataset(tmp_path, [30, 0])  # PA 0.625; IoU 50 of 80 and 0 of 30
    truth = np.ones((8, 10), np.uint8)
    truth[4:] = 2
    Image.fromarray(truth).save(data.samples[1].label)
    predictions[1] = truth.copy()  # PA 0.5; IoU 20 of 60, twice
    predictions[1][2:4], predictions[1][4:6] = 2, 1
    assert collected(data, predictions, "wrong").indexes() == [1, 0]
    assert collected(data, predictions, "miou").indexes() == [0, 1]


def test_pictures_without_labels_come_last(tmp_path):
    data, predictions = dataset(tmp_path, [0, 5])
    Image.fromarray(np.full((8, 10), IGNORE, np.uint8)).save(data.samples[0].label)
    cards = collected(data, predictions, "wrong")
    assert cards.indexes() == [1, 0]
    assert cards.cards()[1].text == "no labelled pixel"


def test_the_contact_sheet_shows_the_pictures_asked_for(tmp_path):
    data, _ = dataset(tmp_path, [0] * 8)
    one, seven = contact_sheet(data, [0]), contact_sheet(data, list(range(7)))
    assert seven.shape[1] > 5 * 200
    assert seven.shape[0] > one.shape[0]
    assert (one.reshape(-1, 3) == np.array(CLASSES[1].color) // 2 + 45).all(axis=1).any(), "the label tints the picture"


def test_a_suspect_is_shown_in_its_surroundings(tmp_path):
    data, _ = dataset(tmp_path, [0])
    big = np.ones((200, 300), np.uint8)
    Image.fromarray(np.full((200, 300, 3), 90, np.uint8)).save(data.samples[0].image)
    Image.fromarray(big).save(data.samples[0].label)
    suspect = SuspectLabel(0, data.samples[0], Doubt(1, 2, (100, 120, 110, 130), np.ones((10, 10), np.bool_), 3.0))
    shown = suspect_card(data, suspect, 7, 318)
    assert shown.title == f"7. road → {NASTY}?"
    assert "p0, 100 pixels at row 100, column 120; score 13.8" in shown.text
    assert shown.classes == (1, 2)
    label, suggestion = rgba(shown.layers["label"]), rgba(shown.layers["suggestion"])
    assert label.shape == (318, 318, 4), "106 pixels of the picture, enlarged three times"
    changed = (label != suggestion).any(axis=2)
    assert changed.sum() == 30 * 30
    assert set(map(tuple, suggestion[changed])) == {(10, 200, 30, 255)}
    assert shown.outline is not None


def test_cards_are_as_wide_as_their_pictures_ask_for(tmp_path):
    """Rows of one height: a tall picture leaves no hole beside it."""
    shapes = ((100, 200), (200, 100), (10, 1000), (1000, 10))
    cards = [Card(str(size), "", b"\xff\xd8", {}, (), size_hw=size) for size in shapes]
    (path,) = write_gallery(tmp_path / "g.html", "t", "n", CLASSES, cards)
    assert re.findall(r'style="--ratio:([\d.]+)"', path.read_text()) == ["2.000", "0.600", "4.000", "0.600"]
    assert Card("a", "", b"\xff\xd8", {}, ()).html.count("--ratio:1.333") == 1


def test_a_tall_picture_takes_a_narrow_place_on_the_contact_sheet(tmp_path):
    data, _ = dataset(tmp_path, [0] * 3)
    for index, size in enumerate([(60, 90), (90, 60), (60, 90)]):
        Image.fromarray(np.full((*size, 3), 90, np.uint8)).save(data.samples[index].image)
        Image.fromarray(np.ones(size, np.uint8)).save(data.samples[index].label)
    sheet = contact_sheet(data, [0, 1, 2])
    middle = (sheet[100, :1000] != 255).any(axis=1)
    edges = np.flatnonzero(np.diff(middle.astype(int)))
    assert np.diff(edges)[::2].tolist() == [4, 4], "no white but the gaps"
