"""Checkpoints from the Hugging Face hub.

``huggingface_hub`` 1.33 compares the length of what it downloads and nothing else, and forgets a file that
was cut off. So weights are fetched here: from where the last attempt ended, with their SHA-256 checked, into
the place where the library looks for them, which is named after that sum. All else is left to the library.
"""

from __future__ import annotations

import errno
import fnmatch
import hashlib
import re
import shutil
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clap_server.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

RESERVE_BYTES = 500_000_000
"""Left free on the disk: for events, recordings, and what an engine exports."""

_MEGABYTE = 1_000_000
_SETTINGS = ["*.json", "*.txt"]
_WEIGHTS = ("model*.safetensors", "pytorch_model*.bin")
_PARTIAL_CONTENT = 206
_TIMEOUT_S = 30.0
_ATTEMPTS = 4
_PAUSE_S = 1.0
_SHA256 = re.compile(r"[0-9a-f]{64}")
_GIT_SHA1 = re.compile(r"[0-9a-f]{40}")
_EXAMPLE = "laion/clap-htsat-unfused"


class UnreachableError(ModelError):
    """The hub cannot be reached, so that the next attempt may well succeed.

    Attributes:
        short: what happened, in a few words.
    """

    def __init__(self, message: str, short: str = "the hub cannot be reached") -> None:
        super().__init__(message)
        self.short = short


class DamagedError(ModelError):
    """What came, or what lay on the disk, is not what was published; it was thrown away."""


@dataclass(frozen=True, slots=True)
class _Weights:
    """A file of weights as the hub describes it."""

    name: str
    size: int
    sha256: str


def download(
    name: str,
    cache_dir: Path,
    progress: Callable[[str], None],
    *,
    inspect: Callable[[Path], None] = lambda _: None,
    admit: Callable[[int], None] = lambda _: None,
    newest: bool = True,
) -> Path:
    """Download a checkpoint from the Hugging Face hub, or find it in the cache. Blocks.

    Args:
        name: ``owner/model``.
        cache_dir: where downloads are kept.
        progress: told of each further percent. What it raises ends the download.
        inspect: given the folder when all but the weights is there; what it raises ends the download.
        admit: given the size of the weights in bytes before they are fetched; the same.
        newest: whether to ask the hub for a newer revision than the one that is there.

    Returns:
        The folder of the checkpoint's newest revision that can be had.

    Raises:
        UnreachableError: no network, and it is not in the cache.
        DamagedError: it came damaged.
        ModelError: unknown name, or no room.
    """
    with _told_in_words(name):
        return _Download(name, cache_dir, progress).folder(inspect, admit, newest=newest)


