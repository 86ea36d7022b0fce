"""Make an exercise for a class of the notebook: a version with gaps, its tests, a teacher's page.

    python -m experiments.exercise --into CLASS/

CLASS/for-students/ can be zipped and handed out: the notebook with gaps, and all that it needs.
CLASS/teacher.md is the teacher's: goals, a plan for 90 minutes, points, questions with the outcomes
that were measured, how to install for thirty laptops, how to grade.

GAPS names the functions that students write; everything else is taken from the notebook and from
assets/*.csv, so after an edit there the exercise is made again.
"""
import argparse
import ast
import inspect
import json
import re
import shutil
import string
import textwrap
from collections import namedtuple
from pathlib import Path

import problem_unittests
from experiments.common import ASSETS, PROJECT, markdown
from experiments.tables import by, percent, rows_of, spread, times
from machinery import files
from machinery.lesson import NOTEBOOK
from machinery.metric import ENCODER
from machinery.parameters import PAPERS, QUICK
from machinery.pretrained import PRETRAINED

WIDTH = 96                   # of the notebook's lines
TEMPLATE = Path(__file__).with_name('exercise.md')
CELLS = Path(__file__).with_name('exercise_cells.md')        # prose of the class alone
NEEDED = 'helpers.py', 'problem_unittests.py', 'requirements.txt', 'machinery'
FIND_THE_BUG = ASSETS / 'find-the-bug.png'

# What a gap leaves: a hint, and what is returned until it is written
Gap = namedtuple('Gap', 'points hint until', defaults=['None'])

GAPS = {                     # in the order of the notebook
    'get_dataloader': Gap(2, (
        'helpers.load_dataset(data_dir, image_size, dataset, max_images, hold_out=hold_out) '
        'finds the images, and sets some of them aside. A DataLoader makes batches of the '
        'others, with their .collate as its collate_fn. balance and epoch_size may be ignored.')),
    'scale': Gap(1, 'where do 0 and 1 go?'),
    'Discriminator.__init__': Gap(3, (
        'convolutions until the image has 4x4 pixels, then a linear layer. '
        'layer_depths(conv_dim, img_size) lists how many features each convolution makes. '
        'No batch normalisation at all where batch_norm is False.')),
    'Discriminator.forward': Gap(1, 'images x (B, 3, s, s) to logits (B, 1): no sigmoid.'),
    'Generator.__init__': Gap(3, (
        'a linear layer makes the deepest features of 4x4 pixels, then each transposed '
        'convolution halves the depth and doubles the size. Call the first self.project and a '
        'Sequential of all others self.layers, without biases before batch normalisation: so '
        'trained weights fit, and the page at the end can draw your faces.')),
    'Generator.forward': Gap(1, 'noise z (B, z_size) to images (B, 3, s, s) in [-1, 1].'),
    'weights_init_normal': Gap(2, (
        'isinstance asks what kind of layer m is. nn.init has functions that fill a tensor.')),
    'real_loss': Gap(1, 'F has a binary cross-entropy that takes logits.'),
    'fake_loss': Gap(1, 'the same question with the other answer.'),
    'make_optimizers': Gap(1, 'lr, beta1 and beta2 are for both.'),
    'plain_step': Gap(4, (
        "D's half, then G's, each with its own optimizer: gradients set to zero, the loss, its "
        "gradients, a step. What is returned is detached.")),
}
EXTRAS = {                   # for the quick ones: without them the notebook runs all the same
    'slope_penalty': Gap(2, (
        'torch.autograd.grad gives the slope of D(x).sum() at x, if x requires a gradient. '
        'create_graph=True, because D learns from the penalty.')),
    'train_step': Gap(2, (
        'your plain step with the losses of OBJECTIVES[objective], the weighted gradient_penalty, '
        'and images that augment has changed. Until then your plain step is taken:'),
        'plain_step(D, G, d_optimizer, g_optimizer, real, z)'),
    'view_samples': Gap(1, 'two rows of eight; imshow, above, wants pixels in [0, 1].'),
    'slerp': Gap(1, (
        'with a the angle between both, the point at the share t of the way is '
        'start * sin((1 - t) a) / sin(a) + end * sin(t a) / sin(a). Until then nobody walks:'),
        'start.repeat(n_steps, 1)'),
}
CHOICES = {                  # what the class begins with, to choose other values
    'batch_size': (32, 'a guess'),                       # more would make the first training long
    'lr': (PAPERS['lr'], 'that of the DCGAN paper'),
    'beta1': (PAPERS['beta1'], 'that of the DCGAN paper'),
}
BY_HAND = {'the choice of values, with reasons': 3, 'the closing question': 3}

