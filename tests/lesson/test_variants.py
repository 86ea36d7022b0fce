"""The tests of the parts accept each right way to write one, and tell each wrong one in words."""
import inspect

import pytest

import problem_unittests
from machinery.lesson import define, load_definitions
from tests.lesson.variants import ONE_ARGUMENT, RIGHT, SIX_FORMS, STEPS, WRONG
from tests.tools import NOTEBOOK

SCREEN = 25, 100                     # lines, and letters of a line
GAPS = {'random_flip': 'x', 'gradient_penalty': 'D, real, fake, objective',
        'augment': 'x, names', 'decay_learning_rates': 'optimizers, epoch, n_epochs',
        'train_step': 'D, G, d_optimizer, g_optimizer, real, z, objective="bce", penalty=0',
        'update_average': 'G_average, G, decay', 'generate': 'G, z', 'slerp': 'start, end, n_steps'}


def pairs(tests):
    return [pytest.param(test, variant, id=f'{test.removeprefix("test_")}: {variant}')
            for test, variants in tests.items() for variant in variants]


def call_test(test, *sources):
    """Call a test with its parts, some of which are written otherwise in the sources."""
    notebook = load_definitions(NOTEBOOK)
    for number, source in enumerate(sources):
        define(source, notebook, number, wanted=lambda node: True)
    test = getattr(problem_unittests, test)
    test(*[getattr(notebook, part) for part in inspect.signature(test).parameters])


@pytest.mark.parametrize('test, variant', pairs(RIGHT))
def test_right_variants_pass(folder, test, variant):
    call_test(test, RIGHT[test][variant])


@pytest.mark.parametrize('test, variant', pairs(WRONG))
def test_wrong_variants_are_told(folder, test, variant):
    """By an AssertionError that fits on a screen."""
    source, words = WRONG[test][variant]
    with pytest.raises(AssertionError, match=words) as failure:
        call_test(test, source)
    expect_screen(str(failure.value))


def expect_screen(message):
    n_lines, length = SCREEN
    assert sum(1 + len(line) // length for line in message.splitlines()) <= n_lines, message


@pytest.mark.parametrize('part', GAPS)
def test_a_gap_is_told(folder, part):
    """Also in the parts that the exercise does not have."""
    with pytest.raises(AssertionError) as failure:
        call_test(f'test_{part}', f'def {part}({GAPS[part]}):\n    pass')
    expect_screen(str(failure.value))


@pytest.mark.parametrize('form', SIX_FORMS)
def test_objectives_and_step_take_any_losses(form):
    """What stands on the losses passes with each of the six forms."""
    call_test('test_objectives', SIX_FORMS[form])
    call_test('test_train_step', SIX_FORMS[form])
    call_test('test_plain_step', SIX_FORMS[form], STEPS['g_loss.backward()'])


REMARKS = {                  # (test, source): what is said of it
    ('test_losses', SIX_FORMS['BCELoss of a sigmoid']):
        'The gradient of fake_loss is gone where D is wrong by a logit of 17 or more',
    ('test_losses', SIX_FORMS['view, always 0.9']): 'Target of real_loss: expected 1, found 0.9',
    ('test_losses', SIX_FORMS['squeeze, one argument']): 'real_loss of a batch of one',
    ('test_losses', ONE_ARGUMENT): 'real_loss takes no smooth',
    ('test_plain_step', STEPS['g_loss.backward()']): "G's step: expected g_loss.backward(inputs=",
    ('test_plain_step', STEPS['fakes anew']): "Fakes of G's half: expected those that D has seen",
    ('test_plain_step', STEPS['fakes anew, no detach']): "D's step: expected D(fake.detach())",
    ('test_make_optimizers', RIGHT['test_make_optimizers']['SGD for D']): 'Optimizer of D',
    ('test_generator_layers',
     RIGHT['test_generator_layers']['batch norm behind the first layer']): 'of a batch of one',
}


@pytest.mark.parametrize('number', range(len(REMARKS)))
def test_what_is_unusual_is_said(folder, capsys, number):
    """In a line or two below 'Tests Passed'."""
    test, source = list(REMARKS)[number]
    call_test(test, source)
    first, *remarks = capsys.readouterr().out.splitlines()
    assert first == 'Tests Passed' and 1 <= len(remarks) <= 6
    assert any(REMARKS[test, source] in remark for remark in remarks), remarks
