"""Tables that are kept with the bench: CSV files, as `kind: csv`."""

from bancada.data.sources import csv

SOURCE = csv.SOURCE