SHORTER = {                  # id of a cell: (the name whose statement begins what tells, instead)
    'newhand03': ('d_loss', (
        'plain_step(first_D, first_G, first_d_optimizer, first_g_optimizer, real, z)\n'
        "show_answers('after a step')")),
}
PROSE = re.compile(r'<!-- (before|instead of) (\w+) -->\n(.*?)\n(?=<!--|$)', re.DOTALL)

# ---------------------------------------------------------------------------------------- the gaps


def functions_of(source):
    """Yield (name, node) of each function in a cell; of a class its methods, as Class.method."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef):
            yield node.name, node
        elif isinstance(node, ast.ClassDef):
            for method in node.body:
                if isinstance(method, ast.FunctionDef):
                    yield f'{node.name}.{method.name}', method


def lines_to_write(node):
    """Return (first, last), the lines of a function behind its docstring and super().__init__()."""
    body = list(node.body)
    first = body[0].lineno
    while body and is_kept(body[0]):
        first = body.pop(0).end_lineno + 1
    return first, node.end_lineno


def is_kept(statement):
    return isinstance(statement, ast.Expr) and (
        isinstance(statement.value, ast.Constant)
        or ast.unparse(statement) == 'super().__init__()')


def with_gaps(source):
    """Return the source of a cell with a hint in the place of what students write."""
    lines = source.splitlines()
    for name, node in reversed(list(functions_of(source))):
        if name in GAPS | EXTRAS:
            first, last = lines_to_write(node)
            lines[first - 1:last] = gap_of(name, ' ' * node.body[0].col_offset)
    return '\n'.join(lines)


def gap_of(name, indent):
    """Return the lines of a gap."""
    gap = (GAPS | EXTRAS)[name]
    extra = 'extra, ' if name in EXTRAS else ''
    text = f'TODO ({extra}{points(gap.points)}): {gap.hint}'
    lines = textwrap.wrap(text, WIDTH, initial_indent=f'{indent}# ',
                          subsequent_indent=f'{indent}# ')
    if not name.endswith('__init__'):
        lines.append(f'{indent}return {gap.until}')
    return lines


def points(number):
    return f'{number} point' if number == 1 else f'{number} points'


def with_choices(source):
    """Return the source of a cell of parameters with other values where students choose."""
    lines = source.splitlines()
    for number, line in enumerate(lines):
        name, _, _ = line.partition(' = ')
        if name in CHOICES:
            value, whose = CHOICES[name]
            lines[number] = f'{f"{name} = {value}":<24} # TODO: {whose}; yours?'
    return '\n'.join(lines)


# ---------------------------------------------------------------------------------------- the cells


def source_of(cell):
    return ''.join(cell['source'])


def is_definition(node):
    return isinstance(node, ast.FunctionDef | ast.ClassDef)


def neighbours(cells):
    """Return {name: the gaps that it stands for} of the functions and classes in cells with gaps.

    A function beside a gap stands for it: gradient_penalty is tested, and calls slope_penalty.
    """
    found = {}
    for cell in cells:
        if cell['cell_type'] == 'code':
            source = source_of(cell)
            gaps = {part_of(name) for name, _ in functions_of(source) if name in GAPS | EXTRAS}
            names = [node.name for node in ast.parse(source).body if is_definition(node)]
            found |= {name: {name} if name in gaps else gaps for name in names if gaps}
    return found


def part_of(name):
    """Return the function or class that a gap belongs to."""
    return name.split('.')[0]


def acts_on(source, names):
    """Say whether a cell does something with one of these names, other than to define what will."""
    acting = [node for node in ast.parse(source).body if not is_definition(node)]
    used = {node.id for each in acting for node in ast.walk(each) if isinstance(node, ast.Name)}
    return bool(used & set(names))


def class_cells(cells):
    """Return the cells of the notebook as a class gets them: without outputs, with gaps."""
    extra = [name for name, gaps in neighbours(cells).items() if gaps & set(EXTRAS)]
    own = {(place, number): text for place, number, text
           in PROSE.findall(CELLS.read_text(encoding='utf-8'))}
    made = []
    for cell in cells:
        number = cell['id']
        if ('before', number) in own:
            made.append(prose(f'before-{number}', own['before', number]))
        if ('instead of', number) in own:
            made.append(prose(number, own['instead of', number]))
        else:
            made.append(class_cell(cell, extra))
    return made


def prose(number, text):
    return dict(cell_type='markdown', id=number, metadata={}, source=text.strip())


def class_cell(cell, extra):
    """Return one cell as a class gets it. A cell that wants an extra may fail: the run goes on."""
    source = source_of(cell)
    metadata = {key: value for key, value in cell['metadata'].items() if key != 'execution'}
    if cell['cell_type'] == 'markdown':
        return cell | dict(source=without_lost_links(source), metadata=metadata)
    if acts_on(source, extra):
        metadata['tags'] = [*metadata.get('tags', []), 'raises-exception']
    if cell['id'] in SHORTER:
        source = shortened(source, *SHORTER[cell['id']])
    return cell | dict(source=with_choices(with_gaps(source)), metadata=metadata,
                       outputs=[], execution_count=None)


def shortened(source, name, instead):
    """Return the source of a cell with other lines from the statement on that sets a name."""
    first = next(node.lineno for node in ast.parse(source).body
                 if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name)
    return '\n'.join([*source.splitlines()[:first - 1], instead])


def without_lost_links(text):
    """Return prose without the links in brackets to what the class does not get."""
    def kept(found):
        return found[0] if '://' in found[1] or is_handed_out(found[1]) else ''
    return re.sub(r' \(\[[^]]*\]\(([^)]*)\)\)', kept, text)


def is_handed_out(name):
    """Say whether a class gets a file that the notebook names: no text, which tells too much."""
    path = PROJECT / name
    return path.parent == ASSETS and path.suffix != '.md' and path.is_file()


def class_notebook():
    """Return the notebook with gaps, as a dict."""
    notebook = json.loads(NOTEBOOK.read_text(encoding='utf-8'))
    return notebook | dict(cells=class_cells(notebook['cells']))


# ------------------------------------------------------------------------------------- the hand-out


def write_hand_out(folder):
    """Write the folder that is handed out: the notebook with gaps, and what it needs and shows."""
    notebook = class_notebook()
    (folder / 'assets').mkdir(parents=True, exist_ok=True)
    text = json.dumps(notebook, indent=1, ensure_ascii=False) + '\n'
    files.write_bytes(folder / NOTEBOOK.name, text.encode())
    for name in NEEDED:
        copy(PROJECT / name, folder)
    for path in (ENCODER, PRETRAINED, *map(PROJECT.joinpath, shown_by(notebook))):
        copy(path, folder / 'assets')


def copy(path, folder):
    """Copy a file or folder; a folder without what Python made and without its card."""
    if path.is_dir():
        shutil.copytree(path, folder / path.name, dirs_exist_ok=True,
                        ignore=shutil.ignore_patterns('__pycache__', '*.md'))
    else:
        shutil.copy(path, folder)


def shown_by(notebook):
    """Return the names of the files in assets/ that a notebook's prose shows or links to."""
    text = '\n'.join(source_of(cell) for cell in notebook['cells']
                     if cell['cell_type'] == 'markdown')
    return sorted(filter(is_handed_out, set(re.findall(r'assets/[\w.-]+', text))))


