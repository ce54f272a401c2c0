"""Put runs, entries and suites on the Hugging Face hub as datasets, and fetch them."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from refbench.errors import RefbenchError, UnavailableError, missing_package
from refbench.leaderboard import entry as e
from refbench.places.packing import CARD, Kind, Package, eval_results, pack
from refbench.runs.folder import MANIFEST, RunFolder
from refbench.runs.generate import pixels_sha256
from refbench.tasks.suite import load_suite

REPO = re.compile(r"[\w.-]+/[\w.-]+")
LEFT = ("README.md", f"{CARD}/*", ".gitattributes", "eval.yaml")
"""What is for readers on the hub alone."""


@dataclass(frozen=True, slots=True)
class Pushed:
    """What was committed."""

    kind: Kind
    repo: str
    url: str
    """Of the commit."""
    files: int
    model_url: str | None = None
    """Of the pull request to the model's repository."""


def push(
    what: str | os.PathLike[str],
    repo: str,
    *,
    private: bool = False,
    suite: str | os.PathLike[str] | None = None,
    model: str | None = None,
    benchmark: str | None = None,
) -> Pushed:
    """Commit a run, an entry or a suite to a dataset of the hub, in one commit; the dataset is made where it lacks.

    Large files that the hub has are not sent again, so that a push that was stopped goes on.

    Args:
        what: as :func:`refbench.places.packing.pack`.
        repo: id of the dataset, as in "name/refbench-runs".
        private: of a dataset that is made.
        suite: of a run: where its suite is, if not where its manifest says.
        model: id of a model's repository that gets its results as a pull request.
        benchmark: id of the dataset that holds the suite; with `model`.

    Raises:
        RefbenchError: nothing to push there, a wrong id, or the hub refuses.
        UnavailableError: huggingface_hub is not installed, or the hub cannot be reached.
    """
    for name in (repo, *filter(None, (model, benchmark))):
        _checked(name)
    if (model is None) != (benchmark is None):
        raise RefbenchError("Expected --model and --benchmark together, but one of them is missing; give both.")
    package = pack(what, repo=repo, suite=suite)
    results = {} if model is None else eval_results(package, repo=repo, benchmark=str(benchmark))
    message = f"{package.title}, by refbench"
    with _hub(repo) as api:
        api.create_repo(repo, repo_type="dataset", private=private, exist_ok=True)
        url = _commit(api, repo, "dataset", package.files, message).commit_url
    told = None
    if model is not None:
        with _hub(model) as api:
            told = _commit(api, model, "model", results, message, create_pr=True).pr_url
    return Pushed(package.kind, repo, str(url), len(package.files), told)


def write(
    what: str | os.PathLike[str],
    repo: str,
    to: str | os.PathLike[str],
    *,
    suite: str | os.PathLike[str] | None = None,
    benchmark: str | None = None,
) -> Package:
    """Write into a new folder what :func:`push` would commit, `.eval_results` beside it; uses no network.

    Raises:
        RefbenchError: as :func:`push`, or the folder is not empty.
    """
    package = pack(what, repo=_checked(repo), suite=suite)
    folder = _empty(to)
    package.write(folder)
    if benchmark is not None:
        results = eval_results(package, repo=repo, benchmark=_checked(benchmark))
        Package(package.kind, package.title, results).write(folder)
    return package


def pull(repo: str, out: str | os.PathLike[str], *, revision: str | None = None) -> Kind:
    """Fetch what was pushed into a new folder; a fetch that was stopped goes on where it was.

    Args:
        repo: id of the dataset.
        out: the folder, new or empty.
        revision: commit, branch or tag; None is the newest.

    Returns:
        What it is. The pictures of a run are those that its records name, and a suite has the hash that it says.

    Raises:
        RefbenchError: no such dataset, or it holds nothing of refbench, or damaged files.
        UnavailableError: huggingface_hub is not installed, or the hub cannot be reached.
    """
    folder = _empty(_checked(repo) and out)
    part = folder.with_name(f".{folder.name}.part")
    with _hub(repo):
        from huggingface_hub import snapshot_download

        snapshot_download(
            repo, repo_type="dataset", revision=revision, local_dir=str(part), ignore_patterns=list(LEFT)
        )  # fmt: skip
    shutil.rmtree(part / ".cache", ignore_errors=True)
    kind = _checked_kind(part, repo)
    if folder.exists():
        folder.rmdir()
    part.rename(folder)
    return kind


