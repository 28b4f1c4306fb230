# SPDX-License-Identifier: Apache-2.0
"""Which checkpoint a run continues with."""

import re
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from core.checkpoints import TrainState, check_train_state, load_train_state
from core.plurals import counted
from core.processes import from_main, restarts_store
from core.settings import config_lines
from core.weights_files import read_checkpoint


def resume_training(state: TrainState, config: ModuleType) -> Path | None:
    """Continue as config.resume says; returns the checkpoint taken, None if the run starts afresh.

    Raises: ValueError if the checkpoint cannot be used, or if an earlier run would be overwritten.
    """
    start, checkpoint = from_main(partial(find_start, state, config))
    if start is not None:
        load_train_state(start, checkpoint, state, config)
        if state.epoch < config.epochs and from_main(partial(score_of_best, state, config)) != state.best_score:
            state.best_score = 0.0  # weights that are not here are no reason to keep no others
    return start


def score_of_best(state: TrainState, config: ModuleType) -> Any:
    """The score of the weights in best.pth.tar; None if there are none, or they cannot be read."""
    try:
        return read_checkpoint(Path("results", config.exp_name, "best.pth.tar")).get(state.score)
    except (ValueError, OSError):
        return None


def is_of_other_run(path: Path, checkpoint: dict[str, Any], config: ModuleType) -> bool:
    """Whether a checkpoint is of another experiment; in the folder of this one, as where that was renamed, not."""
    is_here = path.resolve().parent == Path("samples", config.exp_name).resolve()
    return not is_here and checkpoint["config"].get("exp_name", config.exp_name) != config.exp_name


def find_start(state: TrainState, config: ModuleType) -> tuple[Path | None, dict[str, Any]]:
    """The checkpoint to continue, read and checked; (None, {}) to start afresh. Raises: as resume_training."""
    folder, store = Path("samples", config.exp_name), restarts_store()
    found = str([(path.name, path.stat().st_mtime_ns) for path in (*list_checkpoints(folder), *interrupted_in(folder))])
    # What torchrun has started before goes on with what it has written since, if anything.
    has_grown = store is not None and store.check([FOUND]) and store.get(FOUND).decode() != found
    if has_grown or config.resume == "auto":
        start = find_newest(folder, state)
    elif config.resume:
        start = Path(config.resume), read_named(folder, state, config)
    else:
        start = None
    if start is None:
        refuse_to_overwrite(list_checkpoints(folder), config)
    if store is not None and not has_grown:
        store.set(FOUND, found)
    return start or (None, {})


FOUND = "checkpoints at the first start"


def find_newest(folder: Path, state: TrainState) -> tuple[Path, dict[str, Any]] | None:
    """The newest good checkpoint of a folder; None if it has none at all. Raises: ValueError if all are bad."""
    errors: list[Exception] = []
    for path in newest_first(folder, errors):
        try:
            checkpoint = read_checkpoint(path)
            check_train_state(path, checkpoint, state)
        except (ValueError, OSError) as error:
            errors.append(error)
            print(f"Resume: {error}; taking the one before.")
            continue
        return path, checkpoint
    if errors:
        raise ValueError(f"{folder}: no checkpoint in it can be used ({errors[0]}); choose another exp_name")
    return None


def read_named(folder: Path, state: TrainState, config: ModuleType) -> dict[str, Any]:
    """The checkpoint that config.resume names. Raises: ValueError if it is unfit, or if later ones would be lost."""
    try:
        checkpoint = read_checkpoint(config.resume)
    except FileNotFoundError as error:
        line = config_lines(config).get("resume", "?")
        raise FileNotFoundError(
            f'{config.resume}: no such checkpoint; set resume (config.py line {line}) to "auto", "" or one in samples'
        ) from error
    check_train_state(config.resume, checkpoint, state)
    if is_of_other_run(Path(config.resume), checkpoint, config):
        refuse_to_overwrite(list_checkpoints(folder), config, checkpoint["epoch"] + 1)
    later = [path for path in list_checkpoints(folder) if epoch_number(path) > checkpoint["epoch"]]
    later += [path for path in interrupted_in(folder) if path.resolve() != Path(config.resume).resolve()]
    if later:
        raise ValueError(
            f"{later[-1]}: may be later than the {counted(checkpoint['epoch'], 'epoch')} that resume goes back to; "
            "remove it, or choose another exp_name"
        )
    return checkpoint


def interrupted_in(folder: Path) -> list[Path]:
    """The interrupted.pth.tar of a folder, if there is one."""
    return [path for path in (folder / INTERRUPTED,) if path.exists()]


def newest_first(folder: Path, errors: list[Exception]) -> list[Path]:
    """The checkpoints of a folder; where interrupted.pth.tar belongs is known from its content."""
    places = {path: (epoch_number(path), 1) for path in list_checkpoints(folder)}
    for path in interrupted_in(folder):
        try:
            checkpoint = read_checkpoint(path)
            places[path] = int(checkpoint["epoch"]), 2 if checkpoint["position"] else 0
        except (ValueError, LookupError, TypeError, OverflowError, OSError) as error:
            errors.append(error)
            print(f"Resume: {error}; taking the one before.")
    return sorted(places, key=places.__getitem__, reverse=True)


def refuse_to_overwrite(earlier: list[Path], config: ModuleType, first_epoch: int = 1) -> None:
    """Raise ValueError if there are checkpoints or weights of an earlier run. `first_epoch`: that of the new one."""
    # A run killed between its first weights and its first checkpoint has nothing to lose.
    weights = (Path("results", config.exp_name, name) for name in ("best.pth.tar", "last.pth.tar"))
    lost = [path for path in weights if path.exists() and read_checkpoint(path).get("epoch") != first_epoch]
    lost += [*earlier, *interrupted_in(Path("samples", config.exp_name))]
    if lost:
        raise ValueError(
            f"{lost[-1]}: of an earlier run with exp_name = {config.exp_name}; set resume = "
            f'"auto" (config.py line {config_lines(config).get("resume", "?")}) to continue it, or choose another '
            "exp_name, or delete that name's folders in samples, samples/logs and results"
        )


def list_checkpoints(folder: Path) -> list[Path]:
    """The epoch_N.pth.tar files of a folder, oldest epoch first."""
    return sorted((path for path in folder.glob("epoch_*") if EPOCH_FILE.fullmatch(path.name)), key=epoch_number)


def epoch_number(path: Path) -> int:
    """The N of epoch_N.pth.tar."""
    return int(path.name.removeprefix("epoch_").removesuffix(".pth.tar"))


def prepare_folders(exp_name: str) -> None:
    """Make the folders of the run now, so that a lack of permission shows, and remove what killed runs left."""
    for folder in (Path("samples", exp_name), Path("results", exp_name)):
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.glob(".*.partial"):  # nobody else writes here while this run holds the folder
            path.unlink()


def remove_old_checkpoints(folder: Path, epoch: int, keep: int) -> None:
    """Remove what the checkpoint of `epoch`, just written, makes superfluous; later ones are damaged and stay."""
    (folder / INTERRUPTED).unlink(missing_ok=True)
    for path in [path for path in list_checkpoints(folder) if epoch_number(path) <= epoch][:-keep]:
        path.unlink()


EPOCH_FILE = re.compile(r"epoch_\d+\.pth\.tar")
INTERRUPTED = "interrupted.pth.tar"