class _Download:
    """One run of ``download``, which see."""

    def __init__(self, name: str, cache_dir: Path, progress: Callable[[str], None]) -> None:
        self._name = name
        self._cache_dir = cache_dir
        self._progress = progress
        self._told = -1

    def folder(self, inspect: Callable[[Path], None], admit: Callable[[int], None], *, newest: bool) -> Path:
        from huggingface_hub import errors

        if not newest:
            try:
                return self._cached()
            except errors.LocalEntryNotFoundError:
                pass
        folder = self._snapshot(_SETTINGS)
        try:
            inspect(folder)
        except ModelError as error:
            blame_damage(self._name, folder, error)
            raise
        return self._with_weights(folder, admit)

    def _with_weights(self, folder: Path, admit: Callable[[int], None]) -> Path:
        import httpx
        from huggingface_hub import errors

        try:
            pattern, files = self._published(folder.name)
        except (errors.HfHubHTTPError, errors.OfflineModeIsEnabled, httpx.HTTPError):
            return self._cached()
        missing = [file for file in files if not (folder / file.name).exists()]
        blobs = folder.parent.parent / "blobs"
        self._clean(blobs, missing)
        if missing:
            size = sum(file.size for file in files)
            admit(size)
            blobs.mkdir(parents=True, exist_ok=True)
            self._check_room(size, sum(file.size - _size(_part(blobs, file)) for file in missing))
            self._fetch_all(folder.name, blobs, missing)
        return self._snapshot([*_SETTINGS, pattern])

    def _snapshot(self, patterns: Sequence[str], **options: Any) -> Path:
        from huggingface_hub import snapshot_download

        return Path(
            snapshot_download(
                self._name,
                cache_dir=self._cache_dir,
                allow_patterns=list(patterns),
                tqdm_class=_hidden_bars(),
                **options,
            )
        )

    def _cached(self) -> Path:
        """What is there as a whole."""
        from huggingface_hub import errors

        for pattern in _WEIGHTS:
            folder = self._snapshot([*_SETTINGS, pattern], local_files_only=True)
            if any(folder.glob(pattern)):
                return folder
        raise errors.LocalEntryNotFoundError(f"{self._name} is there without weights")

    def _published(self, commit: str) -> tuple[str, list[_Weights]]:
        """The weights that the hub has for a commit: those that cannot run code, if there are any."""
        from huggingface_hub import HfApi
        from huggingface_hub.hf_api import RepoFile

        listed = [
            entry
            for entry in HfApi().list_repo_tree(self._name, revision=commit)
            if isinstance(entry, RepoFile)
        ]
        for pattern in _WEIGHTS:
            found = [entry for entry in listed if fnmatch.fnmatchcase(entry.path, pattern)]
            if found:
                # What is kept without Git LFS is small: the library may fetch it.
                large = [
                    _Weights(entry.path, entry.lfs.size, entry.lfs.sha256) for entry in found if entry.lfs
                ]
                return pattern, large
        return _WEIGHTS[0], []

    def _check_room(self, size: int, needed: int) -> None:
        free = shutil.disk_usage(self._cache_dir).free
        if free < needed + RESERVE_BYTES:
            raise ModelError(
                f"The model {self._name!r} ({_megabytes(size)} MB) finds no room: of it {_megabytes(needed)} "
                f"MB are still to come, and of {_megabytes(free)} MB that are free in the data folder "
                f"{_megabytes(RESERVE_BYTES)} are kept for recordings. Make room there."
            )

    def _clean(self, blobs: Path, missing: Sequence[_Weights]) -> None:
        """Remove what no attempt would go on with: of other revisions, and of the library's own downloads."""
        wanted = {_part(blobs, file) for file in missing}
        for path in [*blobs.glob("*.part"), *blobs.glob("*.incomplete")]:
            if path not in wanted:
                path.unlink(missing_ok=True)

    def _fetch_all(self, commit: str, blobs: Path, files: Sequence[_Weights]) -> None:
        total, before = sum(file.size for file in files), 0
        for file in files:
            done = before

            def tell(count: int, done: int = done) -> None:
                self._tell(done + count, total)

            self._fetch(commit, blobs, file, tell)
            before += file.size

    def _tell(self, count: int, total: int) -> None:
        percent = 100 * count // max(1, total)
        if percent > self._told:
            self._told = percent
            self._progress(
                f"Downloading {self._name}: {_megabytes(count)} of {_megabytes(total)} MB ({percent} %)"
            )

    def _fetch(self, commit: str, blobs: Path, file: _Weights, tell: Callable[[int], None]) -> None:
        import httpx
        from huggingface_hub import hf_hub_url

        url = hf_hub_url(self._name, file.name, revision=commit)
        part = _part(blobs, file)
        left = _ATTEMPTS
        while _size(part) < file.size:
            before = _size(part)
            try:
                self._continue(url, part, file.size, tell)
            except (httpx.TransportError, _CutOffError) as error:
                # As long as something comes it goes on at once.
                left = _ATTEMPTS if _size(part) > before else left - 1
                if not left:
                    came = f"{_megabytes(_size(part))} of {_megabytes(file.size)} MB"
                    short = f"the download broke off after {came}"
                    raise UnreachableError(
                        f"The model {self._name!r} is not here yet: {short}; it goes on from there.", short
                    ) from error
                time.sleep(_PAUSE_S)
            except OSError as error:
                if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                    part.unlink(missing_ok=True)  # what is heard needs the room more
                raise
        if _size(part) > file.size or _sha256(part) != file.sha256:
            part.unlink()
            raise DamagedError(
                f"The model {self._name!r} came damaged (the checksum of {file.name} is wrong): it has to be "
                "downloaded again."
            )
        part.replace(blobs / file.sha256)

    def _continue(self, url: str, part: Path, size: int, tell: Callable[[int], None]) -> None:
        """Fetch what is missing of a file, or as much of it as comes."""
        from huggingface_hub import get_session, get_token, hf_raise_for_status

        count = _size(part)
        headers = {"Accept-Encoding": "identity", "Range": f"bytes={count}-"}
        if token := get_token():
            headers["Authorization"] = f"Bearer {token}"
        with get_session().stream(
            "GET", url, headers=headers, timeout=_TIMEOUT_S, follow_redirects=True
        ) as response:
            hf_raise_for_status(response)
            if response.status_code != _PARTIAL_CONTENT:
                count = 0
            with part.open("ab" if count else "wb") as target:
                tell(count)
                for chunk in response.iter_raw():
                    target.write(chunk)
                    count += len(chunk)
                    tell(min(count, size))
        if count < size:
            raise _CutOffError


