"""Runs on the model hub of Hugging Face: `hf://user/repository[@revision][/folder]`.

A run there is its safetensors, JSON and JSON lines, and a model card made from its record; nothing that could
be executed is written or fetched. The rest of a run directory (reports, what a replay has measured, the state
from which training goes on) stays where it is.
"""

from __future__ import annotations

import glob
import json
import os
import re
import shutil
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DamagedFile, GrokinterpError, NotARun, UsageError
from . import files
from .account import RECORD_AND_LOGS, Account, read_run_json
from .listing import Listed, report_of, row_of

if TYPE_CHECKING:
    from huggingface_hub import HfApi

SCHEME = "hf://"
_CARD = "README.md"
_WRITTEN = "<!-- made by grokinterp from the record of the run; without this line it is left as it is -->"
_PATTERNS = (*RECORD_AND_LOGS, "split.safetensors", "report.json", "snapshots/step_*.safetensors")
_RUN = re.compile(
    r"run\.json|manifest\.jsonl|metrics\.jsonl|split\.safetensors|report\.json|snapshots/step_\d{8,}\.safetensors"
)
_ABOUT = (_CARD, ".gitattributes", "LICENSE")
"""What nearly every repository has, and nobody misses."""
_STAGE = ".fetching"
_NAMED = 10


@dataclass(frozen=True)
class Place:
    """A run on the hub: its repository, the revision (None: the newest), and the folder in it ("": the
    root)."""

    repository: str
    revision: str | None
    folder: str

    @classmethod
    def of(cls, text: str) -> Place:
        """The place that "hf://user/repository[@revision][/folder]" names; "hf://" may be left out.

        Raises:
            UsageError: it names none.
        """
        name = r"[\w.-]+"
        match = re.fullmatch(rf"(?:{SCHEME})?({name}/{name})(?:@({name}))?((?:/{name})*)/?", text, re.ASCII)
        if match is None or {".", ".."} & set(re.split("[/@]", text)):
            needs = "needs hf://user/repository, with @revision or /folder behind it where need be"
            raise UsageError(f"{text!r} is no place on the hub: {needs}")
        return cls(match[1], match[2], match[3].strip("/"))

    def __str__(self) -> str:
        revision, folder = f"@{self.revision}" if self.revision else "", f"/{self.folder}".rstrip("/")
        return f"{SCHEME}{self.repository}{revision}{folder}"

    def named(self, file: str) -> str:
        """A file of the run, as it is called in the repository."""
        return f"{self.folder}/{file}".lstrip("/")


@dataclass(frozen=True)
class Pushed:
    """What became of a push.

    Attributes:
        place: from where `gi.load_run` takes it.
        url: the commit on the hub.
        files: what was pushed, as it is called there.
        left_out: what else lies in the run directory.
    """

    place: str
    url: str
    files: tuple[str, ...]
    left_out: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)


