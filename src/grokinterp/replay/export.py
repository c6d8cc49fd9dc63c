"""A replay for other tools: everything as netCDF, the numbers as a table of one row per step (parquet), or of
one row per number (csv)."""

from __future__ import annotations

import io
import itertools
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..asked import DATASET, asks
from ..errors import UsageError
from ..runs.files import file_named, replace

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr


def export(data: xr.Dataset, path: str | Path) -> None:
    """Writes a replay, whole or not at all: `.nc` holds all of it, `.parquet` the table that `table` makes,
    `.csv` that of `tidy`, without pictures.

    Raises:
        UsageError: the name ends in none of them.
        WriteFailed: the disk is full or read-only.
    """
    path = file_named(path, option="--data")
    check_format(path)
    replace(path, _FORMATS[path.suffix](data), make_folder=True)


def check_format(path: Path) -> None:
    """Refuses a file name of an unknown format, before anything is computed for it.

    Raises:
        UsageError: the name ends in none of the known ways.
    """
    if path.suffix not in _FORMATS:
        raise UsageError(
            f"{path}: data are written as .nc (netCDF, everything), .parquet (a table of the numbers) or "
            ".csv (one number a row): end the name so"
        )


def _netcdf(data: xr.Dataset) -> bytes:
    with tempfile.TemporaryDirectory() as folder:  # HDF5 writes to files only
        file = Path(folder) / "replay.nc"
        data.to_netcdf(file, engine="h5netcdf")
        return file.read_bytes()


def _parquet(data: xr.Dataset) -> bytes:
    buffer = io.BytesIO()
    table(data).to_parquet(buffer, engine="pyarrow")
    return buffer.getvalue()


def _csv(data: xr.Dataset) -> bytes:
    numbers = data.drop_vars([name for name in data if str(name).startswith(_PICTURES)])
    return tidy(numbers).to_csv(index=False).encode()


_PICTURES = "picture."
_FORMATS: dict[str, Callable[[xr.Dataset], bytes]] = {".nc": _netcdf, ".parquet": _parquet, ".csv": _csv}
"""How a replay is written, by the ending of the file."""


@asks("gi.tidy", data=DATASET)
def tidy(data: xr.Dataset) -> pd.DataFrame:
    """A replay, or any Dataset, as one table with a row for each number: the variable, the step, the labels
    of the variable's own dimensions, and the value. Of other dimensions the labels are missing; numbers that
    are NaN have no row. (`Dataset.to_dataframe` has a row for each combination of the labels of all.)
    """
    import numpy as np
    import pandas as pd

    parts, dims = [], [*dict.fromkeys(str(dim) for values in data.values() for dim in values.dims)]
    for values in data.values():
        numbers = values.values.reshape(-1)
        there = np.flatnonzero(~pd.isna(numbers))
        at = np.unravel_index(there, values.shape)
        labels = {
            str(dim): values[dim].values[index] if dim in values.coords else index
            for dim, index in zip(values.dims, at, strict=True)
        }
        parts.append(pd.DataFrame({**labels, "value": numbers[there].astype(float)}))
    names = [str(name) for name in data]
    columns = ["variable", *sorted(dims, key=lambda dim: dim != "step"), "value"]
    together: dict[str, Any] = {
        "variable": pd.Categorical.from_codes(
            np.repeat(np.arange(len(parts), dtype="int16"), [len(part) for part in parts]), pd.Index(names)
        )
    }
    for column in columns[1:]:
        together[column] = _joined([part.get(column) for part in parts], [len(part) for part in parts])
    return pd.DataFrame(together, columns=columns)


def _joined(columns: Sequence[pd.Series | None], lengths: Sequence[int]) -> Any:
    """One column of those of several tables, of which some lack it: numbers stay numbers, and words are kept
    once."""
    import numpy as np
    import pandas as pd

    there = [column for column in columns if column is not None and len(column)]
    if all(column.dtype.kind in "iufb" for column in there):
        whole = all(column.dtype.kind in "iu" for column in there)
        missing = any(column is None and n for column, n in zip(columns, lengths, strict=True))
        parts = [
            np.full(n, np.nan) if column is None else column.to_numpy()
            for column, n in zip(columns, lengths, strict=True)
        ]
        joined = np.concatenate(parts) if parts else np.empty(0)
        return pd.Series(joined).astype("Int64") if whole and missing else joined
    labels = sorted({label for column in there for label in column.unique()}, key=str)
    codes = {label: code for code, label in enumerate(labels)}
    code_of = [
        np.full(n, -1, "int32") if column is None else column.map(codes).to_numpy("int32")
        for column, n in zip(columns, lengths, strict=True)
    ]
    return pd.Categorical.from_codes(np.concatenate(code_of), pd.Index(labels))


def table(data: xr.Dataset) -> pd.DataFrame:
    """One row per step; a column per number, named `loss[train]` or `attention.mean[0, 2, 1: b]`. Units are
    in `attrs["units"]`.

    Pictures and what there is of every neuron are left out: they are in the Dataset.
    """
    import pandas as pd

    columns: dict[str, Any] = {}
    units: dict[str, str] = {}
    for name, values in data.items():
        if str(name).startswith(_PICTURES) or "neuron" in values.dims:
            continue
        labelled = itertools.product(*(values[dim].values for dim in values.dims[1:]))
        for labels, numbers in zip(labelled, values.values.reshape(len(values), -1).T, strict=True):
            column = f"{name}[{', '.join(map(str, labels))}]" if labels else str(name)
            columns[column] = numbers
            units[column] = str(values.attrs["unit"])
    frame = pd.DataFrame(columns, index=pd.Index(data["step"].values, name="step"))
    frame.attrs = {**data.attrs, "units": units}
    return frame
