"""A run on the hub: a folder in place of the hub for what is pushed, and a server on this machine, spoken to
by the real huggingface_hub, for what is fetched."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import grokinterp as gi
from conftest import tiny
from grokinterp.errors import DamagedFile, GrokinterpError, NotARun, RunLocked, UsageError
from grokinterp.replay import thin
from grokinterp.runs import files, pull_from_hub, push_to_hub
from grokinterp.runs.hub import Place
from grokinterp.runs.record import write_record

huggingface_hub = pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Path:
    """A folder that holds repositories."""
    root = tmp_path / "hub"

    class Folder:
        def __init__(self, **options):
            pass

        def create_repo(self, repository, *, private=None, exist_ok=False):
            assert exist_ok
            (root / repository).mkdir(parents=True, exist_ok=True)
            if private is not None:
                (root / f"{repository}.private").write_text(str(private))

        def list_repo_files(self, repository, *, revision=None):
            place = self._place(repository)
            return sorted(str(file.relative_to(place)) for file in place.rglob("*") if file.is_file())

        def hf_hub_download(self, repository, name):
            return str(self._place(repository) / name)

        def snapshot_download(self, repository, *, revision=None, allow_patterns):
            return str(self._place(repository))

        def create_commit(self, repository, operations, *, commit_message):
            for one in operations:
                file = root / repository / one.path_in_repo
                if isinstance(one, huggingface_hub.CommitOperationDelete):
                    file.unlink()
                    continue
                file.parent.mkdir(parents=True, exist_ok=True)
                with one.as_file() as content:
                    file.write_bytes(content.read())
            return Commit(f"{repository}: {commit_message}")

        def _place(self, repository):
            if not (root / repository).is_dir():
                raise FileNotFoundError(repository)
            return root / repository

    monkeypatch.setattr(huggingface_hub, "HfApi", Folder)
    return root


@dataclass
class Commit:
    commit_url: str


def content(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


OF_RUN = {
    "run.json", "manifest.jsonl", "metrics.jsonl",
    *(f"snapshots/step_{step:08d}.safetensors" for step in (0, 10, 20)),
}  # fmt: skip


def test_what_is_pushed_is_the_run_and_its_card_and_what_is_left_out_is_named(tiny_run, hub):
    for name in ("report.html", "notes.py"):
        (tiny_run.path / name).write_text("no part of it")
    done = push_to_hub(tiny_run.path, "me/tiny")
    there = content(hub / "me/tiny")
    assert set(there) == OF_RUN | {"README.md"} == set(done.files)
    assert all(there[name] == (tiny_run.path / name).read_bytes() for name in OF_RUN)
    assert done.left_out == ("notes.py", "report.html", "resume")
    assert (done.place, done.url) == ("hf://me/tiny", "me/tiny: tiny: 3 snapshots, steps 0 to 20")
    assert not (hub / "me/tiny.private").exists()


def test_a_run_comes_back_as_it_was(tiny_run, hub, tmp_path):
    push_to_hub(tiny_run.path, "hf://me/tiny", private=True)
    assert (hub / "me/tiny.private").read_text() == "True"
    back = gi.load_run("hf://me/tiny")
    assert back.steps == tiny_run.steps
    assert back.history.equals(tiny_run.history)
    assert (back.view(-1).logits == tiny_run.view(-1).logits).all()
    out = pull_from_hub("me/tiny", tmp_path / "back")
    assert content(out) == {name: (tiny_run.path / name).read_bytes() for name in OF_RUN}
    assert pull_from_hub("me/tiny", out) == out  # which is there
    push_to_hub(out, "me/again")
    assert content(hub / "me/again") == content(hub / "me/tiny") | {
        "README.md": (hub / "me/again/README.md").read_bytes()
    }


def test_several_runs_lie_in_folders_of_one_repository(tiny_run, hub, tmp_path):
    other = gi.train(tiny(seed=1), tmp_path / "other", progress=False)
    push_to_hub(tiny_run.path, "me/runs/seed_0")
    push_to_hub(other.path, "me/runs/sub/seed_1")
    assert {name.rpartition("/snapshots")[0].rpartition("/")[2] for name in content(hub / "me/runs")} >= {
        "seed_0", "seed_1",
    }  # fmt: skip
    assert gi.load_run("hf://me/runs/seed_0").config.seed == 0
    assert gi.load_run("hf://me/runs/sub/seed_1").config.seed == 1
    with pytest.raises(NotARun, match=r"hf://me/runs holds no run: it has no run\.json"):
        gi.load_run("hf://me/runs")


def test_pushing_again_brings_it_up_to_date(tiny_run, hub):
    push_to_hub(tiny_run.path, "me/tiny")
    thin(tiny_run, [0])
    push_to_hub(tiny_run.path, "me/tiny")
    assert set(content(hub / "me/tiny")) == OF_RUN - {"snapshots/step_00000010.safetensors"} | {"README.md"}
    assert gi.load_run("hf://me/tiny").steps == [0, 20]
    assert "1 of 3 snapshots were removed later" in (hub / "me/tiny/README.md").read_text()


def test_another_run_is_not_overwritten(tiny_run, hub, tmp_path):
    push_to_hub(tiny_run.path, "me/tiny")
    before = content(hub)
    other = gi.train(tiny(seed=1), tmp_path / "other", progress=False)
    with pytest.raises(UsageError, match=r"hf://me/tiny holds another run, of a \+ b mod 7: .*me/tiny/NAME"):
        push_to_hub(other.path, "me/tiny")
    assert content(hub) == before


def test_a_card_that_somebody_has_written_stays(tiny_run, hub):
    push_to_hub(tiny_run.path, "me/tiny")
    card = hub / "me/tiny/README.md"
    card.write_text("# Mine\n")
    push_to_hub(tiny_run.path, "me/tiny")
    assert card.read_text() == "# Mine\n"


def test_the_card_says_what_the_record_says(quick_run, hub):
    push_to_hub(quick_run.path, "me/quick")
    card = (hub / "me/quick/README.md").read_text()
    head = re.match(r"---\n(.*?)\n---\n", card, re.DOTALL)[1]
    assert "library_name: grokinterp" in head
    for said in (
        "# quick\n", "a + b mod 53", "| so it | generalises |", quick_run.steps_text(quick_run.steps),
        'gi.load_run("hf://me/quick")', "grokinterp pull hf://me/quick --out quick",
    ):  # fmt: skip
        assert said in card
    config = json.loads(re.search(r"```json\n(.*?)\n```", card, re.DOTALL)[1])
    assert config["training"]["lr"] == quick_run.config.training.lr
    assert "http" not in card


def test_names_of_a_task_cannot_break_out_of_the_card(tiny_run, hub):
    record = json.loads((tiny_run.path / "run.json").read_text())
    record["task"]["symbol"] = "<script>alert(1)</script> | `x` \n# y"
    record["config"]["task"]["note"] = "```\n<script>"
    write_record(tiny_run.path, record)
    push_to_hub(tiny_run.path, "me/tiny")
    card = (hub / "me/tiny/README.md").read_text()
    prose, _, config = card.partition("## Configuration")
    assert "<script>" not in prose.replace("\\<", "")
    assert config.count("````json") == 1


def test_a_run_that_is_trained_or_damaged_is_not_pushed(tiny_run, hub):
    with files.locked(tiny_run.path, str), pytest.raises(RunLocked, match="push it when that has ended"):
        push_to_hub(tiny_run.path, "me/tiny")
    file = tiny_run.path / "snapshots/step_00000010.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(DamagedFile, match="step 10"):
        push_to_hub(tiny_run.path, "me/tiny")
    assert not hub.exists()


@pytest.mark.parametrize(
    "name",
    ["tiny", "a/b@", "hf://", "a b/c", "../b", "a/..", "a/b/../c", "https://x/y", "a//b", "a/b@../c", ""],
)
def test_what_is_no_place_is_one_line(tiny_run, hub, name):
    with pytest.raises(UsageError, match="is no place on the hub: needs hf://user/repository"):
        push_to_hub(tiny_run.path, name)


def test_a_place_is_read_as_the_hub_writes_it():
    assert Place.of("hf://me/x@v1.0/runs/seed_0") == Place("me/x", "v1.0", "runs/seed_0")
    assert str(Place.of("me/x@v1.0/runs/seed_0/")) == "hf://me/x@v1.0/runs/seed_0"
    assert str(Place.of("me/x")) == "hf://me/x"


def test_nothing_is_pushed_to_an_old_revision(tiny_run, hub):
    with pytest.raises(UsageError, match="leave out @v1"):
        push_to_hub(tiny_run.path, "me/tiny@v1")


def test_without_the_library_one_line_says_what_to_install(tiny_run, monkeypatch):
    monkeypatch.setattr("grokinterp.runs.hub.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'grokinterp\[hub\]'"):
        gi.load_run("hf://me/tiny")


def test_what_the_hub_has_damaged_is_refused(tiny_run, hub, tmp_path):
    push_to_hub(tiny_run.path, "me/tiny")
    file = hub / "me/tiny/snapshots/step_00000010.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    for load in (gi.load_run, lambda place: pull_from_hub(place, tmp_path / "out")):
        with pytest.raises(DamagedFile, match="step 10"):
            load("hf://me/tiny")
    assert not (tmp_path / "out").exists()


def test_a_record_that_names_other_files_is_refused(tiny_run, hub):
    push_to_hub(tiny_run.path, "me/tiny")
    secret = hub.parent / "secret"
    secret.write_text("not for the hub")
    manifest = hub / "me/tiny/manifest.jsonl"
    lines = [json.loads(line) for line in manifest.read_text().splitlines()]
    lines[0] |= {"file": "../../../secret", "sha256": hashlib.sha256(secret.read_bytes()).hexdigest()}
    manifest.unlink()
    log = files.Log(manifest)
    for line in lines:
        line.pop("crc")
        log.append(line)
    log.close()
    with pytest.raises(DamagedFile, match="names files that are none of a run"):
        gi.load_run("hf://me/tiny")


def test_a_directory_of_something_else_is_left_alone(tiny_run, hub, tmp_path):
    push_to_hub(tiny_run.path, "me/tiny")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.tex").write_text("years of work")
    with pytest.raises(NotARun, match="is not empty and holds no run"):
        pull_from_hub("me/tiny", tmp_path / "mine")
    other = gi.train(tiny(seed=1), tmp_path / "other", progress=False)
    with pytest.raises(NotARun, match="holds another run"):
        pull_from_hub("me/tiny", other.path)
    assert content(tmp_path / "mine") == {"thesis.tex": b"years of work"}


def test_killed_anywhere_the_same_call_fetches_it_whole(tiny_run, hub, tmp_path, monkeypatch):
    push_to_hub(tiny_run.path, "me/tiny")
    whole, wanted = tmp_path / "whole", {name: (tiny_run.path / name).read_bytes() for name in OF_RUN}

    class Killed(BaseException):
        pass

    for number in range(100):
        out, calls = tmp_path / f"out{number}", iter(range(1000))

        def mortal(call, *args, calls=calls, number=number):
            if next(calls) == number:
                raise Killed
            return call(*args)

        with monkeypatch.context() as patched:
            patched.setattr(shutil, "copyfile", partial(mortal, shutil.copyfile))
            patched.setattr(os, "replace", partial(mortal, os.replace))
            try:
                pull_from_hub("me/tiny", out)
                break
            except Killed:
                assert not (out / "run.json").exists()
        pull_from_hub("me/tiny", out)
        assert content(out) == wanted
    assert number == len(OF_RUN) + len({name.split("/")[0] for name in OF_RUN})
    assert content(out) == wanted
    assert not whole.exists()


# By the real library, from a server on this machine


@pytest.fixture
def server(tmp_path):
    """Speaks as much of the hub's language as fetching takes: what is in a folder, of one revision."""
    root, commit = tmp_path / "served", "a" * 40

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.answer(send=False)

        def do_GET(self):
            self.answer(send=True)

        def answer(self, send):
            status, head, body = 404, {"X-Error-Code": "RepoNotFound"}, b"{}"
            path = self.path.partition("?")[0]
            if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(?:revision|tree)/[^/]+)?", path):
                names = [
                    str(f.relative_to(root / match[1])) for f in (root / match[1]).rglob("*") if f.is_file()
                ]
                if names and "/tree/" in path:
                    tree = [self.described(root / match[1], name) for name in sorted(names)]
                    status, head, body = 200, {}, json.dumps(tree).encode()
                elif names:
                    siblings = [{"rfilename": name} for name in sorted(names)]
                    told = {"id": match[1], "sha": commit, "siblings": siblings, "private": False, "tags": []}
                    status, head, body = 200, {}, json.dumps(told | {"downloads": 0}).encode()
            match = re.fullmatch(r"/([^/]+/[^/]+)/resolve/[^/]+/(.+)", path)
            if match and (root / match[1] / match[2]).is_file():
                body = (root / match[1] / match[2]).read_bytes()
                etag = f'"{hashlib.sha256(body).hexdigest()}"'
                status, head = 200, {"ETag": etag, "X-Repo-Commit": commit}
            self.send_response(status)
            for name, value in {**head, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if send:
                self.wfile.write(body)

        def described(self, place, name):
            data = (place / name).read_bytes()
            return {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield root, f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def loaded(address: str, place: str, home: Path) -> subprocess.CompletedProcess[str]:
    """What a Python says that loads a run from a hub at that address."""
    code = (
        "import sys, grokinterp as gi\n"
        "try:\n    run = gi.load_run(sys.argv[1]); print(run.steps, run.view(-1).logits.sum().item())\n"
        "except gi.GrokinterpError as error: print(f'{type(error).__name__}: {error}'); sys.exit(1)"
    )
    environment = {"HF_ENDPOINT": address, "HF_HOME": str(home), "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    environment |= {"NO_PROXY": "*", "PYTHONPATH": os.pathsep.join(sys.path), "HF_HUB_DISABLE_XET": "1"}
    environment |= {"HF_HUB_DISABLE_TELEMETRY": "1"}
    asked = os.environ | environment
    asked.pop("HF_HUB_OFFLINE", None)
    return subprocess.run([sys.executable, "-c", code, place], env=asked, capture_output=True, text=True)


def test_the_real_library_fetches_a_run_once_and_no_file_of_another_kind(tiny_run, server, tmp_path):
    root, address = server
    shutil.copytree(tiny_run.path, root / "me/tiny", ignore=shutil.ignore_patterns("resume", "lock"))
    for name in ("model.pt", "custom.py", "README.md"):
        (root / "me/tiny" / name).write_text("import os")
    first = loaded(address, "hf://me/tiny", tmp_path / "home")
    wanted = f"{tiny_run.steps} {tiny_run.view(-1).logits.sum().item()}\n"
    assert (first.returncode, first.stdout) == (0, wanted), first.stderr
    assert "holds what is no part of a run and was left there: custom.py, model.pt" in first.stderr
    fetched = {
        str(f).partition("/snapshots/")[2].partition("/")[2]
        for f in (tmp_path / "home").rglob("snapshots/*/**/*")
    }
    assert {name for name in fetched if "." in name} == OF_RUN
    nowhere = loaded("http://127.0.0.1:1", "hf://me/tiny", tmp_path / "home")  # offline, from the cache
    assert (nowhere.returncode, nowhere.stdout) == (0, wanted), nowhere.stderr


def test_the_real_librarys_errors_are_one_line(server, tmp_path):
    _, address = server
    absent = loaded(address, "hf://me/absent", tmp_path / "home")
    assert absent.returncode == 1
    assert re.fullmatch(
        r"NotARun: hf://me/absent: there is no such repository, or it is private .*\n", absent.stdout
    )
    nowhere = loaded("http://127.0.0.1:1", "hf://me/tiny", tmp_path / "home")
    assert nowhere.returncode == 1
    assert re.match(
        r"GrokinterpError: hf://me/tiny: the hub (refuses, or )?cannot be reached", nowhere.stdout
    )
    assert len(nowhere.stdout.splitlines()) == 1


def test_an_error_of_the_hub_is_one_line(tiny_run, hub, monkeypatch):
    with pytest.raises(
        GrokinterpError, match=r"hf://me/none: the hub refuses, or cannot be reached \(FileNotF"
    ):
        gi.load_run("hf://me/none")
