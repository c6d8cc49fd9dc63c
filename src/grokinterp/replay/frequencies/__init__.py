"""How the frequencies of a network come and go in a replay."""