def _checked_kind(folder: Path, repo: str) -> Kind:
    """What came, held against its own hashes."""
    if (folder / e.ENTRY).is_file():
        e.parse_entry((folder / e.ENTRY).read_bytes(), e.ENTRY)
        return "entry"
    if (folder / "suite.json").is_file():
        load_suite(folder)
        return "suite"
    if not (folder / MANIFEST).is_file():
        raise RefbenchError(f"Expected a run, an entry or a suite in the dataset {repo}, but there is none in it.")
    run, manifest = RunFolder.open(folder)
    for record in run.read_records(manifest.samples).values():
        if record.status == "ok" and pixels_sha256(run.read_output(record)) != record.sha256:
            raise RefbenchError(
                f"Expected outputs that the records name in {repo}, but that of {record.id} differs; pull another "
                "--revision."
            )
    return "run"


def _checked(repo: str) -> str:
    if not REPO.fullmatch(repo):
        raise RefbenchError(f"Expected an id of the hub, as in OWNER/NAME, but '{repo}' came; correct it.")
    return repo


def _empty(out: Any) -> Path:
    folder = Path(out)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RefbenchError(f"Expected a new folder at {folder}, but something is there; name another one.")
    return folder


def _commit(
    api: Any,
    repo: str,
    kind: Literal["dataset", "model"],
    files: Mapping[str, bytes | Path],
    message: str,
    create_pr: bool = False,
) -> Any:
    from huggingface_hub import CommitOperationAdd

    operations = [
        CommitOperationAdd(name, content if isinstance(content, bytes) else str(content))
        for name, content in files.items()
    ]
    return api.create_commit(repo, operations, commit_message=message, repo_type=kind, create_pr=create_pr)


def _unreachable() -> tuple[type[Exception], ...]:
    """What the hub's client raises where nothing answers; it asks by httpx2 where that is installed, else by httpx."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    clients = (import_module(name) for name in ("httpx", "httpx2") if find_spec(name))
    return (LocalEntryNotFoundError, *(client.HTTPError for client in clients))


@contextmanager
def _hub(repo: str) -> Iterator[Any]:
    """The hub's interface; what it refuses becomes one sentence."""
    try:
        from huggingface_hub import HfApi, constants
        from huggingface_hub.errors import (
            HfHubHTTPError,
            LocalEntryNotFoundError,
            LocalTokenNotFoundError,
            OfflineModeIsEnabled,
        )
    except ModuleNotFoundError as error:
        raise missing_package(error, "to reach the hub") or error from None
    try:
        yield HfApi()
    except OfflineModeIsEnabled:
        raise UnavailableError(
            "Expected to reach the hub, but HF_HUB_OFFLINE forbids it; unset it and run the command again."
        ) from None
    except LocalTokenNotFoundError:
        raise RefbenchError(
            f"Expected a token of the hub to reach {repo}, but there is none; run 'hf auth login'."
        ) from None
    except HfHubHTTPError as error:
        code = getattr(error.response, "status_code", "?")
        why = str(error.server_message or "").strip() or str(error).strip().splitlines()[0]
        hint = "run 'hf auth login' with a token that may" if code in (401, 403) else "check the id and the revision"
        raise RefbenchError(
            f"Expected the hub to give access to {repo}, but it answered {code}: {why}; {hint}."
        ) from None
    except _unreachable() as error:
        cause = error.__cause__ if isinstance(error, LocalEntryNotFoundError) and error.__cause__ else error
        why = " ".join(str(cause).split()) or type(cause).__name__
        raise UnavailableError(f"Expected to reach the hub at {constants.ENDPOINT}, but {why}; try again.") from None
    except ValueError as error:  # of ids and of cards
        said = " ".join(str(error).split())
        raise RefbenchError(f"Expected what the hub takes for {repo}, but it says: {said}; correct it.") from None
