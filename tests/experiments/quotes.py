"""The lines and sentences of the documents that quote csv files, with the numbers from those files.

To add one, copy the words from the document and put an expression in the place of each number.
test_experiments.py then asks that each of them occurs in its document, and that the numbers which
are left in the document are in NOT_FROM_CSV.
"""
import scipy.stats

from experiments import tables
from experiments.few_images import AS_IT_IS
from experiments.judge import BLURRED, OTHERS, SAME_PEOPLE
from experiments.settings import SETTINGS
from experiments.tables import by, few_cell, legs, percent, rows_of, speeds, spread

# Numbers that no csv holds: sizes of files and programs, what was chosen and not measured.
NOT_FROM_CSV = {
    'README.md': [
        'three lines give 32 faces', '32×32', '64×64',
        '`conv_dim` 32',
        'Python 3.11 or newer', '5 GB', '240 MB', 'a folder of 2,000 images or fewer',
        'Take 100 photos or more', 'tensor (16, 3, s, s) in [−1, 1]',
        'on two idle cores'],
    'experiments/README.md': [
        'a folder of 2,000 images or fewer', 'about 1,200 images', 'Rank 0',
        '(seeds 0 to 2, 30 seconds of one CPU thread each',
        '2,000 generated faces were judged by 800',
        'knows from 63,668 others', 'with 100 faces:',
        'closer, 100 faces', '100 faces of each kind',
        '32×32', '64×64', '1 CPU thread', '2 CPU threads', 'torch 2.15.0',
        '5,000 generated faces are held against 5,000 real ones',
        'β₁ = 0,', 'batches of 16,', 'torch 2.14.1',
        '0.0002, β₁ = 0.5', 'batches of 128,', 'after 82 seconds; the parts for',
        'after 328 as well.', 'seconds, 82 and 328,', 'batches of 8 to 64', '`conv_dim` 32. *The',
        '`conv_dim` 32, bfloat16', '`conv_dim` 32 as', 'The 907 others',
        '10,000 faces are drawn', 'by at least 1, at least',
        'fifty epochs of 89,931 images', 'batch 128 but where', '6,000 JPEGs',
        'each of 40 attributes', 'all 40 attributes', 'The 5,000 are faces', 'ids 11,001 to 18,000',
        'in 5,000 faces of the training set',
        'in 5,000 generated faces', 'below 0.01 and', 'Batches of 8 came nearer',
        'Ours were 63,668 and 4,535 of them', 'arXiv:1901.03396',
        'shades of 255, the gap', 'on 100 faces each',
        'generators at 32×32, trained'],
}


def mean(setting, digits=1):
    """Return the mean distance of a setting of the study."""
    return f'{float(by("row", "study_summary")[setting]["ffd"]):.{digits}f}'


def few_images():
    pair, scratch = 'from the pair, augmented', 'from scratch, augmented'
    known = few_cell('faces', 'faces', 0, AS_IT_IS, 0)
    drawn = few_cell('drawn', 'faces', 300, pair)
    drawn_start = few_cell('drawn', 'faces', 0, AS_IT_IS, 0)
    drawn_anew = few_cell('drawn', 'faces', 300, scratch)
    faces = few_cell('faces', 'drawn', 300, pair)
    plain_anew = few_cell('faces', 'faces', 300, 'from scratch')
    minute = few_cell('closer', 'faces', 100, pair, 60)
    minute_plain = few_cell('closer', 'faces', 100, 'from the pair', 60)
    two = few_cell('closer', 'faces', 100, pair, 120)
    two_plain = few_cell('closer', 'faces', 100, 'from the pair', 120)
    return [
        f'as it is, it comes to {known}',
        f'after a minute to {minute} with augmentation and to {minute_plain} without, and after '
        f'two to {two} and {two_plain}',
        f'300 drawn faces, augmented, came to {drawn} from the pair, which begins at '
        f'{drawn_start}, and to {drawn_anew} from scratch',
        f'came to {faces} with 300 photographs, and plain training from scratch to {plain_anew}']


