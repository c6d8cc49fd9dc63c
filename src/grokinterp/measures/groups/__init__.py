"""Measures of networks whose task is the product of a finite group."""
