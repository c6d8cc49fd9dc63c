"""The networks in a foreign file, of which step each of them is, and which become snapshots.

They may stand in a list, in a dict by step, in pairs or dicts with their step, or alone: last, best, first,
averaged.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from ..foreign import Record, shown
from .convert import Diverged, DoesNotFit, convert, is_state_dict, key_pattern
from .mapping import Layout
from .places import Account, Place, along, children, counted, entries, places_of, shown_place
from .values import STEP, STEP_WORDS, distinct, length, listed, scalar, step_in, vocabulary, whole, words
from .wrapping import Unwrapped, unwrapped

NOT_WRAPPED = Unwrapped({})
_AVERAGES = vocabulary("ema swa average averaged avg shadow polyak")
INITIAL = vocabulary("init initial initialization initialisation untrained start")
NO_WEIGHTS = vocabulary(
    "grad grads gradient gradients momentum exp delta deltas optim optimizer optimiser opt mask masks "
    "fisher variance"
)
NETWORK_WORDS = vocabulary(
    "model models net network networks state states dict dicts weights params parameters module"
)
LAST = vocabulary("last final current latest trained end finished")
_SNAPSHOTS = (
    vocabulary("checkpoint checkpoints ckpts snapshot snapshots history saved trajectory") | STEP_WORDS
)
OTHER_RUNS = vocabulary(
    "seed seeds runs fold folds ensemble members replicas ranks workers version trial trials exp experiment "
    "sweep job repeat replicate"
)
_BESIDE_STEP = NETWORK_WORDS | vocabulary(
    "global current cur last number num n no idx index count counter train trained training at of saved done "
    "completed taken elapsed so far"
)
_DONE = vocabulary("trained done completed taken elapsed far")
"""Beside a plural, as in `epochs_trained`: those that were made, and not those that are to be."""
_META = vocabulary(
    "meta metadata info information progress trainer training state status counter counters extra misc"
)
"""Dicts beside a network that say what it is."""
_MOST_KEYS = 1000
_MOST_SENTENCES = 8
StateDict = tuple[Place, Mapping[str, Tensor]]
"""Where it stands, and its tensors by name."""


@dataclass(frozen=True, eq=False)
class Network:
    """A state dict in the file that is, by its keys, one of a layout's networks.

    Attributes:
        place: where it stands.
        state: its tensors by name.
        step: after how many steps it was saved; None where the file does not say it.
        known_by: what says so.
        uses: the places that were read for it.
        container: the list or dict of networks that it stands in; None where it stands alone.
        position: its number in that.
        is_main: whether it is the file's one network, or the last.
        file: the name of its file, where there are several.
        is_numbered: whether its step is only its number among the files.
        wrapping: what was taken off its keys.
        untaken: what is called its step, or the steps of its list, and was not taken: where, and the value.
        is_guess: whether its keys are not those of the layout, and it is no more than what would have to be.
    """

    place: Place
    state: Mapping[str, Tensor]
    step: int | None = None
    known_by: str = ""
    uses: tuple[Place, ...] = ()
    container: Place | None = None
    position: int = 0
    is_main: bool = False
    file: str = ""
    is_numbered: bool = False
    wrapping: Unwrapped = NOT_WRAPPED
    untaken: tuple[tuple[Place, Any], ...] = ()
    is_guess: bool = False

    @property
    def is_average(self) -> bool:
        is_called_so = _words((self.file, *self.place, self.wrapping.prefix)) & _AVERAGES
        return bool(is_called_so) or self.wrapping.is_average

    @property
    def named(self) -> str:
        """Where it stands."""
        prefix = self.wrapping.prefix
        beginning = f" ({shown(prefix)}...)" if prefix else ""
        in_file = f"{shown(self.file)}: " if self.file and self.place else shown(self.file)
        return (in_file if self.file and not self.place else in_file + shown_place(self.place)) + beginning

    @property
    def where(self) -> str:
        return self.named + ("" if self.step is None else f" (step {self.step:,})")


@dataclass
class Snapshots:
    """Which networks become snapshots.

    Attributes:
        at: the networks by step, in order.
        unknown: steps of these that are only numbers, as the file does not say them.
        left_out: the other networks, with the reasons.
        later_is_bad: whether a network that cannot be read is later than all of these.
        empty: where there could be a network, in the lists and dicts by step that hold these, and is nothing.
    """

    at: dict[int, Network] = field(default_factory=dict)
    unknown: list[int] = field(default_factory=list)
    left_out: list[tuple[Network, str]] = field(default_factory=list)
    later_is_bad: bool = False
    empty: list[Place] = field(default_factory=list)

    @property
    def last(self) -> Network:
        """The network of the last step: the one by which the file is recognised."""
        return self.at[max(self.at)]

    @property
    def last_known(self) -> int | None:
        return max(self.at.keys() - {*self.unknown}, default=None)

    def sentences(self) -> Iterator[str]:
        """How the steps are known, and which are not."""
        by: dict[str, list[int]] = {}
        for step, network in self.at.items():
            if step not in self.unknown:
                by.setdefault(network.known_by, []).append(step)
        for known_by, steps in list(by.items())[:_MOST_SENTENCES]:
            several = f"steps {steps[0]:,} to {steps[-1]:,} ({len(steps)} networks) are"
            yield f"{several if len(steps) > 1 else f'step {steps[0]:,} is'} {known_by}"
        if rest := list(by.values())[_MOST_SENTENCES:]:
            yield f"the steps of {sum(map(len, rest)):,} more networks are the file's own"
        wrapped = dict.fromkeys(network.wrapping.sentence() for network in self.at.values())
        yield from [sentence for sentence in wrapped if sentence is not None][:_MOST_SENTENCES]
        yield from self._sentences_of_unknown()
        yield from self._sentences_of_untaken()
        if self.later_is_bad:
            what = "the last network cannot be read: what is said of the last is said of"
            yield f"{what} {self.last.where}"
        if self.empty:
            n_more = len(self.empty[_MOST_SENTENCES:])
            named = ", ".join(map(shown_place, self.empty[:_MOST_SENTENCES]))
            yield f"there is no network in {named}{f' and {n_more:,} more' if n_more else ''}"
        if averages := [network.where for network in self.at.values() if network.is_average]:
            named = ", ".join(averages[:_MOST_SENTENCES])
            yield f"by its name an average of networks over steps, and no network of one step: {named}"

    def _sentences_of_untaken(self) -> Iterator[str]:
        """What is called a step and is none, or another than the one taken."""
        said: dict[str, None] = {}
        for step, network in self.at.items():
            for place, value in network.untaken:
                number = shown(value if scalar(value) is None else scalar(value), 60)
                named = f"the file's {shown_place(place)}, {number},"
                if length(value) is not None:
                    said[f"{named} is not one step for each of its networks, and was not taken"] = None
                elif whole(value) is None:
                    said[f"{named} is no number of steps, and was not taken"] = None
                elif step in self.unknown or whole(value) != step:
                    said[f"{named} was not taken for a step"] = None
        yield from list(said)[:_MOST_SENTENCES]
        if more := list(said)[_MOST_SENTENCES:]:
            yield f"nor were {len(more):,} more numbers of the kind"

    def _sentences_of_unknown(self) -> Iterator[str]:
        def not_known(networks: Sequence[Network], what: str) -> str:
            # Where the file says something that is no step, that is said elsewhere.
            is_said = any(one.untaken for one in networks)
            return f"{'it is not known' if is_said else 'the file does not say'} after how many steps {what}"

        unknown = {step: self.at[step] for step in self.unknown}
        if unknown and len(self.at) == 1:
            yield not_known([*unknown.values()], "its network was saved: its step is unknown")
            return
        files = [network for network in unknown.values() if network.is_numbered]
        if files:
            first = min(step for step, network in unknown.items() if network.is_numbered)
            of = (
                f"networks of {len(files)} files were"
                if len(files) > 1
                else f"network of {files[0].named} was"
            )
            which = f"the {of} saved: {'these steps are' if len(files) > 1 else 'its step is'} unknown"
            yield not_known(files, f"{which}, and the files numbered in their order from {first}")
        in_list = [network for network in unknown.values() if network.container is not None]
        if in_list and in_list[0].container is not None:
            which = f"its {len(in_list)} networks under {shown_place(in_list[0].container)} were saved"
            numbered = "these steps are unknown, and the networks numbered in their order from 0"
            yield not_known(in_list, f"{which}: {numbered}")
        for step, network in unknown.items():
            if network.container is None and not network.is_numbered:
                which = f"{network.where} was saved: its step is unknown"
                yield not_known([network], f"{which}, and it stands last, as number {step:,}")

    def account(self, account: Account, ignored: Sequence[str], file: str = "") -> None:
        """Enters all networks of a file, used or left out; keys `ignored` in each are left out."""
        patterns = [key_pattern(key) for key in ignored]
        for network in self.at.values():
            if network.file != file:
                continue
            account.use(*network.uses)
            for untaken, value in network.untaken:
                if length(value) is not None:
                    account.leave(untaken, "not one step for each of the networks beside it")
            place = network.place if network.container is None else (*network.container, "*")
            for keys, reason in (
                (network.wrapping.outside, "beside the network in one dict, and without its prefix"),
                (network.wrapping.beside, "beside the network in one dict, a loss, a metric or a count"),
            ):
                for key in keys:
                    account.leave((*network.place, key), reason, shown_place((*place, key)))
            for key in network.state:
                at = (*network.place, network.wrapping.key(key))
                if any(pattern.fullmatch(key) for pattern in patterns):
                    account.leave(at, "no weights, by the layout", shown_place((*place, key)))
                else:
                    account.use(at)
        for network, reason in self.left_out:
            if network.file != file:
                continue
            account.use(*network.uses)
            for key in network.state:
                account.leave((*network.place, network.wrapping.key(key)), reason, network.where)


def state_dicts(content: Any) -> list[StateDict]:
    """All dicts with tensors by name in a file, the tensors of each and where it stands, in their order."""
    several: list[StateDict] = []

    def look(value: Any, place: Place) -> None:
        if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
            tensors = {key: tensor for key, tensor in value.items() if isinstance(tensor, Tensor)}
            several.extend([(place, tensors)] if tensors else [])
        for key, child in children(value):
            if not isinstance(child, Tensor | str | int | float | bytes | type(None)):
                look(child, (*place, key))

    look(content, ())
    return several


def networks_in(layout: Layout, content: Any, dicts: Sequence[StateDict]) -> list[Network]:
    """The networks of a layout among all state dicts of a file. Where none looks like one, that which
    would have to be.

    Raises:
        DoesNotFit: the steps that the file gives are not those of its networks.
    """
    keys = [source.key for source in layout.weights.values()]
    known = [key_pattern(key) for key in (*keys, *layout.ignore, *layout.copies)]
    named = places_of(content, layout.contents.weights) + places_of(content, layout.contents.snapshots)

    def is_named(place: Place) -> bool:
        return any(place[: len(one)] == one for one in named if one)

    def in_it(place: Place, state: Mapping[str, Tensor]) -> list[Unwrapped]:
        if not is_named(place) and _words(place) & NO_WEIGHTS:
            return []
        several = unwrapped(state, known, layout.prefix)
        return [one for one in several if 2 * sum(map(is_known, one.state)) >= len(one.state)]

    def is_known(key: str) -> bool:
        return any(pattern.fullmatch(key) for pattern in known)

    of_layout = [(place, state, wrapping) for place, state in dicts for wrapping in in_it(place, state)]
    is_guess = not of_layout
    if is_guess:
        expected = [one for one in dicts if is_named(one[0])]
        expected += [one for one in dicts if not one[0] and is_state_dict(content)]
        unlike = expected[:1] or sorted(dicts, key=lambda one: -len(one[1]))[:1]
        of_layout = [(place, state, Unwrapped(state)) for place, state in unlike]
    lists: dict[Place, tuple[list[int] | None, Place, Any]] = {}
    networks = [
        replace(
            _with_step(Network(place, state, is_guess=is_guess), layout, content, lists),
            state=wrapping.state,
            wrapping=wrapping,
        )
        for place, state, wrapping in of_layout
    ]
    return _with_main(networks, layout, content)


def good_ones(
    layout: Layout, networks: Sequence[Network], content: Any, settings: Any
) -> tuple[list[Network], list[tuple[Network, str]]]:
    """The networks that can be converted and are of one shape, that of most of them; and the others, each
    with what is wrong with it.

    Raises:
        DoesNotFit, Diverged: none can be converted; what is wrong with the last is said.
    """
    bad: list[tuple[Network, str]] = []
    shapes: list[tuple[Network, str]] = []
    error: DoesNotFit | Diverged | None = None
    for network in sorted(networks, key=_in_order):
        try:
            converted = convert(layout, network.state, content, settings)
            shapes.append((network, str((converted.model, converted.tokens))))
        except (DoesNotFit, Diverged) as reason:
            error = reason
            bad.append((network, str(reason)))
    if not shapes:
        assert error is not None
        raise _none_is_good(bad[-1][0], len(networks), error)
    counts = Counter(shape for _, shape in shapes)
    most = max(enumerate(shapes), key=lambda one: (counts[one[1][1]], one[0]))[1][1]
    unlike = "another network than the others, by its shapes"
    bad += [(network, unlike) for network, shape in shapes if shape != most]
    return [network for network, shape in shapes if shape == most], bad


def _none_is_good(last: Network, count: int, error: DoesNotFit | Diverged) -> DoesNotFit | Diverged:
    """The error of the last network, with where it stands where that says something."""
    if count == 1 and last.step is None:
        return error
    several = f"none of its {count} networks can be read; " if count > 1 else ""
    step = "" if last.step is None else f", step {last.step:,}"
    message = f"{several}{last.named}{step}: {error}"
    return DoesNotFit(message, error.progress) if isinstance(error, DoesNotFit) else Diverged(message)


def empty_places(content: Any, networks: Iterable[Network]) -> list[Place]:
    """Where, in the lists and dicts by step that hold networks, there could be one and is nothing."""
    of_one_file = (network for network in networks if not network.file)
    containers = dict.fromkeys(one.container for one in of_one_file if one.container is not None)
    empty: list[Place] = []
    for container in containers:
        for key, value in children(along(content, container)[-1]):
            is_place = isinstance(key, int) or step_in(key, NETWORK_WORDS) is not None
            if is_place and not isinstance(value, Tensor) and counted(value) == (0, 0):
                empty.append((*container, key))
    return empty


def later_than_all(bad: Sequence[tuple[Network, str]], good: Sequence[Network]) -> bool:
    """Whether a network that cannot be read would have been the last: by its step; without one, as the file's
    main network, or as one further down in the list of those that can be read."""
    steps = [one.step for one in good if one.step is not None]
    main = next((one for one in good if one.is_main), None)

    def is_later(network: Network) -> bool:
        if network.is_average:
            return False
        if network.step is not None:
            return (main is None or main.step is not None) and network.step > max(steps, default=-1)
        if network.is_main or main is not None or steps or network.container is None:
            return network.is_main
        beside = (one.position for one in good if one.container == network.container)
        return network.position > max(beside, default=-1)

    return any(is_later(network) for network, _ in bad)


def _in_order(network: Network) -> tuple[bool, bool, int]:
    return network.step is None, network.is_main, network.position if network.step is None else network.step


def arranged(networks: Sequence[Network], last_loss: int | None) -> Snapshots:
    """Networks by step. `last_loss` is the step of the last loss in the file, which is taken for that of
    a network that has none.

    Raises:
        DoesNotFit: there are several of which nothing says which is the last.
    """
    snapshots = Snapshots()
    leave = snapshots.left_out.append
    of_one_step = [network for network in networks if not network.is_average]
    if of_one_step:
        reason = "by its name an average over steps, and no network of one step"
        snapshots.left_out += [(network, reason) for network in networks if network.is_average]
    else:
        of_one_step = list(networks)
    numbered = [network for network in of_one_step if network.step is not None]
    for network in sorted(numbered, key=lambda one: (one.container is None, not one.is_main)):
        assert network.step is not None
        taken = snapshots.at.setdefault(network.step, network)
        if taken is not network:
            same = "the same network as" if _same(network, taken) else "another network of the same step as"
            leave((network, f"{same} {taken.named}"))
    main = next((network for network in of_one_step if network.is_main), None)
    others = [network for network in of_one_step if network.step is None and network is not main]
    first_list = next((network.container for network in others if network.container is not None), None)
    in_list = [one for one in others if first_list is not None and one.container == first_list]
    _add_list(snapshots, in_list, main)
    if main is not None and main.step is None:
        _add_main(snapshots, main, last_loss)
    for network in others:
        if first_list is None or network.container != first_list:
            is_same = main is not None and _same(network, main)
            reason = f"the same network as {main.named}" if main and is_same else _NO_STEP
            leave((network, reason))
    if not snapshots.at:
        names = " and ".join(network.named for network in others[:4])
        what = f"it holds several networks, {names}, and does not say which is the last"
        last = others[-1]
        by = f'contents.weights = "{shown_place(last.place)}"'
        if len({network.place for network in others}) == 1:
            by = f'prefix = "{shown(last.wrapping.prefix)}"'
        raise DoesNotFit(f"{what}: a mapping says it, {by}", 3)
    snapshots.at = dict(sorted(snapshots.at.items()))
    snapshots.unknown += [step for step, network in snapshots.at.items() if network.is_numbered]
    return snapshots


_NO_STEP = "the file does not say of which step it is"


def _add_list(snapshots: Snapshots, networks: list[Network], main: Network | None) -> None:
    """Puts a list's networks of unknown step before the others, numbered in order, if there is room."""
    if networks and main is not None and main.step is not None and _same(main, networks[-1]):
        snapshots.left_out.append((networks.pop(), f"the same network as {main.named}"))
    if networks and snapshots.at and networks[-1].position >= min(snapshots.at):
        reason = "they are more than there are steps before the others"
        reason = f"the file does not say of which steps these are, and {reason}"
        snapshots.left_out += [(network, reason) for network in networks]
    else:
        snapshots.at |= {network.position: network for network in networks}
        snapshots.unknown += [network.position for network in networks]


