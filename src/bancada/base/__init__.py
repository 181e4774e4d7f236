"""The base of all other packages: file paths, tables, locks, messages for bad input, the entry of a stage."""

from bancada.base.refusals import BadInput as BadInput  # every package raises it