def mean_of(column, rows):
    values = [float(row[column]) for row in rows]
    return sum(values) / len(values)


def cost_of_recipe():
    """Return how many times as long a run of the recipe took as one of the public recipe."""
    runs = rows_of('study')
    seconds = {name: mean_of('seconds', [run for run in runs if run['row'] == name])
               for name in ('recipe', 'base')}
    return seconds['recipe'] / seconds['base']


def speedups():
    """Return the ratio of our step to the public one in each setting, as on a CPU with bfloat16."""
    steps = speeds('step')
    return [float(steps[setting]['+ bfloat16']['ratio_baseline'])
            for setting in tables.STEP_SETTINGS]


def minutes(what):
    return round(float(by('what', 'measured')[what]['value']) / 60)


def shipped():
    """What is said of the generator that ships: its faces, its images, its runs, its seed."""
    seen = sum(int(leg['images_seen']) for leg in legs())
    hours = sum(int(leg['seconds_of_run']) for leg in legs()) / 3_600
    last = legs()[-1]
    return [
        f'learnt from {last["data"].split()[0]} faces of CelebA at 64×64',
        f'had seen {seen:,} images in all when it was best',
        f'{hours:.1f} hours on one or two CPU cores',
        f'seed {last["seed"]}']


def fair_sentences():
    """The headline: what the fair race says of ours, the paper's recipe, and that one tuned."""
    ours = 'ours', 'yes'
    short = fair_ratio(ours, ('paper', 'no'), '82')
    long = fair_ratio(ours, ('paper', 'no'), '328')
    tuned, tuned_long = (fair_ratio(ours, ('tuned', 'yes'), budget) for budget in ('82', '328'))
    n_runs = [len(rows_of(name)) for name in ('fair_search', 'race_search')]
    return [
        f"In equal time ours comes to {short} of the distance of the paper's recipe after 82 "
        f'seconds, and to {long} after 328',
        f"Tuned in {n_runs[0]} runs of 82 seconds (ours had {n_runs[1]} longer ones), the paper's "
        f'recipe comes as near in that time, ours standing at {tuned} of it; after 328 seconds '
        f'ours stands at {tuned_long}']


def readme():
    quick, _, large = speedups()
    quality = by('figure', 'quality')['Fréchet face distance']
    return [
        *shipped(),
        *fair_sentences(),
        f'about {minutes(NOTEBOOK)} minutes on two CPU cores',
        f'about {minutes(NOTEBOOK)} minutes on two cores',
        f'**The tests** take about {minutes("the tests")} minutes',
        f'no training saw; other real faces come to {float(rows_of("fair")[0]["floor"]):.2f}',
        f'training step is {quick:.1f} times as fast as the public one on two CPU cores, and '
        f'{large:.1f} times at 64×64 and `conv_dim` 64',
        f'The generator of the first faces of this page comes to '
        f'{float(quality["generated"]):.2f} from {int(quality["n_real"]):,} faces of people whom '
        f'no training saw, in one run; other real faces come to {float(quality["floor"]):.2f}']


NOTEBOOK = "the whole notebook on drawn faces, this machine's own preset"


def experiments_readme():
    return [*study_sentences(), *bench_sentences(), *few_images(),
            *step_time_sentences(), *balance_sentences(), *picture_sentences(),
            *inversion_sentences(), *memorisation_sentences(),
            *direction_sentences(), *fair_section(), *outside_sentences(), *search_sentences(),
            *judge_sentences()]


def fair_ratio(recipe, against, budget):
    """Return the ratio of two recipes of the fair race with its interval, as a text."""
    row, = [row for row in rows_of('fair_summary') if row['against'] == f'{against[0]}, average '
            f'{against[1]}' and (row['recipe'], row['average'], row['budget'])
            == (*recipe, budget)]
    return tables.ratio_cell(row).removeprefix('×')