def _add_main(snapshots: Snapshots, main: Network, last_loss: int | None) -> None:
    """Puts a main network of unknown step last: at the last loss's step, or as the next number."""
    last = max(snapshots.at, default=None)
    if last is not None and _same(main, snapshots.at[last]):
        snapshots.left_out.append((main, f"the same network as {snapshots.at[last].named}"))
    elif last_loss is not None and (last is None or last_loss > last):
        by = "that of the last of the file's losses, as it does not say its own"
        snapshots.at[last_loss] = replace(main, step=last_loss, known_by=by)
    else:
        number = 0 if last is None else last + 1
        snapshots.at[number] = main
        snapshots.unknown.append(number)


def _with_main(networks: list[Network], layout: Layout, content: Any) -> list[Network]:
    """The networks, the main one marked: the layout's, or the one without a name, or the only one."""
    alone = [one for one in networks if one.container is None and not one.is_average]
    unnamed = [one for one in alone if not _words(one.place) - NETWORK_WORDS - LAST]
    at = places_of(content, layout.contents.weights)
    by_layout = [one for place in at for one in networks if one.place == place]
    beside = [one for one in by_layout if one.place == by_layout[0].place]
    if len(beside) > 1:  # of several prefixes, of which no more than one may be no average
        by_layout = [one for one in beside if not one.is_average]
        by_layout = by_layout if len(by_layout) == 1 else []
    candidates = by_layout[:1] or unnamed or (networks if len(networks) == 1 else [])
    if len(candidates) != 1:
        return networks
    main = replace(candidates[0], is_main=True)
    if by_layout:
        for place in places_of(content, layout.contents.step):
            if (step := whole(along(content, place)[-1])) is not None:
                others = (*main.untaken, *((use, along(content, use)[-1]) for use in main.uses))
                untaken = tuple(one for one in others if one[0] != place)
                known_by = f"the file's {shown_place(place)}"
                main = replace(main, step=step, known_by=known_by, uses=(place,), untaken=untaken)
                break
    return [main if one is candidates[0] else one for one in networks]


