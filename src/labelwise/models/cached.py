"""The models that are here: the embedded one, and those in the Hub's cache. Nobody is asked.

The cache has a folder for each repository, ``models--ORG--NAME``. In it, ``snapshots`` has a folder
for each commit, whose files are links to ``blobs``, and ``refs`` a file for each branch and tag.
"""

from __future__ import annotations

import os
import re
import shutil
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

from labelwise.engine import architectures
from labelwise.engine.checkpoint.checkpoint import weight_files
from labelwise.engine.config import Config
from labelwise.engine.files import read_file
from labelwise.engine.folder import check_folder
from labelwise.errors import BadFile, BadInput, BadModel, LabelwiseError, ModelNotFound
from labelwise.models.files import Files
from labelwise.models.locate import EMBEDDED, Location, client, local, locate, parsed, quiet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_MODELS = "models--"
_ID = re.compile(r"[\w.-]+(?:/[\w.-]+)?", re.ASCII)
_REF = re.compile(r"(?!.*\.\.)[\w.+/-]+", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHORT = re.compile(r"[0-9a-f]{4,40}")  # the beginning of a commit that is long enough to name it
_MAX_REF_BYTES = 100
_USUAL = "main"


@dataclass(frozen=True, slots=True)
class Here:
    """A model that can be run at once, as far as its configuration tells."""

    location: Location
    refs: tuple[str, ...]  # the branches and tags that its commit has in the cache
    model_type: str
    labels: tuple[str, ...]
    size: int  # bytes on disk
    used: float | None  # seconds since 1970 when its weights were last read; None: the embedded one

    @property
    def name(self) -> str:
        """The name that commands take: with a revision, unless that is the usual one."""
        if self.location.revision is None or _USUAL in self.refs:
            return self.location.id
        return f"{self.location.id}@{next(iter(self.refs), self.location.revision)}"


@dataclass(frozen=True, slots=True)
class Removal:
    """The removal of a model from the cache, still to be done."""

    name: str
    id: str
    revisions: tuple[str, ...]  # commits
    freed: int  # bytes
    paths: frozenset[Path]  # that will be gone
    execute: Callable[[], object]


def cache() -> Path:
    """The folder of the Hub's cache, whether it is there or not."""
    return Path(client(".constants").HF_HUB_CACHE)


def models() -> tuple[list[Here], int]:
    """All models that can be run at once, by name, and the number of other repositories.

    Raises:
        BadFile: The cache cannot be read.
    """
    found, others = [], 0
    for repository in _repositories(cache()):
        some = []
        with suppress(LabelwiseError, OSError):  # what cannot be read cannot be run
            some = list(_runnable(repository))
        found += some
        others += not some
    found.sort(
        key=lambda here: (here.location.id.lower(), here.name != here.location.id, here.name)
    )
    return [_here(locate(EMBEDDED), ()), *found], others


def find(model: str | Path) -> Location:
    """The place of *model*, as `locate`, but nothing is fetched, and a folder may be anything.

    A commit may be cut, if no other begins so.

    Raises:
        ModelNotFound: There is no such folder, or it is not in the Hub's cache.
        BadFile: The cache cannot be read.
    """
    found = local(model)
    if found is not None:
        return found
    name, revision = parsed(str(model))
    commit = _commit(name, revision)
    return Location(name, _repository(name) / "snapshots" / commit, commit)


def snapshots(name: str) -> set[Path]:
    """The files of all snapshots of the repository *name*, as far as they can be seen."""
    return set(_repository(name).glob("snapshots/*/*"))


def size(location: Location) -> int:
    """The bytes that a model takes: of a folder, its own files; of a snapshot, all that is in it.

    Raises:
        BadFile: The folder cannot be read.
    """
    if location.revision is None:
        return sum(file.size for file in Files(location.folder))
    sizes = {}
    for folder, _, names in os.walk(location.folder):
        for name in names:
            with suppress(OSError):  # a link to nowhere takes nothing
                stat = Path(folder, name).stat()
                sizes[stat.st_dev, stat.st_ino] = stat.st_size
    return sum(sizes.values())


def removal(model: str) -> Removal:
    """The removal of *model* from the cache: of all its revisions, unless one is named.

    Raises:
        BadInput: It does not come from the Hub.
        ModelNotFound: It is not in the cache.
        BadFile: The cache cannot be read.
    """
    found = local(model)
    if found is not None:
        raise BadInput(
            f"{EMBEDDED} is a part of Labelwise, which only pip removes"
            if found.id == EMBEDDED
            else f"{model!r:.200} is a folder of yours, not in the Hub's cache; it is left alone"
        )
    name, revision = parsed(model)
    wanted = {_commit(name, revision)} if "@" in model else None
    info, repository = _scanned(name)
    if repository is None:
        return _removal_of_damaged(model, name, wanted)
    # The same commit may be in two repositories, as it is where one was renamed.
    info = replace(info, repos=frozenset({repository}))
    commits = wanted or {each.commit_hash for each in repository.revisions}
    if not commits:
        return _removal_of_damaged(model, name, None)
    strategy = info.delete_revisions(*commits)
    paths = strategy.repos | strategy.snapshots | strategy.blobs | strategy.refs
    strangers = [path for path in paths if not _is_inside(path, repository.repo_path)]
    if strangers:
        raise BadFile(f"{model} is left alone: it has links to what is not its own: {strangers[0]}")
    freed = strategy.expected_freed_size
    return Removal(model, name, tuple(sorted(commits)), freed, paths, strategy.execute)


def remove(planned: Removal) -> None:
    """Do what was *planned*.

    Raises:
        BadFile: Something could not be removed.
    """
    reason = "check its permissions"
    try:
        with quiet():
            planned.execute()
    except OSError as error:
        reason = error.strerror or reason
    left = sorted(path for path in planned.paths if os.path.lexists(path))
    if left:
        raise BadFile(f"{planned.name} is not removed, or not all of it: {left[0]} stays; {reason}")


def _repositories(folder: Path) -> list[Path]:
    """The folders of all repositories in the cache *folder*, whatever they are."""
    try:
        with os.scandir(folder) as entries:
            return [Path(each.path) for each in entries if "--" in each.name and each.is_dir()]
    except FileNotFoundError:
        return []
    except OSError as reason:
        raise _unreadable(folder, reason) from None


def _repository(name: str) -> Path:
    """The folder of the model *name* in the cache."""
    return cache() / f"{_MODELS}{name.replace('/', '--')}"


def _runnable(repository: Path) -> Iterator[Here]:
    """The snapshots of a *repository* that can be run."""
    name = repository.name.removeprefix(_MODELS).replace("--", "/")
    if not repository.name.startswith(_MODELS) or not _ID.fullmatch(name):
        return
    refs = _refs(repository)
    for commit in _commits(repository):
        location = Location(name, repository / "snapshots" / commit, commit)
        with suppress(LabelwiseError, OSError):
            yield _here(location, tuple(sorted(ref for ref in refs if refs[ref] == commit)))


def _here(location: Location, refs: tuple[str, ...]) -> Here:
    """The model at *location*.

    Raises:
        BadModel: It cannot be run.
        OSError: Its weights are not there.
    """
    check_folder(location.folder)
    config = Config.open(location.folder)
    architectures.describe(config)
    weights = [path.stat() for path in weight_files(location.folder)]
    if not weights:
        raise ModelNotFound(f"{location.id} has no weights")
    used = max(stat.st_atime for stat in weights) if location.revision else None
    return Here(location, refs, config.model_type, _labels(config), size(location), used)


def _labels(config: Config) -> tuple[str, ...]:
    """The labels as the configuration has them; the weights have the last word."""
    if config.names:
        return tuple(config.names[number] for number in sorted(config.names))
    return tuple(f"LABEL_{number}" for number in range(config.num_labels or 2))


def _commits(repository: Path) -> list[str]:
    """The commits that have a snapshot.

    Raises:
        BadFile: The repository cannot be read.
    """
    try:
        with os.scandir(repository / "snapshots") as entries:
            names = [each.name for each in entries if each.is_dir(follow_symlinks=False)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as reason:
        raise _unreadable(repository, reason) from None
    return sorted(name for name in names if _COMMIT.fullmatch(name))


def _refs(repository: Path) -> dict[str, str]:
    """The commits of branches and tags."""
    found = {}
    for path in (repository / "refs").rglob("*"):
        name = path.relative_to(repository / "refs").as_posix()
        with suppress(BadModel, UnicodeDecodeError):
            commit = read_file(path, _MAX_REF_BYTES).decode().strip()
            if _REF.fullmatch(name) and _COMMIT.fullmatch(commit):
                found[name] = commit
    return found


def _commit(name: str, revision: str) -> str:
    """The commit of the *revision* of *name* that the cache has a snapshot of."""
    repository = _repository(name)
    refs, commits = _refs(repository), _commits(repository)
    wanted = refs.get(revision, revision)
    found = [each for each in commits if each.startswith(wanted) and _SHORT.fullmatch(wanted)]
    if len(found) == 1:
        return found[0]
    model = name if revision == _USUAL else f"{name}@{revision}"
    if len(found) > 1:
        raise ModelNotFound(f"{model} may be any of {len(found)} commits; give more of it")
    there = [ref for ref, commit in sorted(refs.items()) if commit in commits] or commits
    also = f", though {name}@{there[0]} is" if there else ""
    raise ModelNotFound(
        f"{model} is not in the Hub's cache{also}; to fetch it: labelwise pull {quote(model)}"
    )


def _scanned(name: str) -> tuple[Any, Any]:
    """The cache as the Hub's client reads it, and the repository *name* in it.

    None for the repository that it finds damaged.

    Raises:
        ModelNotFound: It is not in the cache.
        BadFile: The cache cannot be read.
    """
    try:
        if not _repository(name).is_dir():
            raise ModelNotFound(f"{name} is not in the Hub's cache")
        with quiet():
            info = client().scan_cache_dir(cache())
    except (OSError, ValueError) as reason:
        raise _unreadable(cache(), reason) from None
    same = [each for each in info.repos if (each.repo_type, each.repo_id) == ("model", name)]
    return info, next(iter(same), None)


def _is_inside(path: Path, repository: Path) -> bool:
    """Whether *path* is the *repository* or lies in it; a link lies where it is."""
    return path == repository or path.parent.resolve().is_relative_to(repository.resolve())


def _unreadable(folder: Path, reason: Exception) -> BadFile:
    why = getattr(reason, "strerror", None) or type(reason).__name__
    return BadFile(f"the Hub's cache cannot be read: {folder}: {why}")


def _removal_of_damaged(model: str, name: str, wanted: set[str] | None) -> Removal:
    """The removal of a repository that the Hub's client cannot read: of all of it, or of nothing.

    Raises:
        BadFile: One revision alone is wanted.
    """
    folder = _repository(name)
    if wanted:
        raise BadFile(
            f"{name} is damaged in the Hub's cache, and no part of it can be removed alone; to "
            f"remove it: labelwise rm {quote(name)}"
        )
    freed = sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())
    commits = tuple(_commits(folder))
    return Removal(model, name, commits, freed, frozenset({folder}), lambda: shutil.rmtree(folder))
