"""Downloads that continue where they broke off, and the one wanted file of an archive; neither trusts what comes."""

from __future__ import annotations

import contextlib
import http.client
import tarfile
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from deeplabv3p import files
from deeplabv3p.errors import DataError
from deeplabv3p.progress import Progress, silent

MAX_BYTES = 4 << 30  # of a download, and of an archive's contents: nine times the largest file of the manifest
TIMEOUT_S = 30.0  # without a byte from the server
_BLOCK = 1 << 18


def download(
    url: str,
    target: Path,
    *,
    size: int | None = None,
    check: Callable[[Path], None],
    otherwise: str = "",
    progress: Progress = silent,
) -> None:
    """Fetch ``url`` to ``target``. What broke off is in ``<target>.part``, and the next call goes on from there if the
    server still has the same version.

    Args:
        url: http or https.
        target: the file to write; its folder is made.
        size: its bytes, where they are known beforehand.
        check: called with the complete file before it gets its name; raises DataError to refuse it.
        otherwise: a sentence that ends the message when the network fails.
        progress: called with bytes done and in all (0: unknown).

    Raises:
        DataError: the server or the network fails, the disk cannot be written, or the file is refused.
    """
    part = _Part(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _transfer(url, part, size, progress)
    except _ReadError as error:
        raise DataError(f"cannot download {target.name} ({error}). {otherwise}".strip()) from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise DataError(f"cannot write {part.path}: {reason}. Free some space or choose another folder.") from None
    try:
        check(part.path)
    except DataError as error:
        part.delete()
        raise DataError(f"what came from {url} is refused: {error}") from None
    with files.atomic_path(target) as temporary:
        part.path.replace(temporary)
    part.delete()


def extract(archive: Path, member: str, target: Path) -> None:
    """Write the one regular file of a ``.tar.gz`` that is called ``member``, in whatever folder, to ``target``. No name
    or link of the archive reaches the disk.

    Raises:
        DataError: the archive is damaged, too large or without such a file, or the disk cannot be written.
    """
    try:
        with tarfile.open(archive, "r:gz") as tar:
            while (info := tar.next()) is not None:
                if info.offset_data + info.size > MAX_BYTES:
                    raise _ReadError(f"it unpacks to more than {MAX_BYTES} bytes")
                stream = tar.extractfile(info) if info.isreg() and PurePosixPath(info.name).name == member else None
                if stream is not None:
                    with files.atomic_path(target) as temporary, temporary.open("wb") as out:
                        out.writelines(_blocks(stream.read))
                    return
        raise _ReadError(f"it holds no file {member}")
    except (_ReadError, tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise DataError(f"cannot unpack {archive} ({error}). Delete it to download it again.") from None


class _ReadError(Exception):
    """The network, or an archive, does not give what it should; the text says how."""


def _blocks(read: Callable[[int], bytes]) -> Iterator[bytes]:
    """The blocks that ``read`` gives, with its errors told apart from those of writing."""
    while True:
        try:
            block = read(_BLOCK)
        except (OSError, EOFError, http.client.HTTPException, zlib.error, tarfile.TarError) as error:
            raise _ReadError(str(error) or type(error).__name__) from None
        if not block:
            return
        yield block


class _Part:
    """A download that is not complete, and what identifies the version it is a part of (its ETag or date)."""

    def __init__(self, target: Path) -> None:
        self.path = target.with_name(f"{target.name}.part")
        self._version = target.with_name(f"{target.name}.part.version")

    def request_headers(self) -> dict[str, str]:
        """What asks for the rest. Without a version nothing tells that the rest is of the same file: start again."""
        with contextlib.suppress(OSError):
            version = self._version.read_text(encoding="ascii").strip()
            if version and self.size:
                return {"Range": f"bytes={self.size}-", "If-Range": version}
        return {}

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def begin(self, version: str) -> None:
        """Note the version before the first byte of it."""
        self.delete()
        self._version.write_text(version, encoding="ascii", errors="replace")

    def delete(self) -> None:
        self.path.unlink(missing_ok=True)
        self._version.unlink(missing_ok=True)


def _transfer(url: str, part: _Part, size: int | None, progress: Progress) -> None:
    with _open(url, part) as response:
        resumed = response.status == http.client.PARTIAL_CONTENT
        start = part.size if resumed else 0
        if resumed and not str(response.headers.get("Content-Range")).startswith(f"bytes {start}-"):
            part.delete()
            raise _ReadError("the server continues at another place; run the command again to start anew")
        length = response.headers.get("Content-Length") or ""
        total = start + int(length) if length.isdigit() else 0
        if size and total not in (0, size):
            part.delete()
            raise _ReadError(f"the server has a file of {total} bytes, the manifest says {size}")
        if not resumed:
            part.begin(_version(response.headers))
        total = total or size or 0
        done, limit = start, total or MAX_BYTES
        with part.path.open("ab") as out:
            for block in _blocks(response.read):
                out.write(block)
                done += len(block)
                if done > limit:
                    break
                progress(done, total)
    if done > limit:
        part.delete()
        raise _ReadError(f"more than {limit} bytes come")
    if done < total:
        raise _ReadError(f"the connection ended after {done} of {total} bytes; run the command again to go on")


def _open(url: str, part: _Part) -> Any:
    request = urllib.request.Request(url, headers={"User-Agent": "deeplabv3p", **part.request_headers()})
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE and part.size:  # not a beginning of this file
            part.delete()
            return _open(url, part)
        reason = " ".join(str(error.reason).split())  # of a redirect without end it is several lines
        raise _ReadError(f"the server answers {error.code} {reason}") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _ReadError(str(getattr(error, "reason", None) or error)) from None
    if url.startswith("https:") and not response.url.startswith("https:"):
        response.close()
        raise _ReadError(f"the server leads to {response.url}, which is not encrypted")
    return response


def _version(headers: Any) -> str:
    """What ``If-Range`` may be asked with (RFC 9110, 13.1.5): a strong ETag, else the date."""
    tag = headers.get("ETag") or ""
    return tag if tag.startswith('"') else headers.get("Last-Modified") or ""
