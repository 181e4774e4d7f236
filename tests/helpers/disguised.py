"""Tables that are not what they seem: what is said of each, and the keys with which it is read."""

NO_TEXT = "is no text in UTF-8; add encoding: cp1252, or utf-16 or another, if it is a text; otherwise save the table"
DISGUISED = {  # a file: what is said, and the keys with which it is read, if there are any
    "semicolons": ("x;y;c\n1;2;3\n4;5;6\n", "line 1: no ',' in it; add separator: \";\"", {"separator": ";"}),
    "quoted semicolons": ('"x";"y";"c"\n1;2;3\n4;5;6\n', 'add separator: ";"', {"separator": ";"}),
    "tabs": ("x\ty\tc\n1\t2\t3\n4\t5\t6\n", 'add separator: "\\t"', {"separator": "\t"}),
    "bars": ("x|y|c\n1|2|3\n4|5|6\n", 'add separator: "|"', {"separator": "|"}),
    "spaces": ("x  y c\n1 2 3\n4  5 6\n", 'add separator: " "', {"separator": " "}),
    "single spaces": ("x y c\n1 2 3\n4 5 6\n", 'the columns are x y c; add separator: " "', {"separator": " "}),
    "decimal commas": (
        "x;y;c\n1,0;2;3\n4,00;5;6\n",
        'add separator: ";"',
        {"separator": ";", "decimal": ","},
    ),
    "UTF-16": ("x,y,c\n1,2,3\n4,5,6\n".encode("utf-16"), f"line 1: {NO_TEXT}", {"encoding": "utf-16"}),
    "UTF-16 unmarked": ("x,y,c\n1,2,3\n4,5,6\n".encode("utf-16-le"), f"line 1: {NO_TEXT}", {"encoding": "utf-16-le"}),
    "row names of R": (
        '"x","y","c"\n"1",1,2,3\n"2",4,5,6\n',
        "as R writes it, add header: [row, x, y, c]",
        {"header": ["row", "x", "y", "c"], "ignore": ["row"]},
    ),
    "no header": ("1,2,3\n4,5,6\n", "header: [...] with the names of its 3 columns", {"header": ["x", "y", "c"]}),
    "years as names": ("x,1990,c\n1,2,3\n", "1990 is no name", None),
    "comments": ("# made by hand\n# in May\nx,y,c\n1,2,3\n", "line 3: 3 cells, but the header has 1 column", None),
    "gzip": (b"\x1f\x8b\x08\0", f"line 1: {NO_TEXT}", None),
    "workbook": (b"PK\x03\x04\x14\0\0", f"line 1: {NO_TEXT}", None),
    "HTML": ("<!DOCTYPE html>\n<html>", "no column 'c'; the columns are <!DOCTYPE html>", None),
    "Git LFS": (
        "version https://git-lfs.github.com/spec/v1\noid sha256:00\n",
        "no column 'c'; the columns are version https://git-lfs.github.com/spec/v1",
        None,
    ),
    "NUL": ("x,y,c\n1,2,3\n4,5\0,6\n", f"line 3: {NO_TEXT}", None),
    "Latin-1": ("x,y,c\n1,2,3\n4,5,é\n".encode("latin-1"), f"line 3: {NO_TEXT}", None),
}
