"""What is run on the day a GPU is at hand, rehearsed in miniature on whatever device there is."""
import collections
import os
import sys
import time
from pathlib import Path

import pytest

from experiments import common, gpu, gpu_checks, gpu_graph, gpu_report
from tests.tools import ASSETS, DEVICES

PLANTED = 'tests.children.planted_stages'


@pytest.fixture(scope='module')
def rehearsal(tmp_path_factory):
    """The command itself, run once: (exit code, folder of tables, report)."""
    into = tmp_path_factory.mktemp('gpu')
    with pytest.raises(SystemExit) as ended:
        gpu.main(['--rehearse', '--into', str(into)])
    return ended.value.code, into, (into / gpu_report.REPORT).read_text()


@pytest.mark.slow
def test_every_stage_is_in_the_report(rehearsal):
    code, _, report = rehearsal
    assert code == 0, report
    for stage in gpu.STAGES:
        assert f'| {stage.name} | ok |' in report, report
    assert f'{len(gpu.STAGES)} of {len(gpu.STAGES)} stages are ok' in report
    assert 'A rehearsal in miniature' in report and 'all faces are drawn by code' in report
    if 'cuda' not in DEVICES:
        assert 'NO GPU' in report


@pytest.mark.slow
def test_every_row_of_the_rehearsal_says_where_it_comes_from(rehearsal):
    _, into, _ = rehearsal
    tables = {path.name: common.read_csv(path) for path in into.glob('*.csv')}
    assert set(tables) == {'gpu.csv', 'study.csv', 'study_summary.csv', 'bench_step.csv',
                           'bench_epoch.csv', 'bench_scaling.csv', 'bench_loader.csv'}
    for name, (columns, rows) in tables.items():
        whence = [column for column in common.Table.WHENCE if column in columns]
        assert whence and rows
        assert all(row[column] for row in rows for column in whence), name
    commands = {row['command'] for row in tables['gpu.csv'][1]}
    assert commands == {'python -m experiments.gpu --rehearse'}
    stages = {row['stage'] for row in tables['gpu.csv'][1]}
    assert {'device', 'graph', 'notebook', 'memory', 'fifty epochs', 'floor',
            'time to distance'} <= stages
    for name in ('bench_step.csv', 'bench_epoch.csv', 'bench_scaling.csv', 'bench_loader.csv'):
        assert all('--tiny' in row['command'] for row in tables[name][1])


@pytest.mark.slow
def test_the_rehearsal_leaves_the_published_tables_alone(rehearsal):
    _, into, _ = rehearsal
    names = {path.name for path in ASSETS.iterdir()}
    assert not names & {'gpu_logs', gpu_report.REPORT}
    assert len(list((into / 'gpu_logs').iterdir())) == len(gpu.STAGES)


@pytest.mark.slow
def test_a_stage_that_fails_or_hangs_does_not_stop_the_others(tmp_path, monkeypatch, capsys):
    """Each fault is in the report with its last lines; the hanging one's children end with it."""
    monkeypatch.setattr(gpu, 'GRACE', 0.5)
    scratch = tmp_path / 'scratch'
    scratch.mkdir()
    task = gpu_checks.Task(tmp_path, scratch, 'python -m experiments.gpu', None, True)
    stages = [gpu.Stage('it fails', f'{PLANTED}:fail', 10),
              gpu.Stage('it hangs', f'{PLANTED}:hang', 2),
              gpu.Stage('it dies', f'{PLANTED}:die', 10),
              gpu.Stage('it is not there', f'{PLANTED}:nothing', 10),
              gpu.Stage('it passes', f'{PLANTED}:pass_well', 200)]
    # As many seconds as there are shares: the stage that hangs gets eight of them at most.
    monkeypatch.setattr(gpu, 'AT_MOST', 4)
    outcomes = gpu.run_stages(stages, task, minutes=(232 + 1) / 60)
    states = [outcome.state for outcome in outcomes]
    assert states == ['failed', 'stopped', 'failed', 'failed', 'ok'], capsys.readouterr().out
    assert outcomes[1].seconds < 30
    report = (tmp_path / gpu_report.REPORT).read_text()
    assert '| it fails | failed |' in report and 'ValueError: a planted fault' in report
    assert '| it hangs | stopped |' in report and 'it hangs from here on' in report
    assert 'it ended with -9' in report
    assert '| it passes | ok |' in report and 'a stage after the faults' in report
    assert '| 30 (aim 15) |  | not measured |' in report
    child = int((scratch / 'child.txt').read_text())
    assert not is_running(child)


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


def test_a_stage_without_time_is_left_out(tmp_path):
    """The report says so; it is not taken for a failure."""
    task = gpu_checks.Task(tmp_path, tmp_path, 'python -m experiments.gpu', None, True)
    stages = [gpu.Stage('too late', f'{PLANTED}:pass_well', 10)]
    outcome, = gpu.run_stages(stages, task, minutes=0.01)
    assert outcome.state == 'left out'
    assert 'no time was left for it' in (tmp_path / gpu_report.REPORT).read_text()


