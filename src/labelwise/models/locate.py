"""A model's name -> the folder that holds it.

The Hub's client reads its environment (``HF_HOME``, ``HF_TOKEN``, ``HF_ENDPOINT``,
``HF_HUB_OFFLINE``) when it is imported, and importing it takes as long as loading the embedded
model. So it is imported only by what needs the Hub.
"""

from __future__ import annotations

import gc
import hashlib
import logging
import os
import re
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import labelwise
from labelwise.engine.checkpoint.checkpoint import INDEX, read_index, weight_files
from labelwise.engine.files import MAX_BYTES, exists, open_any
from labelwise.engine.folder import MARKS, WEIGHTS, check_folder, no_weights
from labelwise.errors import BadFile, BadInput, BadModel, ModelNotFound

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

EMBEDDED = "labelwise/minilm-l6-sst2"
_EMBEDDED_FOLDER = Path(__file__).resolve().parents[1] / "builtin" / EMBEDDED.partition("/")[2]

_VOCABULARY = [  # read where there is no tokenizer.json
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "sentencepiece.bpe.model",
    "spiece.model",
    "spm.model",
]
_DESCRIPTION = [
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    *_VOCABULARY,
    *(f"{weights}{INDEX}" for weights in WEIGHTS),
]
README = "README.md"  # the model's card
FILES = frozenset([*_DESCRIPTION, *WEIGHTS])  # of a model's folder, but for shards of weights
_REVISION = re.compile(r"(?!.*\.\.)\w[\w.+/-]*")  # a branch, a tag, refs/pr/1 or a commit


@dataclass(frozen=True, slots=True)
class Location:
    """The place of a model, and its id."""

    id: str  # "labelwise/minilm-l6-sst2", "ORG/NAME", or the folder's name
    folder: Path
    revision: str | None  # the commit on the Hub; None for a folder and the embedded model

    @property
    def is_embedded(self) -> bool:
        """Whether it is the model that comes with Labelwise, by whatever name."""
        return self.folder.resolve() == _EMBEDDED_FOLDER

    def fixed(self) -> Location:
        """The same place, whatever becomes of the working directory and of links to the folder."""
        return replace(self, folder=self.folder.resolve())

    def again(self) -> Location:
        """The same place as found in this process, which may run on another machine.

        Raises:
            BadModel: It cannot be found; as `locate`.
        """
        if self.id == EMBEDDED:
            return locate()
        if self.revision and not self.folder.exists():
            return locate(f"{self.id}@{self.revision}")
        return self

    def sha(self) -> str:
        """The commit; for a folder, what changes when a file that is read does, as long as one.

        Files that lie beside those of the model are not looked at, whatever their size.

        Raises:
            BadFile: A file of the folder cannot be read.
        """
        if self.revision:
            return self.revision
        total = hashlib.sha256()
        for path in self._files():
            with open_any(path) as file:
                if path.name in _DESCRIPTION:  # none is read further
                    digest = hashlib.sha256(file.read(MAX_BYTES))
                else:
                    digest = hashlib.file_digest(file, "sha256")  # type: ignore[arg-type]
            total.update(f"{path.name} {digest.hexdigest()}\n".encode())
        return total.hexdigest()[:40]

    def stamp(self) -> list[tuple[str, int, int]]:
        """Names, sizes and times of the files: read at once, and others when one changes."""
        stats = [(path.name, path.stat()) for path in self._files()]
        return [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]

    def _files(self) -> list[Path]:
        """The files that the model is read from, in the order of their names."""
        unused = _VOCABULARY if exists(self.folder / "tokenizer.json") else ()
        names = [name for name in _DESCRIPTION if name not in unused and not name.endswith(INDEX)]
        paths = {*(self.folder / name for name in names), *weight_files(self.folder)}
        return sorted(path for path in paths if path.is_file())


def locate(model: str | Path | None = None, *, progress: bool = False) -> Location:
    """The folder of *model*; what the Hub has and its cache has not is downloaded.

    *model* is a folder in the Hugging Face layout, or an id on the Hub: ``ORG/NAME``, or ``NAME``
    alone for the oldest models, with ``@REVISION`` for another branch, tag or commit than
    ``main``. None is the embedded model. What is both a folder here and an id is the folder.
    With *progress*, downloads draw their bars on stderr.

    Raises:
        BadInput: *model* is neither text nor a path.
        ModelNotFound: There is no such folder, id or revision, or no way to reach the Hub.
        BadFile: The folder is no model's folder, or a file cannot be stored.
        UnsupportedModel: It is a folder of another kind than text classifiers.
    """
    found = local(model)
    if found is None:
        return _on_hub(str(model), progress=progress)
    if found.id != EMBEDDED:
        check_folder(found.folder)
    return found


