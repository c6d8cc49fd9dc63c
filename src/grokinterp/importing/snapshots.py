"""The networks in a foreign file, of which step each of them is, and which become snapshots.

They may stand in a list, in a dict by step, in pairs with their step, in dicts of their own with it, or alone: last, best, first, averaged.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from ..errors import GrokinterpError
from .convert import Diverged, DoesNotFit, convert, is_state_dict, key_pattern
from .mapping import Layout
from .places import (
    STEP,
    STEP_WORDS,
    Account,
    Place,
    along,
    children,
    children_of_keys,
    increasing,
    length,
    listed,
    place_of,
    shown_place,
    step_in,
    whole,
    words,
)

_AVERAGES = {"ema", "swa", "average", "averaged", "avg", "shadow", "polyak"}
_INITIAL = {"init", "initial", "initialization", "initialisation"}
_NO_WEIGHTS = {
    *("grad", "grads", "gradient", "gradients", "momentum", "exp", "delta", "deltas", "optim", "optimizer", "optimiser", "opt"),
    *("mask", "masks", "fisher", "variance"),
}
_NETWORK = {
    "model",
    "models",
    "net",
    "network",
    "networks",
    "state",
    "states",
    "dict",
    "dicts",
    "weights",
    "params",
    "parameters",
    "module",
}
_LAST = {"last", "final", "current", "latest", "trained"}
_SNAPSHOTS = {"checkpoint", "checkpoints", "ckpts", "snapshot", "snapshots", "history", "saved", "trajectory"} | STEP_WORDS
_OTHER_RUNS = {"seed", "seeds", "runs", "fold", "folds", "ensemble", "members", "replicas", "ranks", "workers"}
_BESIDE_STEP = {"global", "current", "last", "number", "num", "no", "idx", "index", "train", "training", "at", "of", "saved", *_NETWORK}
_MOST_KEYS = 1000
_MOST_SENTENCES = 8


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
    """

    place: Place
    state: Mapping[str, Tensor]
    step: int | None = None
    known_by: str = ""
    uses: tuple[Place, ...] = ()
    container: Place | None = None
    position: int = 0
    is_main: bool = False

    @property
    def words(self) -> set[str]:
        return {word for key in self.place for word in words(key)}

    @property
    def is_average(self) -> bool:
        return bool(self.words & _AVERAGES)

    @property
    def where(self) -> str:
        return shown_place(self.place) + ("" if self.step is None else f" (step {self.step:,})")


@dataclass
class Snapshots:
    """Which networks become snapshots.

    Attributes:
        at: the networks by step, in order.
        unknown: steps of these that are only numbers, as the file does not say them.
        left_out: the other networks, with the reasons.
        later_is_bad: whether a network that cannot be read is later than all of these.
    """

    at: dict[int, Network] = field(default_factory=dict)
    unknown: list[int] = field(default_factory=list)
    left_out: list[tuple[Network, str]] = field(default_factory=list)
    later_is_bad: bool = False

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
            several = f"steps {steps[0]:,} to {steps[-1]:,} ({len(steps)} networks) are" if len(steps) > 1 else f"step {steps[0]:,} is"
            yield f"{several} {known_by}"
        if len(by) > _MOST_SENTENCES:
            yield f"the steps of {sum(map(len, list(by.values())[_MOST_SENTENCES:])):,} more networks are the file's own"
        numbered = [(step, self.at[step]) for step in self.unknown]
        if len(self.at) == 1 and numbered:
            yield "the file does not say after how many steps its network was saved: its step is unknown"
            numbered = []
        in_list = [network for _, network in numbered if network.container is not None]
        if in_list:
            assert in_list[0].container is not None
            yield (
                f"the file does not say after how many steps its {len(in_list)} networks under {shown_place(in_list[0].container)} were saved: "
                f"these steps are unknown, and the networks numbered in their order from 0"
            )
        for step, network in numbered:
            if network.container is None:
                yield (
                    f"the file does not say after how many steps {network.where} was saved: its step is unknown, and it stands last, as number "
                    f"{step:,}"
                )
        if self.later_is_bad:
            yield f"the last network cannot be read: what is said of the last is said of {list(self.at.values())[-1].where}"
        if averages := [network.where for network in self.at.values() if network.is_average]:
            yield f"by its name an average of networks over steps, and no network of one step: {', '.join(averages[:_MOST_SENTENCES])}"

    def account(self, account: Account, ignored: Sequence[str]) -> None:
        """Enters all networks: used, or left out with the reason. Keys that are `ignored` in each are left out too."""
        patterns = [key_pattern(key) for key in ignored]
        for network in self.at.values():
            account.use(network.place, *network.uses)
            for key in network.state:
                if any(pattern.fullmatch(key) for pattern in patterns):
                    place = network.place if network.container is None else (*network.container, "*")
                    account.leave((*network.place, key), "no weights, by the layout", shown_place((*place, key)))
        for network, reason in self.left_out:
            account.use(*network.uses)
            account.leave(network.place, reason, network.where)