def _with_step(
    network: Network, layout: Layout, content: Any, lists: dict[Place, tuple[list[int] | None, Place, Any]]
) -> Network:
    """The network with its step, looked for from where it stands towards the top of the file, up to the
    list or dict that it is in.

    `lists` keeps the steps of those lists that were looked at.
    """
    place, values = network.place, along(content, network.place)
    stem: set[str] = set()
    for depth in reversed(range(len(place) + 1)):
        parent, here = values[depth], place[:depth]
        in_list = depth > 0 and isinstance(values[depth - 1], list | tuple)
        beside = replace(network, container=here[:-1], position=here[-1]) if in_list else network
        if depth < len(place) and isinstance(parent, list | tuple):
            if (pair := _step_in_pair(parent, place[depth])) is not None:
                by = f"from the numbers beside the networks under {shown_place(here[:-1])}"
                return replace(beside, step=pair[1], known_by=by, uses=((*here, pair[0]),))
            if here not in lists:
                above = values[depth - 1] if depth else None
                lists[here] = _steps_beside(parent, here, layout, content, above)
            steps, at, no_steps = lists[here]
            network = replace(network, container=here, position=place[depth])
            if steps is not None:
                by = f"the file's {shown_place(at)}"
                return replace(network, step=steps[network.position], known_by=by, uses=(at,))
            if no_steps is None:
                return network
            return replace(network, untaken=(*network.untaken, (at, no_steps)))
        if depth < len(place):
            around = _words(here[-1:])
            is_of_steps = around & _SNAPSHOTS or {*words(place[depth])} & STEP_WORDS
            also = NETWORK_WORDS if is_of_steps else frozenset()
            if not around & OTHER_RUNS and (step := step_in(place[depth], also)) is not None:
                by = f"from the file's keys under {shown_place(here)}"
                return replace(network, step=step, known_by=by, container=here)
            stem |= {*words(place[depth])} - NETWORK_WORDS - LAST
        its = entries(parent)
        if depth == len(place):
            its = {key: value for key, value in its.items() if key not in network.state}
        steps_of = _own_steps(its, stem)
        taken = next(((at, step) for at, value in steps_of if (step := whole(value)) is not None), None)
        rest = [(at, value) for at, value in steps_of if not taken or at != taken[0]]
        rest += [] if taken else _may_be_steps(its, stem)
        others = tuple(((*here, *at), value) for at, value in rest)
        network, beside = (replace(one, untaken=(*one.untaken, *others)) for one in (network, beside))
        if taken is not None:
            at, step = taken
            by = f"the file's {shown_place((*here[:-1], '*', *at) if in_list else (*here, *at))}"
            return replace(beside, step=step, known_by=by, uses=((*here, *at),))
    if stem & INITIAL:
        return replace(network, step=0, known_by=f"meant by the name {shown_place(place)}")
    return network


