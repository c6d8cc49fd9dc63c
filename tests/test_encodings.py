"""Numbers as tokens: round trips, the definitions of LAWT written out number by number, and what cannot be
written or read."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from grokinterp.errors import ConfigError
from grokinterp.tasks.matrices import ENCODINGS, number_encoding

WITH_EXPONENT = ["P10", "P1000", "B1999"]
SIZES = {"P10": 213, "P1000": 1203, "B1999": 2202, "FP15": 28_999}
REDUCED = {"P10": (-6, 2), "P1000": (-4, -1), "B1999": (1, 5), "FP15": (-3, 0)}


def numbers(n: int, low: float, high: float, seed: int = 0) -> torch.Tensor:
    """Numbers of both signs whose logarithms (base 10) are uniform."""
    generator = torch.Generator().manual_seed(seed)
    powers = torch.rand(n, generator=generator, dtype=torch.float64) * (high - low) + low
    return 10**powers * (torch.randint(2, (n,), generator=generator) * 2 - 1)


def of_three_digits(number: float) -> tuple[int, int]:
    """The mantissa without its sign and the exponent of its last digit, as Python rounds."""
    mantissa, exponent = f"{abs(number):.2e}".split("e")
    whole, last = int(mantissa.replace(".", "")), int(exponent) - 2
    return (whole, last) if whole and last >= -100 else (0, 0)


def by_lawt(name: str, number: float) -> tuple[str, ...]:
    """What LAWT writes, number by number; zero of P10 with three digits."""
    if name == "FP15":
        size = abs(number) * 1e7
        exponent = max(int(math.log10(size)), 0) if size else 0
        mantissa = int(size * 10 ** (2 - exponent) + 0.5)
        if mantissa == 1000:
            mantissa, exponent = 100, exponent + 1
        return (f"N{'-' * (number < 0 and mantissa > 0)}{mantissa}e{exponent}",)
    mantissa, exponent = of_three_digits(number)
    sign = "-" if number < 0 and mantissa else "+"
    if name == "B1999":
        return f"N{'-' * (sign == '-')}{mantissa}", f"E{exponent}"
    digits = tuple(f"{mantissa:03d}") if name == "P10" else (str(mantissa),)
    return sign, *digits, f"E{exponent}"


def words_of(name: str, values: torch.Tensor, exponents=None) -> list[tuple[str, ...]]:
    encoding = number_encoding(name, exponents)
    tokens, valid = encoding.encode(values)
    assert valid.all()
    return [tuple(encoding.symbols[token] for token in row) for row in tokens.tolist()]


def test_the_tokens_are_those_of_the_paper():
    written = {name: " ".join(number_encoding(name).write(3.14)) for name in ENCODINGS}
    assert written == {"P10": "+ 3 1 4 E-2", "P1000": "+ 314 E-2", "B1999": "N314 E-2", "FP15": "N314e7"}
    assert number_encoding("P10").write(-0.0) == ("+", "0", "0", "0", "E0")
    assert number_encoding("FP15").write(-1e9 + 1e6) == ("N-999e15",)
    for name, size in SIZES.items():
        symbols = number_encoding(name).symbols
        assert len(symbols) == len(set(symbols)) == size


@pytest.mark.parametrize("name", ENCODINGS)
def test_ten_thousand_numbers_come_back_with_three_digits(name):
    values = numbers(20_000, *((-7, 8.9) if name == "FP15" else (-98, 102)))
    encoding = number_encoding(name)
    tokens, valid = encoding.encode(values)
    assert valid.all()
    assert tokens.shape == (20_000, encoding.width)
    read, are = encoding.decode(tokens)
    assert are.all()
    # Half a unit of the third digit, of a number whose first two digits may be 1 and 0.
    assert float(((read - values) / values).abs().max()) <= 0.005 * (1 + 1e-9)
    again, _ = encoding.encode(read)
    assert torch.equal(again, tokens)


@pytest.mark.parametrize("name", ENCODINGS)
def test_every_number_is_written_as_lawt_writes_it(name):
    halves = torch.arange(-4000, 4000, dtype=torch.float64) / 8  # halfway between two mantissas
    wide = numbers(2000, -8.5, 8.9) if name == "FP15" else numbers(2000, -104, 102)
    edges = torch.tensor([0.0, 9.995, 9.994999, 99.95, 999.5, 0.001, 1000, 1.005, 1.015, 1.045, 2.675e-5])
    values = torch.cat([halves, wide, edges.double(), -edges.double()])
    assert words_of(name, values) == [by_lawt(name, number) for number in values.tolist()]


@pytest.mark.parametrize("name", WITH_EXPONENT)
def test_what_is_read_is_the_float_that_python_reads(name):
    encoding, values = number_encoding(name), numbers(10_000, -20, 20)
    read, _ = encoding.decode(encoding.encode(values)[0])
    assert read.tolist() == [float(f"{number:.2e}") for number in values.tolist()]


def test_fp15_loses_digits_below_a_ten_millionth():
    encoding = number_encoding("FP15")
    lost = {1.23e-7: 1.23e-7, 1.23e-8: 1.2e-8, 1.23e-9: 1e-9, 0.6e-9: 1e-9, 0.4e-9: 0.0}
    for number, left in lost.items():
        assert encoding.parse(encoding.write(number)) == pytest.approx(left, rel=1e-12)
    values = numbers(10_000, -9, -7)
    off = (encoding.decode(encoding.encode(values)[0])[0] - values).abs()
    assert float(off.max()) <= 0.5e-9 * (1 + 1e-9)
    assert float((off / values.abs()).max()) > 0.2


@pytest.mark.parametrize("name", ENCODINGS)
def test_what_cannot_be_written_is_marked_and_never_another_number(name):
    encoding = number_encoding(name)
    beyond = 1e9 if name == "FP15" else 1e103
    odd = torch.tensor([math.nan, math.inf, -math.inf, beyond, -beyond, 1e300, 1.0], dtype=torch.float64)
    assert encoding.encode(odd)[1].tolist() == [False] * 6 + [True]
    with pytest.raises(ConfigError, match=f"^{name} writes finite numbers, got nan$"):
        encoding.write(math.nan)
    with pytest.raises(ConfigError, match=rf"^{name} with the exponents .* either side of it, got 1e\+300$"):
        encoding.write(1e300)


@pytest.mark.parametrize("name", ENCODINGS)
def test_a_range_of_exponents_has_the_tokens_of_the_whole_that_are_in_it(name):
    low, high = REDUCED[name]
    whole, part = number_encoding(name), number_encoding(name, (low, high))
    assert len(part.symbols) < len(whole.symbols)
    inside = numbers(10_000, low + 2, high + 2.999)
    assert words_of(name, inside, (low, high)) == words_of(name, inside)
    assert part.encode(numbers(1000, high + 3, high + 5))[1].sum() == 0
    assert part.parse(part.write(0.0)) == 0
    below = numbers(1000, low - 1, low + 1.99)
    read, valid = part.decode(part.encode(below)[0])
    if name == "FP15":
        assert part.encode(below)[1].all()
        assert valid.all()
        assert float((read - below).abs().max()) <= 0.5 * 10**low * (1 + 1e-9)
    else:
        assert part.encode(below)[1].sum() == 0


def test_a_small_vocabulary_of_fp15_has_less_than_eight_thousand_tokens():
    encoding = number_encoding("FP15", (-3, 0))
    assert len(encoding.symbols) == 2 * (4 * 900 + 99) + 1 == 7399
    values, valid = encoding.decode(torch.arange(7399)[:, None])
    assert valid.all()
    assert (values.diff() > 0).all()
    assert float(values[-1]) == 999
    assert [encoding.parse((symbol,)) for symbol in encoding.symbols] == values.tolist()
    with pytest.raises(ConfigError, match=r"exponents -3 to 0 writes 0 and numbers of 0.0005 to 999"):
        encoding.write(1000.0)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(ENCODINGS)), st.lists(st.integers(-5, 3000), min_size=1, max_size=6))
def test_tokens_are_a_number_where_each_stands_at_its_place_and_else_invalid(name, tokens):
    encoding = number_encoding(name, REDUCED[name])
    tokens = (tokens * encoding.width)[: encoding.width]
    read, valid = encoding.decode(torch.tensor([tokens]))
    at_place = all(
        slot.first <= token < slot.first + slot.count
        for slot, token in zip(encoding.slots, tokens, strict=True)
    )
    assert bool(valid) == at_place
    assert math.isfinite(float(read)) if at_place else math.isnan(float(read))


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(sorted(ENCODINGS)),
    st.lists(
        st.sampled_from(["+", "-", "3", "314", "N314", "N-7", "E-2", "E5", "N314e7", "V2", "", "="]),
        max_size=7,
    ),
)
def test_words_that_are_no_number_are_none(name, words):
    encoding = number_encoding(name)
    whole = {
        "P10": lambda w: len(w) == 5 and w[0] in ("+", "-") and w[4].startswith("E") and set(w[1:4]) == {"3"},
        "P1000": lambda w: len(w) == 3 and w[0] in ("+", "-") and w[1].isdigit() and w[2].startswith("E"),
        "B1999": lambda w: len(w) == 2 and w[0] in ("N314", "N-7") and w[1].startswith("E"),
        "FP15": lambda w: w == ["N314e7"],
    }
    assert (encoding.parse(words) is not None) == bool(whole[name](words))


def test_an_encoding_that_is_not_there_is_refused_in_one_line():
    with pytest.raises(
        ConfigError, match=r"^task.input_encoding: unknown encoding 'P100'; did you mean 'P10"
    ):
        number_encoding("P100", None, "task.input_encoding")
    with pytest.raises(
        ConfigError, match=r"^task.input_exponents: FP15 has the exponents -9 to 6, got -10 to 2"
    ):
        number_encoding("FP15", (-10, 2), "task.input_encoding")
    with pytest.raises(ConfigError, match=r"^P10 has the exponents -100 to 100, got 3 to 2"):
        number_encoding("P10", (3, 2))
