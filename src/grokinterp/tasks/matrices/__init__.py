"""Linear algebra on matrices whose entries are written as tokens (Charton 2022, arXiv 2112.01898 and
2211.00170): eigenvalues, eigenvectors, inverse, transpose, sum.

A question and its answer are one row of tokens, as in tasks/digits.py:

    a11 a12 a21 a22 = w1 w2                 one token a number (FP15)
    a11 a12 a21 a22 = + 314 E-2 + 271 E-2   of an answer in P1000; its last token is not read again

The entries of the matrix row by row, one start token, and the answer, row by row, but for its last token.
Answers are read from the start token on, each where the tokens of the answer before it have been seen: a
decoder reads the row as it is, and an encoder-decoder what stands before the start token in its encoder.
With `dimensions` both begin with V<rows> V<columns>, as in LAWT; there is no end token, as all are as long.

    encodings      numbers as tokens, and back
    distributions  random matrices
    problems       what is asked, its truth, how wrong an answer is
    family         the task
"""

from .distributions import DISTRIBUTIONS, mixture
from .encodings import ENCODINGS, NumberEncoding, number_encoding
from .family import Matrices
