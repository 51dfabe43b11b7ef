"""Damaged inputs, thousands of them, each of which is answered or refused in one line."""
