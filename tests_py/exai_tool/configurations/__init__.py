"""Texts that tools are described with."""