class _CutOffError(Exception):
    """Less came than was announced."""


def blame_damage(name: str, folder: Path, error: ModelError) -> None:
    """Throw away what of a downloaded checkpoint is not what was published, so that it is fetched again.

    The hub's cache names each file after its checksum.

    Args:
        name: of the model.
        folder: as ``download`` gave it.
        error: what went wrong with it.

    Raises:
        DamagedError: files were damaged.
    """
    damaged = []
    for path in sorted(folder.iterdir()):
        blob = path.resolve()
        if blob.exists() and _is_as_named(blob):
            continue
        damaged.append(path.name)
        blob.unlink(missing_ok=True)
        path.unlink(missing_ok=True)
    if damaged:
        raise DamagedError(
            f"The model {name!r} was damaged on the disk ({', '.join(damaged)}): it has to be downloaded "
            "again."
        ) from error


def _is_as_named(blob: Path) -> bool:
    if _SHA256.fullmatch(blob.name):
        return _sha256(blob) == blob.name
    if _GIT_SHA1.fullmatch(blob.name):
        content = blob.read_bytes()
        header = f"blob {len(content)}\0".encode()
        return hashlib.sha1(header + content, usedforsecurity=False).hexdigest() == blob.name
    return True


def weights_size(folder: Path) -> int:
    """Bytes of the weights in a checkpoint's folder."""
    for pattern in _WEIGHTS:
        if found := list(folder.glob(pattern)):
            return sum(path.stat().st_size for path in found)
    return 0


@contextmanager
def _told_in_words(name: str) -> Iterator[None]:
    import httpx
    from huggingface_hub import errors

    try:
        yield
    except errors.HFValidationError as error:
        raise ModelError(
            f"{name!r} is neither a folder nor a name on the Hugging Face hub: use 'builtin', a folder, or a "
            f"name such as {_EXAMPLE}."
        ) from error
    except errors.GatedRepoError as error:
        raise ModelError(
            f"The model {name!r} is only given to those who accept its terms: do so on the Hugging Face hub "
            "and set HF_TOKEN, or use another model."
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise ModelError(
            f"The Hugging Face hub has no model {name!r}, or keeps it private: check the name, "
            f"such as {_EXAMPLE}."
        ) from error
    except (
        errors.LocalEntryNotFoundError,
        errors.OfflineModeIsEnabled,
        errors.HfHubHTTPError,
        httpx.HTTPError,
    ) as error:
        raise UnreachableError(
            f"The model {name!r} cannot be downloaded, because the Hugging Face hub cannot be reached "
            "or breaks off: check the network and try again."
        ) from error
    except OSError as error:
        raise ModelError(
            f"The model {name!r} cannot be stored ({error.strerror or error}): make room in the data folder."
        ) from error


def _hidden_bars() -> type[Any]:
    from huggingface_hub.utils.tqdm import tqdm

    base: Any = tqdm

    class Hidden(base):  # type: ignore[misc]  # the base has no types
        def __init__(self, *arguments: Any, **keywords: Any) -> None:
            super().__init__(*arguments, **{**keywords, "disable": True})

    return Hidden


def _part(blobs: Path, file: _Weights) -> Path:
    return blobs / f"{file.sha256}.part"


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _megabytes(count: int) -> str:
    return f"{count / _MEGABYTE:.0f}"