@pytest.mark.slow
def test_without_a_gpu_nothing_is_run_in_earnest(tmp_path, monkeypatch):
    """The first stage, in a process as on the day itself, finds none; the others need it."""
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '')
    task = gpu_checks.Task(tmp_path, tmp_path, 'python -m experiments.gpu', None, False)
    stages = [gpu.STAGES[0], gpu.Stage('it passes', f'{PLANTED}:pass_well', 10)]
    outcomes = gpu.run_stages(stages, task, minutes=25)
    assert [outcome.state for outcome in outcomes] == ['failed', 'left out']
    report = (tmp_path / gpu_report.REPORT).read_text()
    assert 'finds no GPU here' in report and "it needs the stage 'device'" in report
    assert not (tmp_path / 'gpu.csv').exists()


def test_shares_of_the_time():
    """All shares are the 25 minutes; a stage gets its own even if those before took all of theirs.

    What was saved goes on to later ones, up to the double of their share; the last takes it all.
    """
    assert sum(stage.share for stage in gpu.STAGES) == 25 * 60
    stages = [gpu.Stage(name, '', 10) for name in ('one', 'two', 'three')]
    assert gpu.limit_of(0, stages, 30, 1) == 10
    assert gpu.limit_of(1, stages, 29, 1) == 19
    assert gpu.limit_of(1, stages, 50, 1) == 20
    assert gpu.limit_of(2, stages, 27, 1) == 27


def test_help_of_the_command(capsys):
    with pytest.raises(SystemExit):
        gpu.main(['--help'])
    said = capsys.readouterr().out
    assert gpu.__doc__.splitlines()[0] in said
    assert '--into' in said and 'python -m experiments.gpu' in said


# -------------------------------------------------------------------- what only a GPU would answer


def test_launches_are_told_apart():
    """The names are those of CUDA's calls; what the device does by itself has other names."""
    names = ['cudaGraphLaunch', 'cudaLaunchKernel', 'cudaLaunchKernelExC', 'cuLaunchKernelEx',
             'cudaMemcpyAsync', 'cudaMemsetAsync', 'Memcpy DtoD (Device -> Device)', 'aten::add_',
             'cudaDeviceSynchronize', 'void at::native::vectorized_elementwise_kernel']
    assert gpu_graph.kinds_of_launches(names) == dict(graphs=1, kernels=3, copies=2)


@pytest.mark.parametrize('replayed, plain, fault', [
    (dict(graphs=10, kernels=20, copies=40), dict(kernels=3000), ''),
    (dict(graphs=0, kernels=3000), dict(kernels=3000), 'launched 0 graphs, expected 10'),
    (dict(graphs=10, kernels=3000), dict(kernels=3000), '300 kernels beside its graph'),
    (dict(), dict(), 'it proves nothing')])
def test_a_graph_that_is_not_replayed_is_noticed(replayed, plain, fault):
    found = gpu_graph.fault_in_launches(collections.Counter(replayed), collections.Counter(plain),
                                        10)
    assert fault in found
    assert bool(found) == bool(fault)


def test_power_is_sampled_beside_a_stage(tmp_path, monkeypatch):
    """By an nvidia-smi of our own: what it cannot tell is left out."""
    program = tmp_path / 'nvidia-smi'
    program.write_text(f'#!{sys.executable}\nprint("350.5, 1980, [N/A], 40, 99")\n'
                       'print("360.5, 1970, [N/A], 41, 98", flush=True)\n'
                       'import time\ntime.sleep(60)\n')
    program.chmod(0o755)
    monkeypatch.setenv('PATH', f'{tmp_path}:{os.environ["PATH"]}')
    with gpu.Sampler(tmp_path / 'sampled.csv') as sampler:
        for _ in range(200):
            if (tmp_path / 'sampled.csv').read_text().count('\n') == 2:
                break
            time.sleep(0.1)
    rows = {row['what']: row for row in sampler.rows()}
    assert set(rows) == {'nvidia-smi: power.draw', 'nvidia-smi: clocks.sm',
                         'nvidia-smi: temperature.gpu', 'nvidia-smi: utilization.gpu'}
    power = rows['nvidia-smi: power.draw']
    assert (power['value'], power['lowest'], power['highest']) == (355.5, 350.5, 360.5)
    assert (power['unit'], power['repeats']) == ('W', 2)


def test_without_nvidia_smi_nothing_is_sampled(tmp_path, monkeypatch):
    monkeypatch.setenv('PATH', str(tmp_path))
    with gpu.Sampler(tmp_path / 'sampled.csv') as sampler:
        pass
    assert sampler.rows() == []


@pytest.mark.parametrize('verdict, expected', [
    (gpu_report.at_most('', 30, 15, 12.), 'met, and the aim'),
    (gpu_report.at_most('', 30, 15, 20.), 'met, not the aim'),
    (gpu_report.at_most('', 30, 15, 31.), 'NOT met'),
    (gpu_report.at_least('', 30_000, 60_000, 60_000.), 'met, and the aim'),
    (gpu_report.at_least('', 30_000, 60_000, 59_000.), 'met, not the aim'),
    (gpu_report.at_least('', 30_000, 60_000, 9.), 'NOT met'),
    (gpu_report.at_least('', 30_000, 60_000, None), 'not measured')])
def test_targets_are_judged(verdict, expected):
    assert verdict[-1] == expected
