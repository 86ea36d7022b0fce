"""What is run on the day a GPU is at hand, rehearsed in miniature on whatever device there is."""
import sys
import time
from pathlib import Path

import pytest
import torch

from experiments import common, gpu
from tests.tools import ASSETS, PATIENCE, run_python

CHILD = '''
import signal, subprocess, sys, time
wait = 'import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(900)'
print(subprocess.Popen([sys.executable, '-c', wait]).pid, flush=True)
time.sleep(900)
'''


@pytest.fixture(scope='module')
def rehearsal(tmp_path_factory):
    """The command itself, run once, with time to spare: (exit code, folder of results, report)."""
    into = tmp_path_factory.mktemp('gpu')
    with pytest.raises(SystemExit) as ended:
        gpu.main(['--rehearse', '--into', str(into), '--minutes', '60'])
    return ended.value.code, into, (into / gpu.REPORT).read_text()


@pytest.mark.slow
def test_every_stage_is_in_the_report(rehearsal):
    code, into, report = rehearsal
    assert code == 0, report
    for name in gpu.STAGES:
        assert f'| {name} | ok |' in report, report
    assert len(list((into / 'gpu_logs').iterdir())) == len(gpu.STAGES)
    assert 'A rehearsal in miniature' in report and 'All faces are drawn by code' in report
    assert ('NO GPU' in report) == (not torch.cuda.is_available())


@pytest.mark.slow
def test_results_of_the_rehearsal(rehearsal):
    """The tables, pictures and the pair; each row says where it comes from."""
    _, into, _ = rehearsal
    for name in ('faces.png', 'curves.png', 'distance.png', 'training.png', 'dcgan-32'):
        assert (into / name).exists(), name
    for name in ('gpu', 'bench_epoch', 'training', 'quality'):
        columns, rows = common.read_csv(into / f'{name}.csv')
        whence = [column for column in common.Table.WHENCE if column in columns]
        assert whence and rows and all(row[column] for row in rows for column in whence), name
    rows = gpu.results_table(into).read()
    assert {row['command'] for row in rows} == {
        'python -m experiments.gpu --into PLACE --rehearse'}
    assert {'device', 'the notebook', 'the captured step', 'floor', 'fifty epochs',
            'the pair of full'} == {row['stage'] for row in rows}
    assert not (ASSETS / gpu.REPORT).exists() and not (ASSETS / 'gpu_logs').exists()


def is_running(number):
    """Say whether a process still runs; one that has ended but was not waited for does not."""
    for _ in range(50):
        try:
            state = Path(f'/proc/{number}/stat').read_text().rpartition(')')[2].split()[0]
        except FileNotFoundError:
            return False
        if state == 'Z':
            return False
        time.sleep(0.1)
    return True


@pytest.mark.parametrize('program, state', [
    ('print("all is well")', 'ok'),
    ('raise ValueError("a planted fault")', 'failed'),
    ('import os; os.kill(os.getpid(), 9)', 'failed')])
def test_what_becomes_of_a_process(tmp_path, program, state):
    found, _ = gpu.run_process([sys.executable, '-c', program], tmp_path / 'log', 60)
    assert found == state
    assert ('planted fault' in (tmp_path / 'log').read_text()) == ('planted' in program)


@pytest.mark.slow
def test_a_process_that_hangs_is_stopped_with_its_children(tmp_path):
    found, seconds = gpu.run_process([sys.executable, '-c', CHILD], tmp_path / 'log', 5)
    assert found == 'stopped' and seconds < 60
    assert not is_running(int((tmp_path / 'log').read_text()))


@pytest.mark.parametrize('first, later', [('ok', 'failed'), ('failed', 'left out')])
def test_a_fault_does_not_stop_the_stages_after_it(tmp_path, monkeypatch, first, later):
    """But without the device nothing is run in earnest."""
    states = iter([first, 'failed', 'stopped', 'ok'])
    names = ('one', 'two', 'three', 'four')

    def run_process(command, log, seconds):
        log.write_text(f'at most {seconds:.0f} s\nlast | words\n')
        return next(states), 1
    monkeypatch.setattr(gpu, 'STAGES', {name: (None, 10) for name in names})
    monkeypatch.setattr(gpu, 'run_process', run_process)
    task = gpu.Task(tmp_path, tmp_path, None, True)
    outcomes = gpu.run_stages(task, minutes=1)
    assert [outcome.state for outcome in outcomes[:2]] == [first, later]
    report = (tmp_path / gpu.REPORT).read_text()
    if first == 'ok':
        assert [outcome.state for outcome in outcomes] == ['ok', 'failed', 'stopped', 'ok']
        assert '| two | failed | 1.0 | last / words |' in report and '## three: stopped' in report
    else:
        assert report.count('left out') == 3


def test_without_a_gpu_nothing_is_run_in_earnest(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    with pytest.raises(SystemExit, match='finds no GPU here; to try'):
        gpu.device(gpu.Task(tmp_path, tmp_path, None, False))
    assert not (tmp_path / 'gpu.csv').exists()


def test_shares_of_the_time():
    """All shares are nine minutes; a stage gets its own even if those before took all of theirs.

    What was saved goes on to later ones, up to the double of their share; the last takes it all.
    """
    assert sum(share for _, share in gpu.STAGES.values()) == 9 * 60
    shares = [10, 10, 10]
    assert gpu.limit_of(0, shares, 30) == 10
    assert gpu.limit_of(1, shares, 29) == 19
    assert gpu.limit_of(1, shares, 50) == 20
    assert gpu.limit_of(2, shares, 27) == 27


def test_epochs_fit_the_time(tmp_path):
    """By the speed that was measured, a second of judging after each."""
    (tmp_path / 'faces').mkdir()
    for number in range(30):
        (tmp_path / f'faces/{number}.jpg').write_bytes(b'')
    (tmp_path / 'bench_epoch.csv').write_text(
        'setting,row,images_per_s\nhere,public,1\nhere,ours,15\n')
    task = gpu.Task(tmp_path, tmp_path, tmp_path / 'faces', False)
    assert gpu.epochs_for(task, 'here', 300) == 100
    assert gpu.epochs_for(task, 'elsewhere', 0.1) == 2


def test_interrupt_comes_when_it_is_asked_for(monkeypatch):
    """And not at all where the training ended before."""
    sent = []
    monkeypatch.setattr(gpu.os, 'kill', lambda *arguments: sent.append(arguments))
    ended = gpu.threading.Event()
    answers = iter([False, True])
    gpu.interrupt(lambda: next(answers), ended)
    assert len(sent) == 1
    ended.set()
    gpu.interrupt(lambda: True, ended)
    assert len(sent) == 1


def test_help_of_the_command(capsys):
    with pytest.raises(SystemExit):
        gpu.main(['--help'])
    said = capsys.readouterr().out
    assert gpu.__doc__.splitlines()[0] in said
    assert '--into' in said and 'python -m experiments.gpu' in said and '--stage' not in said


BARE = '''
import importlib.util, os, sys
from pathlib import Path
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name == 'IPython' else find(name, *more)
from experiments import gpu
os.environ.update(MPLBACKEND='agg', DCGAN_RUN='', DCGAN_START='')
gpu.notebook_smoke(gpu.Task(Path.cwd(), Path.cwd(), None, True))
assert not hasattr(sys.modules['IPython'], '__file__')
'''


@pytest.mark.slow
def test_notebook_runs_as_a_script_without_ipython(folder):
    """On a bare machine."""
    (folder / 'bare.py').write_text(BARE)
    done = run_python(folder, 'bare.py', timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    assert 'The notebook ran to its end: 2 epochs' in done.stdout
