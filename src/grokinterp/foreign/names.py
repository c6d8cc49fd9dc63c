"""What the names in a stranger's pickle may stand for: records of settings, what is left unread beside
weights, and what is refused.

Nothing is ever looked up: a name is a text, and what is left unread keeps no more than that. So what is
refused here could do no harm either; it is refused because no honest file asks to run it.
"""

from __future__ import annotations

import re
import sys


def _listed(text: str) -> frozenset[str]:
    return frozenset(text.split())


_RENAMED = {
    **{"__builtin__.": "builtins.", "copy_reg.": "copyreg."},
    **{"numpy.core.": "numpy._core.", "pathlib._local.": "pathlib."},
}
_RENAMED_BUILTINS = {"long": "int", "xrange": "range", "unicode": "str", "basestring": "str"}
"""As pickles of protocol 2 call them, which torch.save writes."""
_NAMESPACES = {"types.SimpleNamespace", "argparse.Namespace"}
LENSES = ("transformer_lens.", "easy_transformer.")
_CONFIGURATION = re.compile(r"config|cfg|args|params|settings|options|namespace", re.IGNORECASE)
_DATA = _listed(
    "abc argparse array bisect calendar cmath collections copy dataclasses datetime decimal enum fractions "
    "functools hashlib heapq http ipaddress itertools json logging math numbers operator pathlib random re "
    "signal statistics string struct textwrap time typing uuid warnings zoneinfo"
)
"""Modules of the standard library whose names stand for data and for functions of it."""
_BUILTINS = _listed(
    "Ellipsis NotImplemented abs all any ascii bin bool bytes callable chr classmethod complex dict divmod "
    "enumerate filter float format frozenset hash hex id int isinstance issubclass iter len list map max min "
    "next object oct ord pow print property range repr reversed round set slice sorted staticmethod str sum "
    "super tuple type zip"
)
_MADE = _listed("complex enumerate filter iter map range reversed slice type zip")
"""Those of them that make what a pickle of an honest object asks for."""
_OF_TYPES = {"EllipsisType", "GenericAlias", "MappingProxyType", "MethodType", "NoneType", "UnionType"}
_EXCEPTION = re.compile(r"\w+(Error|Exception|Warning|Iteration|Interrupt|Exit|Group)")
_CALLED = re.compile(
    r"torch\.(optim|nn|amp|cuda\.amp|utils\.data|distributions|return_types)\.|torch\.serialization\._get_layout$|"
    r"numpy\.(random|ma|rec)\.|(datetime|collections|enum|itertools|_?operator)\.\w+$|re\._compile$|"
    r"_?functools\.partial$|logging\.getLogger$|time\.struct_time$|platform\.uname_result$|array\.array$"
)
"""Where what is not written as a class makes what stands beside weights all the same: optimisers, schedules,
losses, generators of random numbers, dates, iterators."""
_LIBRARIES = _listed(
    "accelerate attr attrs dateutil flax jax jaxlib lightning networkx omegaconf optax pandas polars pyarrow "
    "pydantic pytorch_lightning pytz scipy sklearn sympy tokenizers torchmetrics tqdm transformers wandb "
    "xarray"
)
"""Whose tables, settings and dates are made by functions too."""
_TO_UNPICKLE = re.compile(r"unpickle|reconstruct|rebuild|restore|_new(_|$)|ctor", re.IGNORECASE)
"""How functions are called that make an object again."""


def renamed(dotted: str) -> str:
    """The name by which this is known today."""
    for old, new in _RENAMED.items():
        if dotted.startswith(old):
            dotted = new + dotted.removeprefix(old)
    module, _, name = dotted.rpartition(".")
    return f"builtins.{_RENAMED_BUILTINS.get(name, name)}" if module == "builtins" else dotted


def is_record(dotted: str) -> bool:
    """Whether this names a configuration: TransformerLens's, a namespace, or that of a stranger's module."""
    if dotted in _NAMESPACES or dotted.startswith(LENSES):
        return True
    return _is_strange(dotted) and _CONFIGURATION.search(dotted.rpartition(".")[2]) is not None


def is_left_unread(dotted: str) -> bool:
    """Whether an object of this class, or a function of this name, may stand beside weights, unread."""
    if _is_strange(dotted):
        return True
    first, *rest = dotted.split(".")
    if first == "builtins":
        return rest[0] in _BUILTINS or _EXCEPTION.fullmatch(rest[0]) is not None
    if first == "types":
        return rest[0] in _OF_TYPES
    is_data = first in ("torch", "numpy") or dotted.startswith(
        ("_io.StringIO", "_io.BytesIO", "platform.uname")
    )
    # A name can lead through a module to another that it imports: `random._os.system`.
    leads_out = any(map(_is_of_the_system, rest))
    return (is_data or first.lstrip("_") in _DATA) and not leads_out


def is_made_unread(dotted: str) -> bool:
    """Whether a file may ask to call it, so that what it would make is left unread: a class, or a function
    that honest pickles call."""
    name = dotted.rpartition(".")[2]
    if not is_left_unread(dotted):
        return False
    if name[:1].isupper() or _TO_UNPICKLE.search(name) or _CALLED.match(dotted):
        return True
    first, *between = dotted.split(".")[:-1]
    if first in _LIBRARIES:
        return bool(between) and between[-1] != "pickle" and not _is_of_the_system(between[-1])
    return first == "builtins" and name in _MADE


def _is_strange(dotted: str) -> bool:
    """Whether it is of a module that is neither of the standard library nor torch's or numpy's."""
    return dotted.split(".")[0] not in {*sys.stdlib_module_names, "torch", "numpy"}


def _is_of_the_system(part: str) -> bool:
    """Whether a part of a name is a module of the standard library other than those of data."""
    return part.strip("_") in sys.stdlib_module_names - _DATA - {"pickle"}