def local(model: str | Path | None) -> Location | None:
    """The embedded model or the folder that *model* names; None for what may be an id on the Hub.

    A folder may be anything: nothing in it is looked at.

    Raises:
        BadInput: *model* is neither text nor a path.
        ModelNotFound: It can only be a folder, and there is none.
    """
    if model is not None and not isinstance(model, str | Path):
        came = type(model).__name__
        raise BadInput(f"a model is the path of a folder or an id on the Hub, not {came}")
    if model is None or model == EMBEDDED:
        return Location(EMBEDDED, _EMBEDDED_FOLDER, None)
    path = os.path.expanduser(model)  # noqa: PTH111 - Path.expanduser raises for an unknown user
    if model != "" and os.path.isdir(path):  # noqa: PTH112 - says no to whatever is no path
        folder = Path(path)
        # Not resolve(): a folder that is a link is called what the user calls it.
        return Location(os.path.basename(os.path.abspath(folder)), folder, None)  # noqa: PTH100, PTH119
    if os.path.exists(path):  # noqa: PTH110 - as isdir
        raise ModelNotFound(
            f"{str(model)!r:.200} is not a folder; a model is the folder that holds config.json"
        )
    if isinstance(model, Path) or _is_path(model):
        raise ModelNotFound(f"there is no folder {str(model)!r:.200}")
    return None


def fetch(model: str, *, progress: bool = False) -> Location:
    """As `locate` for the id *model* on the Hub, which has to answer; the model's card comes too.

    Raises:
        ModelNotFound: There is no such id or revision, or no way to reach the Hub.
        BadFile: It is no model's folder, or a file cannot be stored.
        UnsupportedModel: It is of another kind than text classifiers.
    """
    name, revision = parsed(model)
    try:
        with quiet():
            api().model_info(name, revision=revision)
    except hub_errors() as reason:
        raise _refusal(name, revision, reason, f"{name} cannot be fetched:") from None
    found = _on_hub(model, progress=progress)
    with quiet(), suppress(*hub_errors()):  # the model runs without it
        _download(name)(revision=found.folder.name, allow_patterns=[README])
    return found


def _is_path(model: str) -> bool:
    """Whether *model* can only be meant as a folder: a Hub id has one slash at most."""
    return model.startswith((".", "/", "~")) or len(PurePath(model.partition("@")[0]).parts) > 2


def _on_hub(model: str, *, progress: bool) -> Location:
    """The snapshot of the Hub id *model* in the Hub's cache, brought up to date where possible."""
    name, revision = parsed(model)
    try:
        folder = _fetched(name, revision, progress=progress)
    except hub_errors() as reason:
        raise _refusal(name, revision, reason) from None
    return Location(name, folder, folder.name)


def client(part: str = "") -> Any:
    """The Hub's client, or a *part* of it."""
    # Read when the client is imported. Without it the client tells the Hub what else is installed,
    # and asks it for a list of tools to tell which of them started this process.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    return import_module(f"huggingface_hub{part}")


def api() -> Any:
    """The part of the Hub's client that asks questions."""
    return client().HfApi(library_name="labelwise", library_version=labelwise.__version__)


def hub_errors() -> tuple[type[Exception], ...]:
    """The errors of the Hub's client where it cannot get something."""
    # The error of the HTTP library beneath is not the same in all versions of the client.
    return OSError, client(".errors").HTTPError, ValueError


def parsed(model: str) -> tuple[str, str]:
    """*model* as the id of a repository and a revision.

    Raises:
        ModelNotFound: It cannot be an id on the Hub.
    """
    name, at, revision = model.partition("@")
    if name == EMBEDDED:
        raise ModelNotFound(
            f"{EMBEDDED} comes with Labelwise and has no revisions; leave out the @"
        )
    try:
        client(".utils").validate_repo_id(name)
    except ValueError:
        raise ModelNotFound(
            f"{model!r:.200} is neither a folder here nor an id on the Hub such as ORG/NAME"
        ) from None
    if at and not _REVISION.fullmatch(revision):
        raise ModelNotFound(f"{model!r:.200}: after @ comes a branch, a tag or a commit")
    return name, revision or "main"


