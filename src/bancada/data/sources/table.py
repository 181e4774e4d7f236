"""Tables that are kept in this repository: CSV files, read as `kind: csv` reads them."""

from bancada.data.sources import csv

SOURCE = csv.SOURCE