def state_dicts(content: Any) -> list[tuple[Place, Mapping[str, Tensor]]]:
    """All dicts of tensors by name in a file, and where they stand, in the order of the file."""
    found: list[tuple[Place, Mapping[str, Tensor]]] = []

    def look(value: Any, place: Place) -> None:
        if is_state_dict(value):
            found.append((place, value))
        else:
            for key, child in children(value):
                if not isinstance(child, Tensor | str | int | float | bytes | type(None)):
                    look(child, (*place, key))

    look(content, ())
    return found


def networks_in(layout: Layout, content: Any, dicts: Sequence[tuple[Place, Mapping[str, Tensor]]]) -> list[Network]:
    """The networks of a layout among all state dicts of a file. Where none looks like one, that which would have to be.

    Raises:
        DoesNotFit: there is no state dict, or the steps that the file gives are not those of its networks.
    """
    known = [key_pattern(key) for key in (*(source.key for source in layout.weights.values()), *layout.ignore, *layout.copies)]
    its_own = [place for path in layout.contents.weights if (place := place_of(content, path)) is not None]
    its_own += [place for path in layout.contents.snapshots if (place := place_of(content, path)) is not None]

    def is_one(place: Place, state: Mapping[str, Tensor]) -> bool:
        named_otherwise = {word for key in place for word in words(key)} & _NO_WEIGHTS
        if named_otherwise and not any(place[: len(own)] == own for own in its_own if own):
            return False
        return 2 * sum(any(pattern.fullmatch(key) for pattern in known) for key in state) >= len(state)

    of_layout = [(place, state) for place, state in dicts if is_one(place, state)]
    if not of_layout:
        nearest = [one for own in its_own for one in dicts if one[0][: len(own)] == own and (own or not one[0])]
        of_layout = nearest[:1] or sorted(dicts, key=lambda one: -len(one[1]))[:1]
    if not of_layout:
        raise DoesNotFit("it holds no state dict, that is a dictionary of tensors by name", 0)
    steps_of_list: dict[Place, tuple[list[int] | None, Place]] = {}
    networks = [_with_step(Network(place, state), layout, content, steps_of_list) for place, state in of_layout]
    return _with_main(networks, layout, content)


def good_ones(layout: Layout, networks: Sequence[Network], content: Any, settings: Any) -> tuple[list[Network], list[tuple[Network, str]]]:
    """The networks that can be converted and are of one shape, that of most of them; and the others, each with what is wrong with it.

    Raises:
        DoesNotFit, Diverged: none can be converted; what is wrong with the last is said.
    """
    bad: list[tuple[Network, str]] = []
    shapes: list[tuple[Network, str]] = []
    error: GrokinterpError | None = None
    for network in sorted(networks, key=_in_order):
        try:
            converted = convert(layout, network.state, content, settings)
            shapes.append((network, str((converted.model, converted.tokens))))
        except (DoesNotFit, Diverged) as reason:
            error = reason
            bad.append((network, str(reason)))
    if not shapes:
        assert error is not None
        network = bad[-1][0]
        if len(networks) > 1 or network.step is not None:
            several = f"none of its {len(networks)} networks can be read; " if len(networks) > 1 else ""
            where = f"{several}{shown_place(network.place)}" + ("" if network.step is None else f", step {network.step:,}")
            raise DoesNotFit(f"{where}: {error}", error.progress) if isinstance(error, DoesNotFit) else Diverged(f"{where}: {error}")
        raise error
    counts = Counter(shape for _, shape in shapes)
    most = max(enumerate(shapes), key=lambda one: (counts[one[1][1]], one[0]))[1][1]
    bad += [(network, "another network than the others, by its shapes") for network, shape in shapes if shape != most]
    return [network for network, shape in shapes if shape == most], bad