def _fetched(name: str, revision: str, *, progress: bool) -> Path:
    """The snapshot of one commit, with weights in one format; its folder is named after the commit.

    The first call settles which commit *revision* is, and the others ask for that one. Without the
    Hub, all look in the cache. Weights come last: a snapshot that has them has the rest.
    """
    download = _download(name)
    with quiet():
        folder = Path(download(revision=revision, allow_patterns=[*_DESCRIPTION, *MARKS]))
    check_folder(folder)
    for files in _formats(folder):
        if not all((folder / file).exists() for file in files):
            with quiet(progress=progress):
                download(revision=folder.name, allow_patterns=files)
        if all((folder / file).exists() for file in files):
            return folder
    listed: Iterable[str] = ()
    with suppress(*hub_errors()):  # without the Hub, nobody knows
        listed = client().list_repo_files(name, revision=folder.name)
    raise no_weights(name, listed)


def _download(name: str) -> Callable[..., str]:
    """The function of the Hub's client that downloads files of *name*."""
    return partial(
        client().snapshot_download,
        name,
        library_name="labelwise",
        library_version=labelwise.__version__,
    )


def _formats(folder: Path) -> Iterator[list[str]]:
    """The files that may hold the weights, the best first: one, or the parts of an index."""
    for weights in WEIGHTS:
        yield [weights]
        index = folder / f"{weights}{INDEX}"
        if exists(index):
            yield sorted(set(read_index(index).values()))


@contextmanager
def quiet(*, progress: bool = False) -> Iterator[None]:
    """Keep the Hub's client from writing to stderr anything but, with *progress*, its bars."""
    utils = client(".utils")
    client(".utils.logging")  # makes the handlers

    def is_error(record: logging.LogRecord) -> bool:
        return record.levelno >= logging.ERROR

    handlers = logging.getLogger("huggingface_hub").handlers
    # Where the environment speaks of bars it has the last word, and overruling it is warned of.
    silenced = not progress and "HF_HUB_DISABLE_PROGRESS_BARS" not in os.environ
    silenced = silenced and not utils.are_progress_bars_disabled()
    with ExitStack() as undo:
        for handler in handlers:
            handler.addFilter(is_error)
            undo.callback(handler.removeFilter, is_error)
        if silenced:
            utils.disable_progress_bars()
            undo.callback(utils.enable_progress_bars)
        if progress:  # bars of the client end when they are collected, below what was printed since
            undo.callback(gc.collect)
        yield


def _refusal(name: str, revision: str, reason: BaseException, begin: str = "") -> BadModel:
    """The message for the user about *reason*. Its own text is left out: it may quote a header.

    *begin* begins it where the Hub cannot be asked; without it, the cache is spoken of.
    """
    errors = client(".errors")
    if isinstance(reason, errors.LocalEntryNotFoundError) and reason.__cause__:
        reason = reason.__cause__  # why the cache was the last hope
    status = getattr(getattr(reason, "response", None), "status_code", None)
    if isinstance(reason, errors.RevisionNotFoundError):
        return ModelNotFound(f"{name} has no revision {revision!r} on the Hub")
    if isinstance(reason, errors.GatedRepoError) or status == 403:
        return ModelNotFound(
            f"{name} is gated: ask for access on its page on the Hub, and set HF_TOKEN to an "
            "access token that may read it"
        )
    if isinstance(reason, errors.RepositoryNotFoundError) or status == 401:
        return ModelNotFound(
            f"there is no model {name} on the Hub, or it is private: check the id, or set HF_TOKEN "
            "to an access token that may read it"
        )
    if isinstance(reason, OSError) and reason.errno and not isinstance(reason, ConnectionError):
        return BadFile(
            f"{name} cannot be stored in the Hub's cache: {reason.strerror}. "
            "Make room, or set HF_HOME to another folder"
        )
    offline = isinstance(reason, errors.OfflineModeIsEnabled)
    why = "HF_HUB_OFFLINE is set" if offline else "the Hub cannot be reached"
    advice = "unset HF_HUB_OFFLINE once" if offline else "check the network and HF_ENDPOINT"
    if begin:
        return ModelNotFound(f"{begin} {why}; {advice}")
    return ModelNotFound(
        f"{name} is not in the Hub's cache, or not all of it, and {why}: {advice}, "
        "or give the path of a folder"
    )
