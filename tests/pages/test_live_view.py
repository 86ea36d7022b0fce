"""The picture of the training: how often it is renewed, what it shows, what it leaves alone."""
import contextlib
import io
from types import SimpleNamespace

import pytest
from PIL import Image

from machinery import pictures
from tests.tools import ending_at, expect_same_run, run_training


class Cell:
    """A notebook's cell that keeps what is shown, and a clock that goes as told."""

    def __init__(self, monkeypatch, seconds_a_picture=0.5):
        self.pictures = []
        self.time = 0.0
        self.seconds_a_picture = seconds_a_picture
        monkeypatch.setattr(pictures, 'display', self.display)
        monkeypatch.setattr(pictures.LiveView, '__init__', self.start)

    @staticmethod
    def start(view, wanted):
        view.wanted, view.handle, view.next_time = wanted, None, 0.0

    def display(self, picture, display_id):
        self.pictures.append(picture)
        return self

    def update(self, picture):
        self.pictures[-1] = picture          # in the place of the last one


def drawn_at(monkeypatch, seconds_a_batch, n_batches, seconds_a_picture=0.5):
    """The times at which a picture is drawn, by a clock of our own."""
    cell = Cell(monkeypatch)
    monkeypatch.setattr(pictures.time, 'perf_counter', lambda: cell.time)
    times = []

    def draw(run):
        times.append(cell.time)
        cell.time += seconds_a_picture
        return b''

    monkeypatch.setattr(pictures, 'draw_run', draw)
    monkeypatch.setattr(pictures, 'DisplayedImage', lambda data: data)
    view = pictures.LiveView(True)
    view.show(None)
    for _ in range(n_batches):
        cell.time += seconds_a_batch
        if view.is_due():
            view.show(None)
    return times, cell.time


@pytest.mark.parametrize('seconds_a_batch', [0.001, 0.02, 5.0])
def test_pictures_are_renewed_by_time(monkeypatch, seconds_a_batch):
    """At the start, soon again, then so rarely that drawing takes two hundredths of the time."""
    times, end = drawn_at(monkeypatch, seconds_a_batch, round(600 / seconds_a_batch))
    assert times[0] == 0
    assert times[1] <= pictures.SECOND + seconds_a_batch
    spent = 0.5 * len(times)
    assert spent - 1.0 <= 0.021 * end, f'{spent} of {end} seconds'
    assert len(times) > 10, 'it stands still'


@pytest.mark.slow
def test_the_view_changes_nothing(notebook, folder, monkeypatch):
    """A run with pictures after every batch ends bit for bit like one without any."""
    without = run_training(notebook, 2)
    cell = Cell(monkeypatch)
    monkeypatch.setattr(pictures.LiveView, 'is_due', lambda view: view.wanted)
    assert len(cell.pictures) == 0
    expect_same_run(without, run_training(notebook, 2, live_view=True))
    assert len(cell.pictures) == 1


def test_the_picture_shows_faces_and_curves(notebook, folder, monkeypatch):
    """A PNG of the size of a cell, neither white nor large, also when distances are measured."""
    cell = Cell(monkeypatch)
    run_training(notebook, 2, live_view=True, distance=lambda images: 1.0)
    data = cell.pictures[0].data
    with Image.open(io.BytesIO(data)) as picture:
        assert picture.format == 'PNG' and picture.size == (800, 264)
        assert len(picture.convert('RGB').getcolors(10 ** 6)) > 500
    assert len(data) < 150_000


def test_nothing_is_shown_outside_of_a_notebook(notebook, folder, monkeypatch):
    """In a terminal, a script or under torchrun there is no cell: nothing is drawn."""
    shown = []
    monkeypatch.setattr(pictures, 'display', lambda *_, **__: shown.append(1))
    run_training(notebook, 1, live_view=True)
    assert shown == []


def test_an_interrupt_leaves_the_last_picture(notebook, folder, monkeypatch):
    """Ctrl-C in the second epoch: one picture stays, and its title says where the run is."""
    cell, titles = Cell(monkeypatch), []
    title = pictures._title

    def kept_title(run):
        titles.append(title(run))
        return titles[-1]

    monkeypatch.setattr(pictures, '_title', kept_title)
    notebook.train_step = ending_at(notebook.train_step, 5, KeyboardInterrupt())
    with contextlib.redirect_stdout(io.StringIO()):
        run_training(notebook, 4, live_view=True)
    assert len(cell.pictures) == 1
    assert titles[0] == 'after 0 of 4 epochs'
    assert titles[-1] == 'after 1 of 4 epochs, 14 images seen'


def test_title_says_how_much_is_left():
    bar = SimpleNamespace(format_dict=dict(n=13, total=26, elapsed=5.0))
    run = SimpleNamespace(counts=dict(epoch=2, images_seen=110), n_epochs=4, bar=bar)
    assert pictures._title(run) == 'after 2 of 4 epochs, 110 images seen, 00:05 left'


def test_last_picture_shows_each_epoch_once(notebook, folder, monkeypatch):
    """The steps of the last epoch are not those of one more that is going on."""
    Cell(monkeypatch)
    shown = []
    monkeypatch.setattr(pictures, '_plot_both_losses', lambda axes, d_loss, g_loss, per_epoch:
                        shown.append((len(d_loss), per_epoch)))
    losses = run_training(notebook, 2, live_view=True)['losses']
    assert shown[-1] == (len(losses), len(losses) / 2)