def push_to_hub(path: str | Path, repository: str, *, private: bool | None = None) -> Pushed:
    """Puts a run on the hub, as one commit; the same again brings it up to date.

    The model card is made from the record of the run, unless the repository has one that was written by hand.

    Args:
        path: the run directory.
        repository: "user/repository", or with "/folder" behind it for one of several runs there; made if it
            is not there.
        private: whether a repository that is made is private; by default as the hub does it.

    Raises:
        UsageError: it is no name of a repository, another run lies there, or huggingface_hub is missing.
        RunLocked: the run is being trained.
        DamagedFile: a file of the run does not match its recorded hash; nothing was pushed.
        GrokinterpError: the hub refuses, or cannot be reached.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    place, path = Place.of(repository), Path(path)
    if place.revision is not None:
        raise UsageError(f"{repository}: a run is pushed to the newest revision: leave out @{place.revision}")

    def busy(holder: str) -> str:
        return f"{path} is locked by {holder}, which may be training it: push it when that has ended"

    Account(path)  # a directory that holds no run gets no lock
    with files.locked(path, busy), _hub(place) as hub:
        account = Account(path)
        account.resolve(-1)
        _refuse_damage(account)
        mine = [*_committed(account), *(["report.json"] if report_of(account) else [])]
        hub.create_repo(place.repository, private=private, exist_ok=True)
        theirs = {name: _of_run(place, name) for name in hub.list_repo_files(place.repository)}
        _refuse_another_run(hub, place, account, theirs)
        content: dict[str, str | bytes] = {place.named(name): str(path / name) for name in mine}
        if _is_ours(hub, place, theirs):
            content[place.named(_CARD)] = card(account, place).encode()
        operations: list[CommitOperationAdd | CommitOperationDelete] = [
            *(CommitOperationAdd(name, data) for name, data in content.items()),
            *(
                CommitOperationDelete(name)
                for name, of_run in theirs.items()
                if of_run and of_run not in mine
            ),
        ]
        message = f"{path.resolve().name}: {account.steps_text(account.steps)}"
        commit = hub.create_commit(place.repository, operations, commit_message=message)
    tops = {name.split("/")[0] for name in mine}
    left = sorted(entry.name for entry in path.iterdir() if entry.name not in {*tops, "lock"})
    return Pushed(str(place), str(commit.commit_url), tuple(content), tuple(left))


def pull_from_hub(place: str, out: str | Path | None = None) -> Path:
    """Fetches a run from the hub: the directory that it is in.

    Every file is held against its recorded hash. What else lies in the repository is not fetched, and named
    in a warning.

    Args:
        place: "hf://user/repository[@revision][/folder]".
        out: the run directory to make; by default the hub's own cache, where a revision is fetched once.

    Raises:
        UsageError: it is no such place, or huggingface_hub is missing.
        NotARun: there is no run; or `out` holds something else.
        DamagedFile: a file does not match its recorded hash.
        GrokinterpError: the hub refuses, or cannot be reached.
    """
    there = Place.of(place)
    target = None if out is None else files.folder_named(out)
    with _hub(there) as hub:
        fetched = hub.snapshot_download(
            there.repository,
            revision=there.revision,
            allow_patterns=[glob.escape(there.named("")) + name for name in _PATTERNS],
        )
        folder = Path(str(fetched)) / there.folder
        if not (folder / "run.json").exists():
            raise NotARun(f"{there} holds no run: it has no run.json; give what `grokinterp push` made")
        _say_what_is_left_out(hub, there)
    account = Account(folder)
    wanted = _committed(account)
    if any(_RUN.fullmatch(name) is None for name in wanted):
        raise files.damaged(folder / "run.json", "it names files that are none of a run")
    _refuse_damage(account)
    return folder if target is None else _copied(folder, [*wanted, "report.json"], target)


def card(account: Account, place: Place) -> str:
    """The model card of a run, made from its record."""
    record, row = account.record, row_of(account.path)
    name = place.folder.split("/")[-1] or place.repository.split("/")[-1]
    config = {key: value for key, value in record["config"].items() if key in ("task", "model", "training")}
    rows = [(title, text) for title, text in _facts(account, row) if text]
    table = "\n".join(f"| {title} | {_cell(text)} |" for title, text in rows)
    about = json.dumps(config | {"seed": record["config"]["seed"]}, indent=1, ensure_ascii=False)
    fence = "`" * (3 + max(map(len, re.findall("`+", about)), default=0))
    return f"""---
library_name: grokinterp
tags:
- grokinterp
- mechanistic-interpretability
---
{_WRITTEN}

# {name}

A training run of grokinterp: {_cell(record["task"]["symbol"])}, with
the weights at {account.steps_text(account.steps)}.

| | |
|---|---|
{table}

## Use it

```sh
pip install 'grokinterp[hub]'
grokinterp pull {place} --out {name}
grokinterp analyze {name}
```
```python
import grokinterp as gi

run = gi.load_run("{place}")
print(run.steps, run.history.tail())
model = run.model(-1)  # hooked, with the names of TransformerLens
```

All files are safetensors, JSON and JSON lines; each snapshot is checked against its sha256 in manifest.jsonl
when it is read.

## Configuration