def fair_section():
    first = rows_of('fair')[0]
    n_runs = [len(rows_of(name)) for name in ('fair_search', 'race_search')]
    tried = sorted(rows_of('fair_search'), key=lambda row: float(row['ffd']))
    best, falling = tried[0], next(row for row in tried if row['lr_decay'] == 'True')
    took = [float(row['seconds']) for row in rows_of('fair') if row['budget'] == '82']
    changes = rows_of('race_search')
    return [
        f'{len(changes)} runs of an earlier search, changes of it with one seed and '
        f'{int(changes[0]["images_seen"]):,} images each',
        f'82 of them took {min(took):.0f} to {max(took):.0f}',
        f'for {n_runs[0]} runs. It ended at batches of {best["batch_size"]}, a rate of '
        f'{float(best["lr"])}, β₁ = {float(best["beta1"]):.0f} and no falling rates '
        f'(`fair_search.csv`, {float(best["ffd"]):.2f} at its best; with falling rates as well, '
        f'{float(falling["ffd"]):.2f})',
        f'the best of {n_runs[0]} runs of 82 seconds (ours from {n_runs[1]} longer ones)',
        f'All learn from {first["data"].split()[0]} faces, and {int(first["n_generated"]):,} that '
        f"they generate are held against {int(first['n_real']):,} of CelebA's validation partition",
        f'Other real faces come to {float(first["floor"]):.2f}']


def outside_sentences():
    rows = [row for row in rows_of('outside') if not row['generator'].startswith('other real')]
    ranks = scipy.stats.spearmanr([float(row['ffd']) for row in rows],
                                  [float(row['outside']) for row in rows])
    return [f'judged {len(rows)} generators, of this race and `dcgan-32`',
            f'The rank correlation of the two is {ranks.statistic:.2f}']


def search_sentences():
    rows = rows_of('search')
    first = rows[0]
    other = next(row for row in rows if row['part'] == 'confirm')
    confirmed, = [row for row in rows_of('search_summary')
                  if row['part'] == 'confirm' and row['ratio']]
    ratio, low, high = (float(confirmed[name]) for name in ('ratio', 'ratio_low', 'ratio_high'))
    return [
        f'({confirmed["change"]}) comes to ×{ratio:.2f} ({low:.2f}–{high:.2f}) of the recipe with '
        f'three other seeds',
        f'on {first["data"].split()[0]} faces. In the *screen* {int(first["n_generated"]):,} '
        f'generated faces are then held against {int(first["n_real"]):,} real ones, in what '
        f'*confirms* against {int(other["n_real"]):,} of other people; other real faces come to '
        f'{float(first["floor"]):.2f} and to {float(other["floor"]):.2f}']


def judge_sentences():
    rows = {}
    for row in rows_of('judge'):
        rows.setdefault((row['image_size'], row['generator']), []).append(row)

    def ratio(generator, floor):
        size = generator.removeprefix('dcgan-')
        return mean_of('distance', rows[size, generator]) / mean_of('distance', rows[size, floor])
    to_others, to_same = ([ratio(generator, floor) for generator in ('dcgan-64', 'dcgan-32')]
                          for floor in (OTHERS, SAME_PEOPLE))
    large = rows['64', 'dcgan-64']
    return [
        f'to {to_others[0]:.2f} times the floor at 64×64, and to {to_others[1]:.2f} times at 32×32',
        f'would be {to_same[0]:.2f} and {to_same[1]:.2f}',
        f'in {percent(mean_of("found", large))} of the faces of `dcgan-64`, and in '
        f'{percent(mean_of("found", rows["64", OTHERS]))} of real ones',
        f'{mean_of("sharpness", large):.2f} of the energy of real faces, and real faces blurred '
        f'have {mean_of("sharpness", rows["64", BLURRED]):.2f}']


def memorisation_sentences():
    gaps = {row['n']: percent(row['smallest_gap']) for row in rows_of('memorisation_gap')
            if row['generator'] == 'dcgan-64'}
    return [
        f'from {gaps["100"]} on with 100 faces of each kind, and from {gaps["300"]} on with 300',
        f'a gap of less than {gaps["100"]} might go unnoticed']