# ------------------------------------------------------------------------------- the teacher's page


def teachers_page():
    """Return the teacher's page: exercise.md, filled in with what was measured."""
    cells = json.loads(NOTEBOOK.read_text(encoding='utf-8'))['cells']
    measured, base = by('what', 'measured'), by('row', 'study_summary')['base']
    whole = measured["the whole notebook on drawn faces, this machine's own preset"]
    decoded = measured['decode a folder for the first time, to 32x32']
    known = dict(
        points=points_table(cells), total=total(GAPS) + sum(BY_HAND.values()), extra=total(EXTRAS),
        whole_minutes=f'{float(whole["value"]) / 60:.1f}', whole_device=whole['device'],
        n_images=f'{QUICK["max_images"]:,}',
        decode_seconds=f'{QUICK["max_images"] / float(decoded["value"]):.0f}',
        images=f'{int(base["images_seen"]):,}', base=spread(base), seeds=base['n_seeds'],
        questions='\n'.join(questions(cells)), bugs=find_the_bug())
    return string.Template(TEMPLATE.read_text(encoding='utf-8')).substitute(known)


def total(gaps):
    return sum(gap.points for gap in gaps.values())


def points_table(cells):
    """Return the points of each part, and the lines of the grader that decide on them."""
    stands_for = neighbours(cells)
    rows = []
    for part in dict.fromkeys(map(part_of, GAPS | EXTRAS)):
        gaps = {name: gap for name, gap in (GAPS | EXTRAS).items() if part_of(name) == part}
        lines = [line for line, wanted in part_tests().items()
                 if any(part in stands_for.get(name, ()) for name in wanted)]
        title = f'`{part}`' + ' (extra)' * (part in EXTRAS)
        rows.append([title, str(total(gaps)), ', '.join(lines)])
    rows += [[title, str(number), 'read by you'] for title, number in BY_HAND.items()]
    return '\n'.join(markdown(['part', 'points', "the grader's lines"], rows))


