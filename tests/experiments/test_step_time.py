"""Where the time of a step goes: operations told apart, turns compared within each turn."""
import pytest

from experiments import step_time


@pytest.mark.parametrize('operation, kind', [
    ('aten::mkldnn_convolution', 'convolutions'), ('aten::convolution_backward', 'convolutions'),
    ('aten::native_batch_norm', 'batch normalisation'), ('aten::leaky_relu_', 'activations'),
    ('aten::_to_copy', 'casts and copies'), ('aten::_fused_adam_', 'Adam'),
    ('aten::addmm', 'matrix products'), ('aten::mul', 'all other operations'),
    ('torch::autograd::AccumulateGrad', 'autograd')])
def test_each_operation_has_its_kind(operation, kind):
    assert step_time.kind_of(operation) == kind


def test_kernels_are_named_less_their_details():
    assert step_time.implementation('brg_conv_fwd:avx512_core_bf16+post') == (
        'brg_conv_fwd:avx512_core_bf16')


def test_ratios_are_taken_within_a_turn():
    """The machine was twice as slow in the second turn, for both: that is no difference."""
    plain, other = step_time.turns_as_rows(16, {'as it is': [10, 20, 10], 'other': [5, 10, 10]})
    assert (plain['ratio'], plain['lowest'], plain['highest']) == ('1.000', '1.000', '1.000')
    assert (other['ratio'], other['lowest'], other['highest']) == ('2.000', '1.000', '2.000')
    assert (other['ms_a_step'], other['batch'], other['name']) == ('10.00', 16, 'other')


def test_versions_take_turns(monkeypatch):
    """Each Python is asked in each turn, for the batch in question."""
    asked = []

    class Said:
        def __init__(self, command, **options):
            asked.append((command[0], command[-1]))
            self.stdout = 'Some notice\n2.11.0 20.0\n' if command[0] == 'other' else '2.14.1 10.0\n'

    monkeypatch.setattr(step_time.subprocess, 'run', Said)
    monkeypatch.setattr(step_time.sys, 'executable', 'mine')
    monkeypatch.setattr(step_time, 'REPEATS', 2)
    mine, other = step_time.version_rows(8, 'other')
    assert asked == [('mine', '8'), ('other', '8')] * 2
    assert (mine['name'], other['name']) == ('torch 2.14.1', 'torch 2.11.0')
    assert other['ratio'] == '0.500'
