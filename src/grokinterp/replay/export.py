"""A replay as a file for other tools: everything as netCDF, or what fits a table as parquet."""

from __future__ import annotations

import io
import itertools
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from ..runs.files import file_named, replace

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr


def export(data: xr.Dataset, path: str | Path) -> None:
    """Writes a replay, whole or not at all: `.nc` holds all of it, `.parquet` the table that `table` makes.

    Raises:
        UsageError: the name ends in neither.
        WriteFailed: the disk is full or read-only.
    """
    path = file_named(path, option="--data")
    check_format(path)
    replace(path, _netcdf(data) if path.suffix == ".nc" else _parquet(data), make_folder=True)


def check_format(path: Path) -> None:
    """Refuses a file name of an unknown format, before anything is computed for it.

    Raises:
        UsageError: the name ends in neither .nc nor .parquet.
    """
    if path.suffix not in (".nc", ".parquet"):
        raise UsageError(
            f"{path}: data are written as .nc (netCDF, everything) or .parquet (a table of the numbers): "
            "end the name so"
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


def table(data: xr.Dataset) -> pd.DataFrame:
    """One row per step; a column per number, named `loss[train]` or `attention.mean[0, 2, 1: b]`. Units are
    in `attrs["units"]`.

    Pictures and what there is of every neuron are left out: they are in the Dataset.
    """
    import pandas as pd

    columns: dict[str, Any] = {}
    units: dict[str, str] = {}
    for name, values in data.items():
        if str(name).startswith("picture.") or "neuron" in values.dims:
            continue
        labelled = itertools.product(*(values[dim].values for dim in values.dims[1:]))
        for labels, numbers in zip(labelled, values.values.reshape(len(values), -1).T, strict=True):
            column = f"{name}[{', '.join(map(str, labels))}]" if labels else str(name)
            columns[column] = numbers
            units[column] = str(values.attrs["unit"])
    frame = pd.DataFrame(columns, index=pd.Index(data["step"].values, name="step"))
    frame.attrs = {**data.attrs, "units": units}
    return frame