def direction_sentences():
    rows = [row for row in rows_of('directions') if row['name'] == 'male']
    worst = max(rows, key=lambda row: abs(float(row['drags_by'])))
    return [f'*male* moves the {worst["drags"]} by {float(worst["drags_by"]):.2f} and itself by '
            f'{mean_of("moves", rows):.2f}']


def inversion_sentences():
    row, = [row for row in rows_of('inversion') if row['generator'] == 'dcgan-64']
    return [
        f'Of {row["n"]} faces that the shipped generator made, {found_again()} were found again '
        f'within {row["same_below"]} shades of 255',
        f'in {float(row["seconds_a_face"]):.1f} seconds a face on one core that others used too']


def found_again():
    row, = [row for row in rows_of('inversion') if row['generator'] == 'dcgan-64']
    return round(int(row['n']) * float(row['found']))


def step_time_sentences():
    kernels = {row['batch']: float(row['ms_a_step']) for row in rows_of('step_time')
               if row['name'] == "all of oneDNN's"}
    steps = {row['batch']: float(row['ms_a_step']) for row in rows_of('step_time')
             if row['name'] == 'the whole step'}
    bound = steps['16'] / kernels['16']
    found = {row['recipe']: f'{float(row["ffd"]):.2f}' for row in rows_of('race_search')}
    return [
        f"ours comes to {found['step one forward of D for fakes']} and to "
        f"{found['step one backward through D']}, and to {found['none']} by the step as it is",
        f"oneDNN's own kernels take {kernels['16']:.1f} of {steps['16']:.1f} ms at batch 16",
        f'without anything around them the step could be {bound:.1f} times as fast, and no more']


def study_sentences():
    study = by('row', 'study_summary')
    public, recipe = study['base'], study['recipe']
    n_faces = int(public['data'].split()[0])
    budget = int(public['budget'])
    return [
        f'`settings.py` lists {len(SETTINGS)} settings',
        f'the same {n_faces:,} faces',
        f'the same {budget:,} images at `conv_dim` 32, with three seeds',
        f'Other real faces come to {float(public["floor"]):.2f}',
        f'{budget:,} images are about {round(budget / 128, -2):,.0f} steps at batch 128 and '
        f'{round(budget / 16, -2):,.0f} at batch 16',
        f"came to {float(recipe['ratio']):.2f} of the paper's distance, and at 64×64 to "
        f"{float(study['recipe 64']['ratio']):.2f}",
        f'took about {cost_of_recipe():.1f} times as long',
        f"the paper's recipe comes to {spread(study['float32'])}, against {spread(public)}"]


def bench_sentences():
    steps = speeds('step')
    scaling = speeds('scaling')['by batch']
    compiled = [steps[setting]['+ torch.compile of D and G'] for setting in tables.STEP_SETTINGS]
    starts = [float(row['first_call_s']) for row in compiled]
    shares = [float(steps[setting]['+ bfloat16']['share_of_peak'])
              for setting in tables.STEP_SETTINGS]
    smallest, *_, largest = scaling.values()
    counts = list(speeds('scaling')['32x32, conv_dim 32, batch 128, by number of images'])
    return [
        f'{compiled[0]["repeats"]} repeats',
        f'takes {min(starts):.0f} to {max(starts):.0f} s to start',
        f'does {100 * min(shares):.0f} to {percent(max(shares))} of the arithmetic',
        f'{float(smallest["images_per_s"]):,.0f} images/s at batch 16, '
        f'{float(largest["images_per_s"]):,.0f} at batch 512',
        f'From {counts[0].split()[0]} to {counts[-1]} the cost of an image']


