"""Measures of networks whose elements stand on a cyclic group Z_m: of what they compute with waves."""
