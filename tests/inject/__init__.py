"""Tests of the room inject/."""
