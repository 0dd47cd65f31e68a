"""attrib: which training questions produced the gain."""

from importlib.metadata import version

__version__ = version("attrib")