def balance_sentences():
    means = {}
    for row in rows_of('balance'):
        means[row['figure'], row['training_set'], row['faces']] = float(row['mean'])

    def share(figure, training_set='balanced', faces='generated'):
        return means[figure, training_set, faces]

    def old(*of):
        return percent(1 - share('Young', *of))

    def distance(crowd, training_set):
        return f'{share(f"Fréchet face distance to faces {crowd}", training_set):.1f}'

    budget = int(rows_of('balance')[0]['images_a_run'])
    return [
        f'`conv_dim` 32, {budget:,} images, three seeds',
        f'{percent(share("Male"))} of the generated faces look male to the encoder instead of '
        f'{percent(share("Male", "as it is"))}, and {old()} not young instead of '
        f'{old("as it is")}',
        f'it sees {percent(share("Male", faces="training"))} and {old("balanced", "training")}, '
        f'where the labels say {percent(share("Male", faces="training, by label"))} and '
        f'{old("balanced", "training, by label")}',
        f'balanced crowd falls from {distance("balanced", "as it is")} to '
        f'{distance("balanced", "balanced")}',
        f'rises from {distance("as they are", "as it is")} to '
        f'{distance("as they are", "balanced")}']


def picture_sentences():
    accuracy = by('attribute', 'encoder')['mean']
    first = legs()[0]
    male, young = (by('attribute', 'attributes')[name] for name in ('Male', 'Young'))
    return [
        f'trained on {int(accuracy["n_train"]):,} faces of CelebA',
        f'On {int(accuracy["n_test"]):,} other faces it gets {percent(accuracy["right_32"], 1)} of '
        f'the answers right at 32×32 and {percent(accuracy["right_64"], 1)} at 64×64',
        f'the commoner answer gets {percent(accuracy["majority"], 1)}',
        f'The first leg had {first["data"].split()[0]} faces',
        f'chose the epoch, {first["epoch"]} of 44',
        f'script, with the penalty on every fourth step, seed {first["seed"]} and torch 2.14.1',
        f'From there all {legs()[-1]["data"].split()[0]} faces of 7,842 people were learnt',
        f'Judged by {int(by("figure", "quality")["coverage"]["n_real"]):,} faces of people',
        f'{percent(male["training_labels"])} of the training faces are male and '
        f'{percent(young["training_labels"])} are young',
        f'it is {percent(male["training faces"])} and {percent(young["training faces"])} of the '
        f'training faces, but {percent(male["generated faces"])} and '
        f'{percent(young["generated faces"])} of the generated ones']


def notebook_memory():
    gaps = {(row['generator'], row['n']): percent(row['smallest_gap'])
            for row in rows_of('memorisation_gap')}
    return [f'Among so few a gap of less than {gaps["dcgan-32", "100"]} might go unnoticed',
            f'asked of 300, where a gap of {gaps["dcgan-64", "300"]} mostly shows']


def notebook():
    """The sentences of the notebook's own summary."""
    quick, _, large = speedups()
    old = {row['training_set']: percent(1 - float(row['mean'])) for row in rows_of('balance')
           if (row['figure'], row['faces']) == ('Young', 'generated')}
    inverted = rows_of('inversion')
    asked = sum(int(row['n']) for row in inverted)
    found = round(sum(int(row['n']) * float(row['found']) for row in inverted))
    return [
        *shipped(),
        *fair_sentences(),
        *notebook_memory(),
        f'of {asked} faces that the shipped generators had made, {found} were found again',
        f"in the paper's recipe (its distance: {mean('base')};",
        f'on {int(by("row", "study_summary")["base"]["budget"]):,} images',
        f'batches of 16 ({mean("batch 16")};',
        f'twice the images ({mean("images x 2")})',
        f'resize-convolution ({mean("resize-convolution")})',
        f"G's average ({mean('EMA of G')})",
        f'β₁ = 0.1 ({mean("beta1 0.1")}) or 0 ({mean("beta1 0")})',
        f'`conv_dim` 64 ({mean("conv_dim 64")})',
        f'leaky ReLUs in G ({mean("LeakyReLU in G")})',
        f'batch normalisation everywhere ({mean("batch norm everywhere", 0)})',
        f'unscaled real images ({mean("fault: real unscaled")})',
        f'{quick:.1f} times as fast as the public one on two CPU cores, and {large:.1f} times at '
        f'64×64 and `conv_dim` 64',
        f'{old["balanced"]} of the generated faces were not young to the encoder, instead of '
        f'{old["as it is"]}']
