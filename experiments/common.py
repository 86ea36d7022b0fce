"""What the experiments share: the project's folders, the notebook's definitions, tables."""
import argparse
import contextlib
import csv
import io
import shlex
import tempfile
from pathlib import Path

import matplotlib

matplotlib.use('agg')
import matplotlib.pyplot as plt
import torch

import helpers
from machinery import files

PROJECT = Path(__file__).resolve().parent.parent
ASSETS = PROJECT / 'assets'


def notebook_definitions(edits=()):
    """Return the notebook's imports, functions, classes and constants as a module.

    edits  pairs (old, new) of source text to replace; each old must occur exactly once
    """
    return helpers.load_definitions(PROJECT / 'dcgan_faces.ipynb', edits)


def command_parser(doc):
    """Return an ArgumentParser that shows an experiment's docstring and knows the option --into."""
    parser = argparse.ArgumentParser(description=doc,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--into', type=existing_folder, default=ASSETS, metavar='PLACE',
                        help='the folder of tables and pictures (default: assets/)')
    return parser


def existing_folder(text):
    """Return a folder named on the command line as an absolute Path, for argparse's type."""
    folder = Path(text)
    if not folder.is_dir():
        raise argparse.ArgumentTypeError(f'{text!r} is no folder')
    return folder.resolve()


def command(experiment, *arguments):
    """Return the command line of an experiment, in words for a table's column."""
    return shlex.join(['python', '-m', f'experiments.{experiment}', *map(str, arguments)])


def name_of(path):
    """Return what a command in a table calls a file or folder: where it is in the project, if so.
    """
    return f'assets/{path.name}' if path.resolve().parent == ASSETS else path.name


def provenance(command_line):
    """Return the columns that say what made a row, and on what."""
    return dict(device=helpers.device_name(), torch=torch.__version__, command=command_line)


def save_figure(path, **options):
    """Save the current figure, and close it."""
    plt.savefig(path, **dict(dpi=80) | options)
    plt.close()


@contextlib.contextmanager
def scratch_folder(inside=None):
    """Within this block the current folder is a new one, which vanishes afterwards."""
    with tempfile.TemporaryDirectory(dir=inside, ignore_cleanup_errors=True) as folder:
        with contextlib.chdir(folder):
            yield


@contextlib.contextmanager
def silence():
    """Within this block nothing is printed."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield


# ------------------------------------------------------------------------------------------- tables


def read_csv(path):
    """Return (names of the columns, rows as dicts of texts) of a csv file."""
    with open(path, newline='', encoding='utf-8') as file:
        reader = csv.DictReader(file)
        rows = list(reader)
    return list(reader.fieldnames or ()), rows


def grouped(rows, *columns):
    """Return rows as {what they hold in some columns, a tuple: [rows]}."""
    found = {}
    for row in rows:
        found.setdefault(tuple(row[column] for column in columns), []).append(row)
    return found


def by_device(summarise, rows):
    """Return what summarise makes of the rows of each device: they are not compared."""
    return [row for group in grouped(rows, 'device').values() for row in summarise(group)]


class Table:
    """A csv file of results: its rows are dicts, and each row says where it comes from.

    path      of the file; it need not exist yet
    columns   their names, in the order of the file; some of them are those of WHENCE
    key       the columns that identify a row: of two rows that agree in them, the later one counts
    """

    # 'provenance' is a sentence, for a run that was made elsewhere.
    WHENCE = ('command', 'device', 'torch', 'provenance')

    def __init__(self, path, columns, key):
        self.path = Path(path)
        self.columns = list(columns)
        self.key = list(key)
        self.whence = [name for name in self.WHENCE if name in columns]
        if not self.whence:
            raise ValueError(f'{self.path.name}: no column says where a row comes from')

    def key_of(self, row):
        """Return what identifies a row, a tuple of texts."""
        return tuple(str(row[name]) for name in self.key)

    def read(self):
        """Return the rows as dicts of texts; an empty list where there is no file yet.

        Raises ValueError for a file that has other columns.
        """
        if not self.path.exists():
            return []
        columns, rows = read_csv(self.path)
        if columns != self.columns:
            raise ValueError(f'{self.path.name}: expected the columns {self.columns}, '
                             f'found {columns}')
        return rows

    def read_here(self):
        """Return the rows of this device."""
        return [row for row in self.read() if row['device'] == helpers.device_name()]

    def write(self, rows):
        """Put these rows in place of all others; the file is written whole or not at all.

        Raises ValueError for a row that does not say where it comes from, or has unknown columns.
        """
        for row in rows:
            silent = [name for name in self.whence if not row.get(name)]
            if silent:
                raise ValueError(f'{self.path.name}: a row without {", ".join(silent)}: {row}')
        text = io.StringIO(newline='')
        writer = csv.DictWriter(text, self.columns)
        writer.writeheader()
        writer.writerows(rows)
        files.write_bytes(self.path, text.getvalue().encode())

    def merge(self, rows):
        """Add rows; each takes the place of the one with its key, and all others stay."""
        merged = {self.key_of(row): row for row in self.read()}
        for row in rows:
            merged[self.key_of(row)] = row
        self.write(list(merged.values()))


def markdown(header, lines):
    """Return the lines of a table in Markdown, given its cells as texts."""
    rule = '|' + '---|' * len(header)
    return [markdown_row(header), rule, *[markdown_row(cells) for cells in lines]]


def markdown_row(cells):
    return '| ' + ' | '.join(cells) + ' |'