def arranged(networks: Sequence[Network], last_loss: int | None) -> Snapshots:
    """Networks by step. `last_loss` is the step of the last loss in the file, which is taken for that of a network that has none.

    Raises:
        DoesNotFit: there are several of which nothing says which is the last.
    """
    snapshots = Snapshots()
    counted = [network for network in networks if not network.is_average] or list(networks)
    leave = snapshots.left_out.append
    for average in networks:
        if average not in counted:
            leave((average, "by its name an average over steps, and no network of one step"))
    for network in sorted((one for one in counted if one.step is not None), key=lambda one: (one.container is None, not one.is_main)):
        assert network.step is not None
        there = snapshots.at.setdefault(network.step, network)
        if there is not network:
            leave((network, _beside(network, there, network.step)))
    unnumbered = [network for network in counted if network.step is None]
    first_list = next((one.container for one in unnumbered if one.container is not None), None)
    in_list = [one for one in unnumbered if one.container is not None and one.container == first_list]
    main = next((one for one in counted if one.is_main), None)
    if in_list and main is not None and main.step is not None and _same(main, in_list[-1]):
        leave((in_list.pop(), f"the same network as {shown_place(main.place)}"))
    if in_list and in_list[-1].position >= min(snapshots.at, default=in_list[-1].position + 1):
        for network in in_list:
            leave((network, "the file does not say of which steps these are, and there are more of them than steps before the others"))
        in_list = []
    snapshots.at |= {network.position: network for network in in_list}
    snapshots.unknown += [network.position for network in in_list]
    last = max(snapshots.at, default=None)
    if main is not None and main.step is None:
        if last is not None and _same(main, snapshots.at[last]):
            leave((main, f"the same network as {shown_place(snapshots.at[last].place)}"))
        elif last_loss is not None and (last is None or last_loss > last):
            snapshots.at[last_loss] = replace(
                main, step=last_loss, known_by="that of the last of the file's losses, as it does not say its own"
            )
        else:
            number = 0 if last is None else last + 1
            snapshots.at[number] = main
            snapshots.unknown.append(number)
    for network in unnumbered:
        if network is not main and network not in in_list and all(network is not one for one, _ in snapshots.left_out):
            same = main is not None and _same(network, main)
            leave(
                (
                    network,
                    f"the same network as {shown_place(main.place)}" if same and main else "the file does not say of which step it is",
                )
            )
    if not snapshots.at:
        names = " and ".join(shown_place(one.place) for one in unnumbered[:4])
        raise DoesNotFit(f"it holds several networks, {names}, and does not say which is the last: a mapping says it, contents.weights", 3)
    snapshots.at = dict(sorted(snapshots.at.items()))
    return snapshots


def later_than_all(bad: Sequence[tuple[Network, str]], good: Sequence[Network]) -> bool:
    """Whether a network that cannot be read would have been the last."""
    return max((_in_order(network) for network, _ in bad), default=(False, False, -1)) > max(_in_order(network) for network in good)


def _in_order(network: Network) -> tuple[bool, bool, int]:
    return network.step is None, network.is_main, network.position if network.step is None else network.step


def _beside(network: Network, there: Network, step: int) -> str:
    if _same(network, there):
        return f"the same network as {shown_place(there.place)}"
    return f"another network of the same step as {shown_place(there.place)}"


def _with_main(networks: list[Network], layout: Layout, content: Any) -> list[Network]:
    """The networks, of which the main one is marked: that of the layout, or the one with no name of its own, or the only one."""
    places = [network.place for network in networks]
    paths = [place for path in layout.contents.weights if (place := place_of(content, path)) is not None]
    alone = [one for one in networks if one.container is None and not one.is_average]
    unnamed = [one.place for one in alone if not _stem(one.place)]
    mains = [place for place in paths if place in places] or (unnamed if len(unnamed) == 1 else [])
    mains = mains or [one.place for one in alone if len(networks) == 1] or (places if len(networks) == 1 else [])
    if not mains:
        return networks
    return [_as_main(one, layout, content) if one.place == mains[0] else one for one in networks]


def _as_main(network: Network, layout: Layout, content: Any) -> Network:
    places = [place for path in layout.contents.step if (place := place_of(content, path)) is not None]
    given = [(place, step) for place in places if (step := whole(along(content, place)[-1])) is not None]
    if given and (network.place in {place_of(content, path) for path in layout.contents.weights}):
        (place, step) = given[0]
        return replace(network, step=step, known_by=f"the file's {shown_place(place)}", uses=(place,), is_main=True)
    return replace(network, is_main=True)