{fence}json
{about}
{fence}
"""


def _facts(account: Account, row: Listed) -> Iterator[tuple[str, str]]:
    parts = (("train", row.train_accuracy), ("test", row.test_accuracy))
    shares = ", ".join(f"{part} {100 * share:.4g} %" for part, share in parts if share is not None)
    yield "right answers at the last evaluation", shares
    yield "so it", row.state if row.state not in (None, "not known") else ""
    yield "key frequencies", " ".join(map(str, row.keys or ()))
    yield "ended", row.why if row.status in ("finished", "diverged") else row.status
    yield "snapshots", account.thinning
    yield "made with", ", ".join(f"{name} {version}" for name, version in account.record["versions"].items())


def _cell(text: str) -> str:
    """Text that a table in Markdown takes as it is."""
    return re.sub(r"([\\`*_{}\[\]<>|#])", r"\\\1", " ".join(text.split()))


@contextmanager
def _hub(place: Place) -> Iterator[HfApi]:
    """The hub; what goes wrong with it is one line."""
    if find_spec("huggingface_hub") is None:
        raise UsageError("the hub needs the package huggingface_hub: pip install 'grokinterp[hub]'")
    import huggingface_hub
    from huggingface_hub import errors

    try:
        yield huggingface_hub.HfApi(library_name="grokinterp")
    except (GrokinterpError, KeyboardInterrupt):
        raise
    except errors.RevisionNotFoundError:
        raise NotARun(f"{place}: the repository has no revision {place.revision}") from None
    except errors.RepositoryNotFoundError:
        what = f"{place}: there is no such repository, or it is private and you are not logged in"
        raise NotARun(f"{what}: `hf auth login`") from None
    except errors.LocalTokenNotFoundError:
        raise GrokinterpError(f"{place}: you are not logged in: `hf auth login`") from None
    except errors.LocalEntryNotFoundError:
        what = f"{place}: the hub cannot be reached, and this run was not fetched before"
        raise GrokinterpError(what) from None
    except Exception as error:  # whatever it uses to reach the hub has errors of its own
        why = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise GrokinterpError(f"{place}: the hub refuses, or cannot be reached ({why})") from error


def _of_run(place: Place, name: str) -> str | None:
    """What a file of the repository is called in the run; None where it is none of that."""
    of_folder = name.startswith(place.named(""))
    inside = name[len(place.named("")) :] if of_folder else ""
    return inside if _RUN.fullmatch(inside) else None


def _refuse_another_run(hub: HfApi, place: Place, account: Account, theirs: Iterable[str]) -> None:
    if place.named("run.json") not in theirs:
        return
    record = read_run_json(Path(hub.hf_hub_download(place.repository, place.named("run.json"))).parent)
    if any(record.get(key) != account.record.get(key) for key in ("config", "task", "split", "imported")):
        remedy = f"choose another repository, or a folder in it: {place.repository}/NAME"
        raise UsageError(f"{place} holds another run, of {record['task']['symbol']}: {remedy}")


def _is_ours(hub: HfApi, place: Place, theirs: Iterable[str]) -> bool:
    """Whether there is no model card, or one that nobody has taken over."""
    if place.named(_CARD) not in theirs:
        return True
    there = hub.hf_hub_download(place.repository, place.named(_CARD))
    return _WRITTEN in Path(there).read_text(encoding="utf-8", errors="replace")


def _say_what_is_left_out(hub: HfApi, place: Place) -> None:
    try:
        names = hub.list_repo_files(place.repository, revision=place.revision)
    except Exception:  # it was fetched before, and the hub cannot be reached: nobody knows
        return
    mine = [name for name in names if name.startswith(place.named(""))]
    about = {place.named(name) for name in _ABOUT}
    others = [name for name in mine if _of_run(place, name) is None and name not in about]
    if others:
        some = ", ".join(others[:_NAMED]) + (f" and {len(others) - _NAMED} more" if others[_NAMED:] else "")
        warnings.warn(f"{place} holds what is no part of a run and was left there: {some}", stacklevel=4)


def _copied(folder: Path, names: Sequence[str], out: Path) -> Path:
    """The run in a directory of its own; whole once its run.json is there, which comes last."""
    if (out / "run.json").exists():
        if read_run_json(out)["seal"] == read_run_json(folder)["seal"]:
            return out
        raise NotARun(f"{out} holds another run, or another state of this one: choose another directory")
    ours = {_STAGE, *(name.split("/")[0] for name in names)}
    if out.exists() and any(entry.name not in ours for entry in out.iterdir()):
        raise files.no_run_in(out)
    stage = out / _STAGE
    with files.writing(out, "nothing was begun", files.AGAIN_OR_ELSEWHERE):
        shutil.rmtree(stage, ignore_errors=True)
        for name in names:
            if (folder / name).exists():
                (stage / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(folder / name, stage / name)
    _refuse_damage(Account(stage))
    with files.writing(out, "nothing is lost on the hub", files.AGAIN_OR_ELSEWHERE):
        for entry in sorted(stage.iterdir(), key=lambda entry: entry.name == "run.json"):
            if (out / entry.name).is_dir():  # what a kill has left
                shutil.rmtree(out / entry.name)
            os.replace(entry, out / entry.name)
        stage.rmdir()
    return out


def _committed(account: Account) -> list[str]:
    """What a run is made of, without what training goes on from."""
    split = account.record["split"] or {}
    of_split = [split["file"]] if "file" in split else []
    return [*RECORD_AND_LOGS, *of_split, *account.snapshot_files]


def _refuse_damage(account: Account) -> None:
    told = [problem for name, problem in account.verify() if problem and not name.startswith("resume")]
    if told:
        raise DamagedFile(f"{len(told)} files of {account.path} are damaged: {' | '.join(told)}")
