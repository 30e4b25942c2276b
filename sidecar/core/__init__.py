"""Decisions only: no await, no clock, no I/O, no logging, no randomness.

`now` is always an argument: Unix time in integer nanoseconds. So is a random draw.
"""