def _with_step(network: Network, layout: Layout, content: Any, steps_of_list: dict[Place, tuple[list[int] | None, Place]]) -> Network:
    """The network with its step, looked for from where it stands towards the top of the file, up to the list or dict that it is in."""
    place, values = network.place, along(content, network.place)
    stem: set[str] = set()
    for depth in reversed(range(len(place))):
        parent, key, here = values[depth], place[depth], place[:depth]
        if isinstance(parent, list | tuple):
            if (pair := _step_in_pair(parent, key)) is not None:
                at, step = pair
                container, position = (here[:-1], here[-1]) if here and isinstance(here[-1], int) else (None, 0)
                by = f"the file's own numbers beside its networks under {shown_place(here[:-1])}"
                return replace(network, step=step, known_by=by, uses=((*here, at),), container=container, position=position)
            if here not in steps_of_list:
                steps_of_list[here] = _steps_beside(parent, here, layout, content, values[depth - 1] if depth else None)
            steps, beside = steps_of_list[here]
            found = replace(network, container=here, position=key)
            if steps is None:
                return found
            return replace(found, step=steps[key], known_by=f"the file's {shown_place(beside)}", uses=(beside,))
        around = {word for part in here[-1:] for word in words(part)}
        if not around & _OTHER_RUNS and (step := step_in(key, _NETWORK if around & _SNAPSHOTS else frozenset())) is not None:
            return replace(network, step=step, known_by=f"the file's keys under {shown_place(here)}", container=here)
        stem |= {*words(key)} - _NETWORK - _LAST
        if (own := _own_step(children_of_keys(parent), stem)) is not None:
            name, step = own
            container = here[:-1] if here and isinstance(values[depth - 1], list | tuple) else None
            shown_at = (*here[:-1], "*", name) if container is not None else (*here, name)
            by = f"the file's {shown_place(shown_at)}"
            return replace(
                network,
                step=step,
                known_by=by,
                uses=((*here, name),),
                container=container,
                position=here[-1] if container is not None else 0,
            )
    if stem & _INITIAL:
        return replace(network, step=0, known_by=f"meant by the name {shown_place(place)}")
    return network


def _stem(place: Place) -> set[str]:
    """The words of a name that say which network it is."""
    return {word for key in place for word in words(key)} - _NETWORK - _LAST


def _step_in_pair(pair: Sequence[Any], key: int) -> tuple[int, int] | None:
    """Where in a short tuple, beside a network, its step stands, and the step."""
    others = [(i, value) for i, value in enumerate(pair) if i != key] if 2 <= len(pair) <= 4 else []
    if any(isinstance(value, Mapping) for _, value in others):
        return None
    return next(((i, step) for i, value in others if not _is_float(value) and (step := whole(value)) is not None), None)


def _is_float(value: Any) -> bool:
    return isinstance(value, float) or (isinstance(value, Tensor) and value.is_floating_point())


def _own_step(parent: Mapping[Any, Any], stem: set[str]) -> tuple[Any, int] | None:
    """The entry of a dict that says of which step the network with that stem in its name is: `epoch`, `global_step`, `best_epoch`."""
    if len(parent) > _MOST_KEYS:
        return None
    for word in STEP:
        for key, value in parent.items():
            parts = {*words(key)} if isinstance(key, str) else set()
            rest = parts - {word}
            named = rest <= stem | _BESIDE_STEP and (not stem or rest & stem)
            if word in parts and named and (step := whole(value)) is not None:
                return key, step
    return None


def _steps_beside(items: Sequence[Any], here: Place, layout: Layout, content: Any, parent: Any) -> tuple[list[int] | None, Place]:
    """The steps of the networks in a list, from a list of as many steps in the same dict; None where there is none.

    Raises:
        DoesNotFit: the layout says where they are, and those are none.
    """
    is_layouts = here in {place_of(content, path) for path in layout.contents.snapshots}
    given = [place for path in layout.contents.steps if (place := place_of(content, path)) is not None] if is_layouts else []
    beside = [key for key, value in children(parent) if _may_be_steps(key, value, parent)] if parent is not None and _few(parent) else []
    own = {word.rstrip("s") for word in words(here[-1])} if here else set()
    beside.sort(key=lambda key: -len(own & {word.rstrip("s") for word in words(key)}))
    for place in [*given, *((*here[:-1], key) for key in beside)]:
        values = listed(along(content, place)[-1])
        if values is None:
            continue
        steps = increasing(values) if len(values) == len(items) else None
        if steps is not None:
            return steps, place
        mine = {id(items), id(along(content, place)[-1])}
        of_others = any(length(one) == len(values) for _, one in children(parent) if id(one) not in mine)
        if place in given and not (of_others and len(values) != len(items)):
            raise DoesNotFit(f"{len(items)} snapshots do not go with the steps {str(list(values))[:60]}", 4)
    return None, ()


def _few(parent: Any) -> bool:
    return len(parent) <= 4 if isinstance(parent, list | tuple) else len(children_of_keys(parent)) <= _MOST_KEYS


def _may_be_steps(key: Any, value: Any, parent: Any) -> bool:
    return length(value) is not None and (isinstance(parent, list | tuple) or bool({*words(key)} & STEP_WORDS))


def _same(one: Network, other: Network) -> bool:
    return one.state.keys() == other.state.keys() and all(torch.equal(one.state[key], other.state[key]) for key in one.state)
