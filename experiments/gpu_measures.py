"""How fast is a GPU, and how good? Later stages of experiments.gpu, each called with a Task."""
import contextlib
import functools
import itertools
import math
import os
import statistics
from unittest import mock

import helpers
from experiments import common, study
from experiments.gpu_checks import REPEATS, save, spread
from experiments.study_settings import SETTINGS

LONG_EPOCHS = 50
FIFTY = f'{LONG_EPOCHS} epochs of {helpers.FACES_COUNT:,} images'
DISTANCES = (20, 10, 5, 3, 2, 1)
MAIN_ROWS = ('base', 'recipe', 'base 64', 'recipe 64')
N_DRAWN = 6_000              # faces that are drawn where no folder is given
BUDGET = 90_000              # images of a run of the study
MAX_DOUBLINGS = 8            # of the schedule, in the search for the shortest time to a distance

# The bench is imported within functions: it looks for the GPU as soon as it is imported.


# --------------------------------------------------------------------------------------- the bench


def run_bench(table, task):
    """Run a table of experiments.bench."""
    from experiments import bench
    budget = ['--tiny'] if task.rehearse else ['--repeats', str(REPEATS)]
    bench.main(['--into', str(task.into), '--only', table, '--no-long', *budget])
    print(f'bench_{table}.csv is written')


bench_step = functools.partial(run_bench, 'step')
bench_epoch = functools.partial(run_bench, 'epoch')
bench_scaling = functools.partial(run_bench, 'scaling')
bench_loader = functools.partial(run_bench, 'loader')


def fifty_epochs(task):
    """Train 50 epochs of 89,931 images at 32x32, three times, each from the first step on.

    The images are drawn faces, repeated; the time does not depend on what they show. Building the
    networks and bringing the images to the device are not in it, warm-up and recording are.
    """
    from experiments import bench, bench_loops
    from experiments.bench_timing import timed
    n_images, n_epochs, width, what = helpers.FACES_COUNT, LONG_EPOCHS, 32, FIFTY
    if task.rehearse:
        bench.make_tiny()
        n_images, n_epochs, width, what = 40, 2, 4, '2 epochs of 40 images'
    few = helpers.drawn_faces(min(2_000, n_images), 32)
    images = few.repeat(math.ceil(n_images / len(few)), 1, 1, 1)[:n_images]
    loader = bench_loops.loader_of(images, bench_loops.BATCH, drop_last=False)
    seconds = []
    for _ in range(REPEATS):
        run = bench_loops.build_epochs(32, width, loader, n_epochs)
        seconds.append(timed(run, 1))
        print(f'{seconds[-1]:.2f} s', flush=True)
        # A row after each run: what is cut short is not lost.
        save(task, 'fifty epochs', [dict(spread(seconds), what=what, unit='s', seeds=0,
                                         images_seen=n_epochs * n_images)])
    print(f'{what}: {statistics.median(seconds):.2f} s of training, n = {REPEATS}')


# ---------------------------------------------------------------------------------------- the study


def faces_of(task):
    """Return the folder of faces; where none is given, one of drawn faces, written once."""
    if task.folder:
        return task.folder
    from experiments import bench_loops
    folder = task.scratch / 'drawn'
    if not folder.exists():
        bench_loops.write_faces(folder, 40 if task.rehearse else N_DRAWN)
    return folder


def study_rows(task):
    """Run the study's main rows, three seeds side by side on one device."""
    budget, seeds, processes = BUDGET, ['0', '1', '2'], '3'
    tiny = []
    if task.rehearse:
        budget, seeds, processes, tiny = 40, ['0'], '1', ['--tiny']
    arguments = ['--into', str(task.into), '--folder', str(faces_of(task)), '--rows', *MAIN_ROWS,
                 '--budget', str(budget), '--seeds', *seeds, '--processes', processes, *tiny]
    with contextlib.suppress(SystemExit):     # what failed is counted below
        study.main(arguments)
    found = study.results_table(task.into).read()
    made = [row for row in found if row['device'] == helpers.device_name()
            and row['budget'] == str(budget) and row['row'] in MAIN_ROWS]
    expected = len(MAIN_ROWS) * len(seeds)
    said = f'{len(made)} of {expected} runs, on {"real" if task.folder else "DRAWN"} faces'
    if len(made) < expected:
        raise SystemExit(said)
    print(said)


