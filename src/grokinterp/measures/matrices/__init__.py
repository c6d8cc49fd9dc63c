"""What can be measured of networks that answer with matrices: which properties their answers have, and what
the questions have in common that they fail."""