def _step_in_pair(pair: Sequence[Any], key: int) -> tuple[int, int] | None:
    """Where in a short tuple, beside a network, its step stands, and the step: whole, and no float."""
    others = [(i, value) for i, value in enumerate(pair) if i != key] if 2 <= len(pair) <= 4 else []
    if any(isinstance(value, Mapping) for _, value in others):
        return None
    for i, value in others:
        is_real = isinstance(value, float) or (isinstance(value, Tensor) and value.is_floating_point())
        if not is_real and (step := whole(value)) is not None:
            return i, step
    return None


def _own_steps(beside: Mapping[Any, Any], stem: set[str]) -> list[tuple[Place, Any]]:
    """The entries of a dict that say of which step the network with that stem in its name is: `epoch`,
    `global_step`, `best_epoch`, and then those of a `meta` in it; the surest first, each with its place."""
    if len(beside) > _MOST_KEYS:
        return []
    several: list[tuple[Place, Any]] = []
    for word in (*STEP, "ep", "it"):
        for key, value in beside.items():
            parts = {*words(key)} if isinstance(key, str) else set()
            is_done = f"{word}s" in parts and parts & _DONE
            rest = parts - {word, f"{word}s" if is_done else word}
            is_its = rest <= stem | _BESIDE_STEP | _DONE and (not stem or rest & stem)
            if (
                (word in parts or is_done)
                and is_its
                and (scalar(value) is not None or isinstance(value, str))
            ):
                several.append(((key,), value))
    for key, value in beside.items():
        is_meta = isinstance(key, str) and bool(words(key)) and _META.issuperset(words(key))
        if is_meta and isinstance(value, Mapping | Record):
            several += [((key, *at), step) for at, step in _own_steps(entries(value), stem)]
    return several


