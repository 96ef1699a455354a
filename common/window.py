"""A window on the screen, where there is a screen and OpenCV was built with windows."""

from __future__ import annotations

import os
import sys
from typing import Any

import cv2
import numpy as np

NO_WINDOWS = (
    "note: this OpenCV cannot open windows, so results go into files. Windows are had by: "
    "pip uninstall opencv-python-headless && pip install opencv-python"
)

_TITLE = "deeplabv3p"
_QUIT_KEYS = {27, ord("q")}  # Esc
_POLL_MS = 50


def available() -> bool:
    """Whether a window can be opened: a display, and an OpenCV build with a GUI (the headless build has none)."""
    return has_display() and _has_windows()


def has_display() -> bool:
    """Whether there is a screen to open windows on. Only Linux can be asked."""
    return not sys.platform.startswith("linux") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def ready() -> bool:
    """As :func:`available`; where only OpenCV is in the way, a line on the console says how windows are had."""
    if available():
        return True
    if has_display():
        print(NO_WINDOWS, file=sys.stderr, flush=True)
    return False


def _has_windows() -> bool:
    try:
        cv2.namedWindow(_TITLE, cv2.WINDOW_AUTOSIZE)
    except cv2.error:
        return False
    return True


def show(image: np.ndarray[Any, np.dtype[np.uint8]]) -> None:
    """Show a uint8 [H, W, 3] RGB picture and return at once."""
    cv2.imshow(_TITLE, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))


def wait() -> bool:
    """Wait for a key; False when it was q or Esc, or the window was closed."""
    while True:
        key = cv2.waitKey(_POLL_MS)
        if key >= 0:
            return key & 0xFF not in _QUIT_KEYS
        if cv2.getWindowProperty(_TITLE, cv2.WND_PROP_VISIBLE) < 1:
            return False


def keep_going() -> bool:
    """Draw what is due; False when q or Esc was pressed."""
    key = cv2.waitKey(1)
    return key < 0 or key & 0xFF not in _QUIT_KEYS
