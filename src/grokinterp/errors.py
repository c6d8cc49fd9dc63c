"""What can go wrong, as one small tree. Every message says what was asked, what was found and what to do.

    GrokinterpError                 exit 1   the work failed
    ├── UsageError                  exit 2   the request makes no sense as it stands
    │   ├── ConfigError             exit 2   a configuration key or value
    │   ├── NotARun                 exit 2   the directory holds no run
    │   └── NoSuchSnapshot          exit 2   the run has no snapshot at that step
    ├── RunLocked                   exit 3   another process is training in this directory
    ├── Diverged                    exit 1   the loss became NaN or infinite
    ├── Interrupted                 exit 1   training was asked to stop; it can go on from there
    ├── SomeFailed                  exit 1   some of several runs failed; `failures` says which, and how
    ├── NotBelieved                 exit 1   an imported file explains nothing as read, or contradicts itself
    ├── DamagedFile                 exit 1   a file does not match its recorded hash
    ├── WriteFailed                 exit 1   the disk is full, read-only or gone
    └── NotApplicable               exit 1   a measure has no meaning for this task or network

The command line prints the message of any of these on stderr, without a traceback, and exits with the code
shown.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping


class GrokinterpError(Exception):
    """The work failed; the message is one line for a person, whatever was put into it."""

    exit_code = 1

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


class UsageError(GrokinterpError):
    """The request makes no sense as it stands."""

    exit_code = 2


class ConfigError(UsageError):
    """A configuration key or value is wrong."""


class NotARun(UsageError):
    """The directory holds no run."""


class NoSuchSnapshot(UsageError):
    """The run has no snapshot at the step that was asked for."""


class RunLocked(GrokinterpError):
    """Another process is training in this directory."""

    exit_code = 3


class Diverged(GrokinterpError):
    """The loss became NaN or infinite during training.

    Attributes:
        step: optimiser updates done by then; None where that is not known any more.
        what: was not finite, as a sentence without its end.
    """

    def __init__(
        self, message: str, step: int | None = None, what: str = "the loss became NaN or infinite"
    ) -> None:
        super().__init__(message)
        self.step, self.what = step, what


class Interrupted(GrokinterpError):
    """Training was asked to stop, by Ctrl-C or a signal; the same call goes on from there."""


class SomeFailed(GrokinterpError):
    """Some of several runs failed; the others are as they should be.

    Attributes:
        failures: how each of them failed, by the name of its directory.
    """

    def __init__(self, message: str, failures: Mapping[str, GrokinterpError]) -> None:
        super().__init__(message)
        self.failures = dict(failures)


class NotBelieved(GrokinterpError):
    """Under no reading that was tried does an imported network know anything, or its file contradicts
    itself."""


class DamagedFile(GrokinterpError):
    """A file does not match its recorded hash, or is shorter than it was."""


class WriteFailed(GrokinterpError):
    """The disk is full, read-only or gone."""


class NotApplicable(GrokinterpError):
    """A measure has no meaning for this task or network; the message is the reason."""


def nearest(name: str, names: Iterable[str]) -> str:
    """`; did you mean 'x'?` where a known name is close to `name`, else `; known: ...` with all of them."""
    names = sorted(names)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(names)}"
