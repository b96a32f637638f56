"""Keeps the calibrations that ``clap-server calibrate`` made, where every later load finds them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import math
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clap_server.clap.model import CALIBRATION_AUTHOR, CALIBRATION_FILE, Calibration
from clap_server.errors import ConfigurationError

if TYPE_CHECKING:
    from clap_server.clap.model import ClapModel
    from clap_server.detection.library import LabelLibrary

_LOGGER = logging.getLogger(__name__)

FOLDER = "calibration"


def model_key(model: ClapModel, library: LabelLibrary) -> str:
    """Say what a calibration is made for: these weights, in this number format, with these prompts."""
    return f"{_identity(model)} {model.dtype} {library.version}"


def _identity(model: ClapModel) -> str:
    if not model.builtin:
        return str(getattr(model, "identity", model.name))
    from clap_server.clap import builtin

    with (builtin.FOLDER / "weights.safetensors").open("rb") as file:
        return f"builtin@{hashlib.file_digest(file, 'sha256').hexdigest()}"


def stored(model: ClapModel, library: LabelLibrary, models_dir: Path) -> Calibration | None:
    """Find what ``store`` stored for a model, in the data folder or else beside its weights.

    Args:
        model: as it was loaded.
        library: whose prompts are in use.
        models_dir: folder ``models`` of the data folder.

    Returns:
        None if there is nothing, if it is damaged, or if it was made for other weights or prompts; the log
        says so.
    """
    paths = [_own_path(model.name, models_dir)]
    beside = _beside(model.name)
    if beside is not None and _is_ours(beside):
        paths.append(beside)
    for path in paths:
        calibration = _in_force(path, model, library)
        if calibration is not None:
            return calibration
    return None


def _in_force(path: Path, model: ClapModel, library: LabelLibrary) -> Calibration | None:
    calibration = read(path, "is not used: run `clap-server calibrate` again, or with --reset")
    if calibration is None:
        return None
    if _details(path).get("made_for") != model_key(model, library):
        _LOGGER.warning(
            "The calibration that was stored for %s in %s was made for other weights, another number format "
            "or another label library and is not used: run `clap-server calibrate` again, or with --reset",
            model.name,
            path,
        )
        return None
    _LOGGER.info(
        "%s uses the calibration that `clap-server calibrate` stored in %s: scale %.2f, bias %.2f",
        model.name,
        path,
        calibration.scale,
        calibration.bias,
    )
    return calibration


def store(
    model: ClapModel, library: LabelLibrary, models_dir: Path, calibration: Calibration, made_from: str
) -> Path:
    """Store a calibration for all later loads of a model.

    Beside the weights if these are a folder of the user's that can be written and holds no calibration of
    another author, else in the data folder.

    Args:
        model: for which it was made.
        library: whose prompts were in use.
        models_dir: folder ``models`` of the data folder.
        calibration: to be stored.
        made_from: on what it was fitted, in words.

    Returns:
        The file.

    Raises:
        ConfigurationError: it cannot be written.
    """
    content = {
        **dataclasses.asdict(calibration),
        "stored_by": CALIBRATION_AUTHOR,
        "made_for": model_key(model, library),
        "made_from": made_from,
    }
    own = _own_path(model.name, models_dir)
    beside = _beside(model.name)
    if beside is not None and (not beside.exists() or _is_ours(beside)):
        try:
            write(beside, content)
        except OSError as error:
            _LOGGER.info("%s cannot be written (%s); the data folder is used instead", beside, error)
        else:
            _remove(own)  # it would go before the newer one
            return beside
    try:
        write(own, content)
    except OSError as error:
        raise ConfigurationError(
            f"The calibration cannot be stored in {own.parent} ({error.strerror or error}): make it writable "
            "for this user, or name another data folder with --data."
        ) from error
    return own


def remove(name: str, models_dir: Path) -> list[Path]:
    """Take away what ``store`` stored for a model; a calibration of another author stays.

    Args:
        name: of the model; it need not be loaded, so this also helps if it cannot be.
        models_dir: folder ``models`` of the data folder.

    Returns:
        The files that were there.

    Raises:
        ConfigurationError: a file cannot be removed.
    """
    beside = _beside(name)
    found = [_own_path(name, models_dir)]
    if beside is not None and _is_ours(beside):
        found.append(beside)
    return [path for path in found if _remove(path)]


def read(path: Path, consequence: str) -> Calibration | None:
    """Read a calibration; None if there is none or it is damaged, of which the log tells.

    Args:
        path: of the file.
        consequence: what happens if it is damaged, for the log.
    """
    try:
        content = json.loads(path.read_text("utf-8"))
        found = Calibration(scale=float(content["scale"]), bias=float(content["bias"]))
        if not (0 < found.scale < math.inf and math.isfinite(found.bias)):
            raise ValueError(f"scale {found.scale}, bias {found.bias}")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        _LOGGER.warning("The stored calibration %s is damaged and %s: %r", path, consequence, error)
        return None
    return found


def write(path: Path, content: dict[str, Any]) -> None:
    """Write JSON in one step, readable by all: an administrator may write what the server's user reads.

    Raises:
        OSError: it cannot be written; what was there before is untouched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", dir=path.parent, suffix=".tmp", delete=False
    ) as file:
        temporary = Path(file.name)
        try:
            json.dump(content, file, indent=1, ensure_ascii=False)
            file.flush()
            os.fsync(file.fileno())
            temporary.chmod(0o644)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def _own_path(name: str, models_dir: Path) -> Path:
    beside = _beside(name)
    known_as = name if beside is None else str(beside.parent.resolve())
    digest = hashlib.sha256(known_as.encode()).hexdigest()[:32]
    return models_dir / FOLDER / f"stored-{digest}.json"


def _beside(name: str) -> Path | None:
    """Where a calibration lies beside the weights, if these are a folder of the user's."""
    folder = Path(name).expanduser()
    return folder / CALIBRATION_FILE if name != "builtin" and folder.is_dir() else None


def _details(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _is_ours(path: Path) -> bool:
    return _details(path).get("stored_by") == CALIBRATION_AUTHOR


def _remove(path: Path) -> bool:
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise ConfigurationError(
            f"The stored calibration {path} cannot be removed ({error.strerror or error}): remove it by hand."
        ) from error
    return True
