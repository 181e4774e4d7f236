"""Tables that are not what they seem: what is said of each, and the keys with which it is read."""

NO_TEXT = "is no text in UTF-8; add encoding: cp1252, or utf-16 or another, if it is a text; otherwise save the table"
DISGUISED = {  # a file: what is said, and the keys with which it is read, if there are any
    "semicolons": ("x;y;c\n1;2;3\n4;5;6\n", 'semicolons separate the columns; add separator: ";"', {"separator": ";"}),
    "quoted semicolons": ('"x";"y";"c"\n1;2;3\n4;5;6\n', 'add separator: ";"', {"separator": ";"}),
    "tabs": ("x\ty\tc\n1\t2\t3\n4\t5\t6\n", 'tabs separate the columns; add separator: "\\t"', {"separator": "\t"}),
    "quoted tabs": ('"x"\t"y"\t"c"\n1\t2\t3\n4\t5\t6\n', 'add separator: "\\t"', {"separator": "\t"}),
    "names of two words": ("x m\ty m\tc\na b\tc d\t3\ne f\tg h\t6\n", 'add separator: "\\t"', None),
    "bars": ("x|y|c\n1|2|3\n4|5|6\n", 'bars separate the columns; add separator: "|"', {"separator": "|"}),
    "bars among spaces": ("x | y | c\n1 | 2 | 3\n4 | 5 | 6\n", 'add separator: "|"', {"separator": "|"}),
    "spaces": ("x  y c\n1 2 3\n4  5 6\n", 'spaces separate the columns; add separator: " "', {"separator": " "}),
    "single spaces": ("x y c\n1 2 3\n4 5 6\n", 'spaces separate the columns; add separator: " "', {"separator": " "}),
    "a comma in a name": ('"x, in m";y;c\n1;2;3\n4;5;6\n', 'semicolons separate the columns; add separator: ";"', None),
    "decimal commas": (
        "x;y;c\n1,0;2;3\n4,00;5;6\n",
        'add separator: ";", decimal: ","',
        {"separator": ";", "decimal": ","},
    ),
    "decimal commas and points of thousands": (
        "x;c\n1.234,5;3\n",
        'add separator: ";", decimal: ",", thousands: "."',
        None,
    ),
    "a note to Excel": ("sep=;\nx;y;c\n1;2;3\n4;5;6\n", "sep=; tells Excel", {"separator": ";"}),
    "a note to Excel, tabs": (
        '\ufeff"sep=\t"\nx\ty\tc\n1\t2\t3\n4\t5\t6\n',
        'tells Excel what separates the columns; add separator: "\\t"',
        {"separator": "\t"},
    ),
    "UTF-16": ("x,y,c\n1,2,3\n4,5,6\n".encode("utf-16"), "add encoding: utf-16", {"encoding": "utf-16"}),
    "UTF-16 unmarked": ("x,y,c\n1,2,3\n4,5,6\n".encode("utf-16-le"), "encoding: utf-16-le", {"encoding": "utf-16-le"}),
    "row names of R": (
        '"x","y","c"\n"1",1,2,3\n"2",4,5,6\n',
        "as R writes it, add header: [row, x, y, c]",
        {"header": ["row", "x", "y", "c"], "ignore": ["row"]},
    ),
    "row names of R, spaces": ('"x" "c"\n"1" 1 3\n"2" 4 6\n', 'add separator: " "', None),
    "no header": ("1,2,3\n4,5,6\n", "header: [...] with the names of its 3 columns", {"header": ["x", "y", "c"]}),
    "years as names": ("x,1990,c\n1,2,3\n", "1990 is no name", None),
    "comments": ("# made by hand\n# in May\nx,y,c\n1,2,3\n", "lines 1 to 2 begin with #; delete comments", None),
    "one comment": ("% by hand\nx,y,c\n1,2,3\n4,5,6\n", "line 1 begins with %; delete comments", None),
    "a comment as wide as the table": ("// by, hand\nx,c\n1,2\n", "line 1 begins with /; delete comments", None),
    "gzip": (b"\x1f\x8b\x08\0", "is compressed by gzip; unpack it", None),
    "workbook": (b"PK\x03\x04\x14", "is a zip archive or an Excel workbook; unpack it, or save the sheet as CSV", None),
    "HTML": ("\n<!DOCTYPE html>\n<html>", "is a page in HTML, not the table", None),
    "Git LFS": (
        "version https://git-lfs.github.com/spec/v1\noid sha256:00\n",
        "`git lfs pull` fetches the table",
        None,
    ),
    "NUL": ("x,y,c\n1,2,3\n4,5\0,6\n", f"line 3: {NO_TEXT}", None),
    "Latin-1": (
        "x,y,c\n1,2,3\n4,5,é\n".encode("latin-1"),
        "line 3: not a text in UTF-8: byte 5 of it is E9; if it should be '4,5,é', add encoding: cp1252",
        None,
    ),
    "one byte of Latin-1": (
        "x,y,ç\n1,2,3\n4,5,".encode() + b"\xe9\n",
        "line 3: not a text in UTF-8: byte 5 of it is E9; others are in UTF-8, so mend this one",
        None,
    ),
}
