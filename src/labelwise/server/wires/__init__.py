"""Wires: one file for each form of requests and answers."""