def study_summary(task):
    """Write the study's summary and figure, also of a study that was cut short."""
    with contextlib.suppress(SystemExit):
        study.main(['--into', str(task.into), '--figure'])
    if not (task.into / 'study_summary.csv').exists():
        raise SystemExit('No run of the study is finished')
    print('study_summary.csv and study.png are written')


# -------------------------------------------------------------------------------- time to distance


class TimedRun(helpers.Run):
    """A run that notes the seconds of training, without measuring, at which it had a distance."""

    seen = []                    # (seconds, distance, images seen) of the run in progress

    def end_epoch(self):
        super().end_epoch()
        measured = self.progress.epochs and self.progress.epochs[-1].distance
        if measured:
            self.seen.append((self.progress.seconds, measured[0], self.progress.images_seen))


def time_to_distance(task):
    """Train the recipe at 32x32 by ever longer schedules; note when it comes to each distance.

    In the manner of airbench (Jordan, arXiv:2404.00498): the training alone is timed, over three
    seeds. Learning rates fall to the end of a schedule, so each is twice as long as the one before.
    Of all schedules whose three runs came to a distance, the one with the shortest mean counts.
    """
    setting = SETTINGS['recipe']
    config = dict(setting.config)
    budget, n_judged, n_schedules = BUDGET // 2, study.N_JUDGED, MAX_DOUBLINGS
    if task.rehearse:
        config = study.tiny_config(config)
        budget, n_judged, n_schedules = 40, 40, 1
    os.environ['DCGAN_FAST'] = '1'
    os.environ.pop('DCGAN_DATA', None)
    best = {}
    with common.scratch_folder(task.scratch), mock.patch.object(helpers, 'Run', TimedRun):
        TimedRun.N_JUDGED = n_judged
        notebook = setting.definitions()
        loader = study.get_loader(notebook, faces_of(task), config['batch_size'], 32)
        distance = study.face_distance(faces_of(task), 32)
        # What a process needs once is not timed, as in airbench.
        train_timed(notebook, config, loader, distance, 0, len(loader.dataset))
        for doubling in range(n_schedules):
            n_images = budget * 2 ** doubling
            runs = []
            for seed in range(REPEATS):
                runs.append(train_timed(notebook, config, loader, distance, seed, n_images))
            note_best(task, best, runs, f'{len(loader.dataset):,} '
                      f'{"real" if task.folder else "DRAWN"} faces')
            if min(DISTANCES) in best:
                break
    print_best(best)


def train_timed(notebook, config, loader, distance, seed, n_images):
    """Train once; return (seconds, distance, images seen) at every distance that was measured."""
    TimedRun.seen.clear()
    n_epochs = max(1, round(n_images / len(loader.dataset)))
    with common.silence(), common.scratch_folder(os.getcwd()):
        study.train(notebook, config, loader, seed, n_images, distance, max(1, n_epochs // 10))
    print(f'seed {seed}, {n_images:,} images: '
          + ', '.join(f'{value:.2f} at {seconds:.2f} s' for seconds, value, _ in TimedRun.seen),
          flush=True)
    return list(TimedRun.seen)


def note_best(task, best, runs, faces):
    """Save the shortest mean time to each distance that all runs came to; best is {distance: it}.

    Also saves the lowest distance of each run, so that there is a row where none was reached.
    """
    lowest = [min((value for _, value, _ in run), default=math.inf) for run in runs]
    images_seen = max(itertools.chain([0], *[[images for _, _, images in run] for run in runs]))
    save(task, 'time to distance', [dict(
        spread(lowest), what=f'lowest distance after {images_seen} images, {faces}',
        seeds='0 1 2', images_seen=images_seen)])
    for wanted in DISTANCES:
        times = []
        for run in runs:
            reached = [(seconds, images) for seconds, value, images in run if value <= wanted]
            if reached:
                times.append(reached[0])
        if len(times) < len(runs):
            continue
        seconds = [each for each, _ in times]
        mean = statistics.mean(seconds)
        if mean < best.get(wanted, math.inf):
            best[wanted] = mean
            save(task, 'time to distance', [dict(
                spread(seconds), value=mean, what=f'mean time to distance {wanted}, {faces}',
                unit='s', seeds='0 1 2', images_seen=max(images for _, images in times))])


def print_best(best):
    reached = [f'{distance} in {seconds:.1f} s' for distance, seconds in best.items()]
    missed = [str(distance) for distance in DISTANCES if distance not in best]
    print(f'Distance {", ".join(reached) or "none"} (mean of {REPEATS}); '
          f'not reached in this time: {", ".join(missed) or "none"}')