def _may_be_steps(beside: Mapping[Any, Any], stem: set[str]) -> list[tuple[Place, Any]]:
    """The entries of a dict that may be how many steps a network has had, or is to have: `steps`, `n_epochs`,
    `start_epoch`."""
    its_words = STEP_WORDS | _BESIDE_STEP | vocabulary("start next resume")
    if stem or len(beside) > _MOST_KEYS:
        return []
    return [
        ((key,), value)
        for key, value in beside.items()
        if isinstance(key, str)
        and (parts := {*words(key)}) & STEP_WORDS
        and parts <= its_words
        and whole(value) is not None
    ]


def _steps_beside(
    items: Sequence[Any], here: Place, layout: Layout, content: Any, parent: Any
) -> tuple[list[int] | None, Place, Any]:
    """The steps of the networks in a list, from a list of as many steps in the same dict, in whatever order,
    and where that stands. None where there is none; then what the layout or its name would have to be the
    steps, and is not, if anything."""
    is_layouts = here in places_of(content, layout.contents.snapshots)
    by_layout = places_of(content, layout.contents.steps) if is_layouts else []
    untaken: tuple[Place, Any] = (), None
    for place in [*by_layout, *((*here[:-1], key) for key in _names_of_steps(here, parent))]:
        values = along(content, place)[-1]
        count = length(values)
        steps = distinct(listed(values) or ()) if count == len(items) else None
        if steps is not None:
            return steps, place, None
        if untaken[1] is None and count is not None and (place in by_layout or count == len(items)):
            others = [one for _, one in children(parent) if one is not items and one is not values]
            if count == len(items) or not any(length(one) == count for one in others):
                untaken = place, list(listed(values) or ())[:12]
    return None, *untaken


def _names_of_steps(here: Place, parent: Any) -> list[Any]:
    """The keys beside a list of networks that may hold its steps; first those that share its words."""
    if isinstance(parent, list | tuple):
        return [i for i, value in enumerate(parent) if length(value) is not None] if len(parent) <= 4 else []
    beside = entries(parent)
    if len(beside) > _MOST_KEYS:
        return []
    its_words = {word.rstrip("s") for word in _words(here[-1:])}
    keys = [key for key, value in beside.items() if {*words(key)} & STEP_WORDS and length(value) is not None]
    return sorted(keys, key=lambda key: -len(its_words & {word.rstrip("s") for word in words(key)}))


def _words(place: Place) -> set[str]:
    return {word for key in place for word in words(key)}


def _same(one: Network, other: Network) -> bool:
    if one.state.keys() != other.state.keys():
        return False
    return all(torch.equal(one.state[key], other.state[key]) for key in one.state)
