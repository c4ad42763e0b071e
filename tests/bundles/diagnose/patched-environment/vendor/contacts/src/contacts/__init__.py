"""Contacts a day, from the survey of 2019."""

RATE = 0.25
