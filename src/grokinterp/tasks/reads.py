"""What a network may know of a task: what an example looks like, and what is asked of it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..asked import got
from ..errors import ConfigError, UsageError, nearest


@dataclass(frozen=True)
class Reads:
    """All that a network may know of a task.

    Attributes:
        shape: of one example: (positions,) where it is tokens, or the axes of an array of numbers.
        d_vocab: the number of tokens; 0 where an example is an array of numbers.
        words: what stands at each position.
        answers: the name of each answer.
        positions: the position at which each answer is read.
        n_logits: how many logits a network needs: one for each answer class, or one for each token where
            answers have tokens.
        n_classes: the number of answer classes.
        task: its name, for messages.
        grid: how the last positions lie where they are parts of an array, row by row; empty where they do
            not.
        token_numbers: the number that each token stands for, None for a sign; empty where elements are no
            numbers, or opaque symbols.
        logit_numbers: the number that each logit is of, None for one that is of none; empty where answers are
            no numbers, or opaque symbols.
    """

    shape: tuple[int, ...]
    d_vocab: int
    words: tuple[str, ...]
    answers: tuple[str, ...]
    positions: tuple[int, ...]
    n_logits: int
    n_classes: int
    task: str
    grid: tuple[int, ...] = ()
    token_numbers: tuple[float | None, ...] = ()
    logit_numbers: tuple[float | None, ...] = ()

    def __post_init__(self) -> None:
        if len(self.answers) != len(self.positions) or not self.answers:
            raise ConfigError(
                f"{self.task} has the answers {', '.join(self.answers) or 'none'} and {len(self.positions)} "
                "positions at which they are read: give one position for each answer"
            )
        if len(set(self.answers)) < len(self.answers):
            raise ConfigError(f"{self.task} has two answers of one name: {', '.join(self.answers)}")
        if self.d_vocab and self.shape != (len(self.words),):
            raise ConfigError(
                f"{self.task} has examples of {' x '.join(map(str, self.shape))} tokens and words for "
                f"{len(self.words)} positions: give one for each"
            )
        if self.n_logits < self.n_classes or not all(isinstance(at, int) for at in self.positions):
            raise ConfigError(
                f"{self.task} reads {self.n_classes} classes off {self.n_logits} logits at the positions "
                f"{', '.join(map(str, self.positions))}: give a logit for each class, and whole numbers"
            )
        of_tokens, of_logits = (self.token_numbers, self.d_vocab), (self.logit_numbers, self.n_logits)
        for what, (numbers, count) in (("tokens", of_tokens), ("logits", of_logits)):
            if numbers and count and len(numbers) != count:
                known = f"{len(numbers)} of {count} {what}"
                raise ConfigError(f"{self.task} has numbers for {known}: give one for each, or none")
        if outside := [at for at in self.positions if not 0 <= at < self.n_ctx]:
            raise ConfigError(
                f"{self.task} reads an answer at position {outside[0]}, and its examples have the positions "
                f"0 to {self.n_ctx - 1}"
            )

    def only(self, answer: str) -> Reads:
        """The same, of which one answer alone is asked.

        Raises:
            UsageError: there is no such answer; the nearest is named.
        """
        if not isinstance(answer, str) or answer not in self.answers:
            raise UsageError(f"{self.task} has no answer {got(answer)}{nearest(str(answer), self.answers)}")
        position = self.positions[self.answers.index(answer)]
        return replace(self, answers=(answer,), positions=(position,))

    def along(self, words: tuple[str, ...], positions: tuple[int, ...], grid: tuple[int, ...] = ()) -> Reads:
        """The same at other positions: those of a network whose own they are."""
        return replace(self, words=words, positions=positions, grid=grid)

    @property
    def n_ctx(self) -> int:
        """The number of positions."""
        return len(self.words)