def part_tests():
    """Return {line of the grader: the parts that its test wants}."""
    found = {}
    for name, test in vars(problem_unittests).items():
        if name.startswith('test_') and callable(test):
            found[name.removeprefix('test_')] = list(inspect.signature(test).parameters)
    return found


def questions(cells):
    """Yield the questions that have measured answers, one line each."""
    study, step = by('row', 'study_summary'), by_step()
    asked = [
        ('Batches of 16 instead of 128, as many images?', 'batch 16'),
        ('Batches of 512?', 'batch 512'),
        ('A learning rate of 0.001 instead of 0.0002? ', 'lr 0.001'),
        ('One of 0.01?', 'lr 0.01'),
        ('`beta1 = 0` instead of 0.5?', 'beta1 0'),
        ('Twice as many images?', 'images x 2'),
        ('Networks twice as wide?', 'conv_dim 64'),
        ('256 numbers of noise instead of 100?', 'z 256'),
        ('Faces drawn by the average of G?', 'EMA of G'),
        ('D is asked for 0.9 instead of 1?', 'label smoothing'),
        ('Batch normalisation in every layer?', 'batch norm everywhere'),
        ('`scale` forgotten?', 'fault: real unscaled'),
        ('`weights_init_normal` misses G?', 'fault: init skips G')]
    for question, row in asked:
        result = study[row]
        yield (f'- {question.strip()} **{spread(result)}**, {times(result["ratio"])} of the '
               f'base: {result["verdict"]}.')
    yield (f'- What does `detach` save? The step is **{times(step["ratio_above"])}** as fast '
           f'({step["setting"]}, {step["device"]}).')
    yield notebook_answer(cells)
    old = {row['training_set']: percent(1 - float(row['mean'])) for row in rows_of('balance')
           if (row['figure'], row['faces']) == ('Young', 'generated')}
    yield (f'- Who is missing? Of the generated faces, {old["as it is"]} were not young to the '
           f'encoder; trained with `balance = (\'Male\', \'Young\')`, **{old["balanced"]}**.')


def by_step():
    """Return the row of the benchmark that tells what detach brings."""
    rows = [row for row in rows_of('bench_step') if row['row'].startswith('+ detach')]
    return next(row for row in rows if row['setting'].startswith('32x32, conv_dim 32'))


def notebook_answer(cells):
    """Return what the notebook's step by hand printed."""
    cell = next(cell for cell in cells if cell['id'] == 'newhand03')
    printed = ''.join(''.join(output.get('text', '')) for output in cell['outputs'])
    lines = textwrap.indent(printed.rstrip(), '  ')
    return ("- After D's half of one step, do D(x) and D(G(z)) rise or fall, and D(G(z)) after "
            f"G's half? The whole notebook shows it by hand:\n\n  ```\n{lines}\n  ```")


def find_the_bug():
    """Return the section on the bugs in the picture."""
    rows = []
    for row in rows_of('failures'):
        if row['kind'] == 'bug':
            rows.append([row['number'], row['run'], f'`{row["change"]}`', f'`{row["tells"]}`',
                         f'{float(row["d_real"]):.2f}, {float(row["d_fake"]):.2f}',
                         f'{float(row["ffd"]):.1f}'])
    rows.sort(key=lambda row: int(row[0]))
    table = '\n'.join(markdown(['', 'the bug', 'change', 'the test that tells', 'D(x), D(G(z))',
                                'distance'], rows))
    return ('## Find the bug\n\nShow the picture while they train: the first run is right, and '
            'each of the others has one mistake. Which one?\n\n'
            f'![curves and faces]({FIND_THE_BUG.name})\n\n{table}\n')


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--into', type=Path, required=True, metavar='CLASS',
                        help='the folder to make; what is there already is written again')
    into = parser.parse_args(arguments).into
    write_hand_out(into / 'for-students')
    files.write_bytes(into / 'teacher.md', teachers_page().encode())
    shutil.copy(FIND_THE_BUG, into)
    print(f'{into / "for-students"}/ is for the students, {into / "teacher.md"} for you')


if __name__ == '__main__':
    main()
