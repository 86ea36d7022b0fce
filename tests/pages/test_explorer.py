"""The page: its JavaScript draws torch's faces, and its buttons and sliders do what they say."""
import contextlib
import io
import json
import re
import shutil
import subprocess
import time

import nbformat
import pytest
import torch
from nbconvert import HTMLExporter
from PIL import Image

import helpers
from experiments import common, directions
from experiments import explorer as command
from machinery import explorer
from machinery import latent as rooms
from machinery.metric import FaceEncoder
from tests.tools import ASSETS, train_tiny

LARGEST = 2_500_000          # bytes of a page

# The page's own functions, run on noises from the standard input.
IN_NODE = r'''
const fs = require('fs');
const page = fs.readFileSync(process.argv[1], 'utf8');
const part = (id) => page.match(new RegExp(`<script[^>]*id="${id}"[^>]*>([^]*?)</script>`))[1];
const functions = new Function(
  part('generator-script') + '; return {readGenerator, drawFace, moveAlong, slerp};')();
const generator = functions.readGenerator(JSON.parse(part('data')));
const asked = JSON.parse(fs.readFileSync(0, 'utf8'));
const lists = (rows) => rows.map((row) => Array.from(row));
console.log(JSON.stringify({
  faces: lists(asked.z.map((z) => functions.drawFace(generator, z))),
  moved: lists(asked.z.map((z) => functions.moveAlong(
    z, [{vector: asked.z[0]}, {vector: asked.z[1]}], [1.5, -2]))),
  between: lists(asked.z.map((z) => functions.slerp(Float32Array.from(z), asked.z[1], 0.3))),
}));
'''


@pytest.fixture(scope='module')
def generators():
    """The shipped generator; and one of 32x32, not trained, whose statistics are no ones."""
    own = common.notebook_definitions().Generator(100, 32, 32)
    torch.manual_seed(0)
    for name, value in own.state_dict().items():
        if name.endswith('running_var'):
            value.uniform_(0.5, 2)
        elif value.is_floating_point():
            value.normal_(0, 0.15)
    return {'shipped': directions.load_generator(), 'own': own.eval()}


@pytest.fixture(scope='module')
def sliders():
    """(directions that hold, rows of their table) of the shipped generator."""
    _, held = directions.read_directions(ASSETS / 'directions.npz')
    _, rows = common.read_csv(ASSETS / 'directions.csv')
    return held, rows


@pytest.fixture(scope='module')
def pages(generators, sliders, tmp_path_factory):
    """The paths of both generators' pages."""
    folder = tmp_path_factory.mktemp('pages')
    held, rows = sliders
    texts = {'shipped': explorer.make_page(generators['shipped'], held=held, rows=rows),
             'own': explorer.make_page(generators['own'], data='noise', folder='checkpoints_gan')}
    paths = {}
    for name, text in texts.items():
        paths[name] = folder / f'{name}.html'
        paths[name].write_text(text, encoding='utf-8')
    return paths


@pytest.fixture
def open_page(browser, pages):
    """Open a page at a width of window, without a network; nothing may go wrong or leave it."""
    contexts, messages, requests = [], [], []

    def opened(name='shipped', width=1200, **options):
        context = browser.new_context(viewport=dict(width=width, height=900), offline=True,
                                      reduced_motion='reduce', **options)
        contexts.append(context)
        page = context.new_page()
        page.on('console', lambda message: messages.append(message.text))
        page.on('pageerror', lambda error: messages.append(str(error)))
        page.on('request', lambda request: requests.append(request.url))
        page.goto(pages[name].as_uri())
        wait_until(page, 'waitingOnWall.length === 0')
        return page

    yield opened
    for context in contexts:
        context.close()
    assert messages == []
    own = ('blob:null/', *[path.as_uri() for path in pages.values()])
    assert [url for url in requests if not url.startswith(own)] == []


def wait_until(page, condition):
    """Wait for a condition in JavaScript. The page forbids the eval of playwright's own way."""
    until = time.monotonic() + 30
    while not page.evaluate(condition):
        assert time.monotonic() < until, condition
        page.wait_for_timeout(20)


def shown_face(page):
    """What is on the stage, as the page would show it pixel by pixel: uint8 (3, s, s)."""
    page.evaluate('if (stage.smooth) showSmooth(false)')
    wait_until(page, '!stage.waiting || stage.walking')
    pixels = page.evaluate('''() => {
        const size = generator.img_size, zoom = element('face').width / size;
        const middle = Math.floor(zoom / 2), pixels = [];
        const copy = document.createElement('canvas');
        copy.width = copy.height = zoom * size;
        const context = copy.getContext('2d', { willReadFrequently: true });
        context.drawImage(element('face'), 0, 0);
        const { data } = context.getImageData(0, 0, zoom * size, zoom * size);
        for (let y = 0; y < size; y++) {
            for (let x = 0; x < size; x++) {
                const at = 4 * (zoom * size * (zoom * y + middle) + zoom * x + middle);
                pixels.push(data[at], data[at + 1], data[at + 2]);
            }
        }
        return pixels;
    }''')
    size = round((len(pixels) / 3) ** 0.5)
    return torch.tensor(pixels, dtype=torch.uint8).reshape(size, size, 3).permute(2, 0, 1)


def show(page, z):
    """Put a noise on the stage, the sliders left as they are."""
    page.evaluate('z => { stage.noise = Float32Array.from(z); showStage(); }', z.tolist())


def noise(n, z_size=100, seed=0):
    return torch.randn(n, z_size, generator=torch.Generator().manual_seed(seed))


# ------------------------------------------------------------------------------------- the faces


def in_node(path, z):
    """Faces (n, 3, s, s), moved and blended noises by the page's functions."""
    node = shutil.which('node') or shutil.which('nodejs')
    if not node:
        pytest.skip('there is no Node.js here')
    done = subprocess.run([node, '-e', IN_NODE, str(path)], input=json.dumps({'z': z.tolist()}),
                          capture_output=True, text=True, check=True)
    answer = {name: torch.tensor(rows) for name, rows in json.loads(done.stdout).items()}
    size = round((answer['faces'].shape[1] / 3) ** 0.5)
    answer['faces'] = answer['faces'].reshape(-1, size, size, 3).permute(0, 3, 1, 2)
    return answer


@pytest.mark.parametrize('name', ['shipped', 'own'])
def test_javascript_draws_torchs_faces(generators, pages, name):
    """Every pixel of 16 faces within 2/255."""
    G = generators[name]
    z = noise(16, G.z_size)
    with torch.no_grad():
        expected = G(z)
    faces = in_node(pages[name], z)['faces']
    assert faces.shape == expected.shape
    assert expected.std() > 0.1
    assert (faces - expected).abs().max() < 2 * 2 / 255          # [-1, 1] is two wide


def test_javascript_moves_and_blends_as_python_does(pages, notebook):
    z = noise(4)
    answer = in_node(pages['shipped'], z)
    moved = rooms.move(z, 1.5 * z[0] - 2 * z[1], 1)
    assert torch.allclose(answer['moved'], moved, atol=1e-4)
    arc = notebook.slerp(z[0], z[1], 11)
    assert torch.allclose(answer['between'][0], arc[3], atol=1e-4)
    assert torch.allclose(answer['between'][1], z[1], atol=1e-4)         # from a point to itself
    nowhere = in_node(pages['shipped'], torch.cat([torch.zeros(1, 100), z[1:]]))
    assert torch.allclose(nowhere['between'][0], 0.3 * z[1], atol=1e-4)  # there is no arc from 0


def test_page_draws_torchs_faces_in_a_browser(generators, open_page):
    """The same on the screen: within 2 of 255."""
    page = open_page()
    z = noise(4)
    with torch.no_grad():
        expected = (generators['shipped'](z) + 1) * 127.5
    for each, face in zip(z, expected, strict=True):
        show(page, each)
        assert (shown_face(page).float() - face).abs().max() <= 2


# -------------------------------------------------------------------------------------- the file


def test_page_in_assets_is_that_of_the_generator(pages):
    """python -m experiments.explorer makes it again."""
    page = (ASSETS / 'explorer.html').read_bytes()
    assert page == pages['shipped'].read_bytes(), 'run python -m experiments.explorer'


def test_page_of_the_shipped_generator_says_how_many_photographs_it_learnt(pages):
    learnt = helpers.load_pair(ASSETS / 'dcgan-64')['config']['data'].split()[0]
    assert f'{learnt} photographs of' in pages['shipped'].read_text(encoding='utf-8')


@pytest.mark.parametrize('name', ['shipped', 'own'])
def test_page_is_one_whole_file(pages, name):
    text = pages[name].read_text(encoding='utf-8')
    assert len(text.encode()) < LARGEST
    assert re.findall(r'\{\{[\w.]+\}\}', text) == []
    assert re.findall(r'\b(?:src|srcset)=|@import|url\(', text) == []
    assert set(re.findall(r'https?://[\w./-]+', text)) <= {'https://arxiv.org/abs/1411.7766'}


def test_what_the_data_is_called_cannot_break_the_page(generators):
    page = explorer.make_page(generators['own'], data='</p><script>alert(1)</script>', folder="a'b")
    assert '<script>alert' not in page
    assert 'a&#x27;b' in page


def test_page_says_that_faces_were_sought_from_photographs(generators):
    G = generators['own']
    said = 'Who knows the person may recognise them'
    assert said in explorer.make_page(G, data='noise', kept=noise(2, seed=4))
    assert said not in explorer.make_page(G, data='noise')


@pytest.mark.parametrize('n, numbers, words', [(25, 0, 'found 25 faces, and 24 have a place'),
                                               (1, 1, 'found noise of another size')])
def test_faces_that_have_no_place_are_refused(generators, n, numbers, words):
    G = generators['own']
    with pytest.raises(ValueError, match=words):
        explorer.make_page(G, kept=torch.zeros(n, G.z_size + numbers))


@pytest.mark.usefixtures('folder')
def test_page_of_a_run(notebook, capsys):
    """The command makes a page of one's own run, under the name that was asked for."""
    train_tiny(notebook, 1, data='six drawings')
    command.main(['checkpoints_gan', '--output', 'mine.html', '--no-sliders'])
    with open('mine.html', encoding='utf-8') as file:
        page = file.read()
    assert 'six drawings. If CelebA' in page
    assert 'helpers.face(numbers, &#x27;checkpoints_gan&#x27;)' in page
    assert '0 sliders' in capsys.readouterr().out


@pytest.mark.parametrize('spoil', [
    lambda G: delattr(G, 'project'),
    lambda G: G.layers.__setitem__(1, torch.nn.LeakyReLU(0.2)),
    lambda G: G.layers.__setitem__(-2, torch.nn.ConvTranspose2d(8, 3, 2, stride=2))])
def test_generator_of_other_layers_is_refused(notebook, spoil):
    """In one sentence: its page would draw other faces, or none."""
    G = notebook.Generator(20, 8)
    spoil(G)
    with pytest.raises(ValueError, match="notebook's Generator alone, and this one is another"):
        explorer.make_page(G)


# --------------------------------------------------------------------------------- in the notebook


@pytest.fixture
def shown(monkeypatch):
    """What is displayed, as in a notebook: a list of HTML."""
    shown = []
    monkeypatch.setattr(explorer, 'in_notebook', lambda: True)
    monkeypatch.setattr(explorer, 'display', lambda html: shown.append(html.data))
    return shown


def found_directions(z_size):
    return {name: torch.ones(z_size) for name in rooms.NAMES}


def test_small_page_is_shown_under_its_cell(notebook, folder, shown, capsys):
    """And it is written beside the run. Its sliders are those that are taken out of each other."""
    explorer.show_page(notebook.Generator(100, 8), found_directions(100), 'drawings', '.')
    page = (folder / 'explorer.html').read_text(encoding='utf-8')
    assert f'explorer.html: {len(page.encode()):,} bytes' in capsys.readouterr().out
    assert page.count('"vector":') == len(rooms.CORE)
    assert 'How the sliders were found' in page and 'faces in 100' not in page
    assert shown == [explorer.framed(page)]


def test_large_page_is_a_file_alone(notebook, folder, shown, capsys):
    explorer.show_page(notebook.Generator(100, 64), {}, 'drawings', '.')
    n_bytes = (folder / 'explorer.html').stat().st_size
    assert explorer.LARGEST_INLINE < n_bytes < LARGEST and shown == []
    assert f'{n_bytes:,} bytes' in capsys.readouterr().out


def test_generator_from_elsewhere_is_told_in_a_line(folder, shown, capsys):
    G = torch.nn.Linear(20, 3)
    G.z_size = 20
    explorer.show_page(G, {}, 'drawings', '.')
    assert capsys.readouterr().out.startswith('No page: ') and not list(folder.iterdir())


def test_page_that_the_disk_does_not_take_is_told_in_a_line(notebook, folder, shown, capsys):
    explorer.show_page(notebook.Generator(100, 8), {}, 'drawings', 'nowhere')
    assert capsys.readouterr().out.startswith('No page: [Errno 2]') and shown == []


def test_page_in_a_saved_notebook(notebook, browser, tmp_path):
    """In what nbconvert makes of it, the page works, and leaves the rest of the notebook alone."""
    page = explorer.make_page(notebook.Generator(20, 8), 'drawings', held=found_directions(20))
    outputs = [nbformat.v4.new_output('display_data', {'text/html': explorer.framed(page)})]
    cells = [nbformat.v4.new_markdown_cell('# Above'),
             nbformat.v4.new_code_cell('show()', outputs=outputs),
             nbformat.v4.new_markdown_cell('Below')]
    html, _ = HTMLExporter().from_notebook_node(nbformat.v4.new_notebook(cells=cells))
    (tmp_path / 'saved.html').write_text(html, encoding='utf-8')
    with contextlib.closing(browser.new_context(offline=True)) as context:
        outer = context.new_page()
        outer.goto((tmp_path / 'saved.html').as_uri(), wait_until='domcontentloaded')
        frame = outer.frame_locator('iframe')
        frame.locator('#wall canvas[width="128"]').nth(35).wait_for()    # all faces are drawn
        before = frame.locator('#face').evaluate('face => face.toDataURL()')
        frame.locator("input[data-name='smile']").press('End')
        frame.locator('#keep').click()
        assert frame.locator('.kept li').count() == 1
        assert frame.locator('#face').evaluate('face => face.toDataURL()') != before
        assert outer.evaluate('typeof generator + typeof stage') == 'undefinedundefined'
        assert outer.locator('h1').count() == 1
        assert outer.locator('iframe').bounding_box()['width'] > 500


# --------------------------------------------------------------------------------- in the browser


def test_sliders_do_what_the_encoder_confirms(open_page, sliders):
    """Each slider, moved by keys from its left end to its right end, on faces not picked."""
    held, _ = sliders
    page = open_page()
    encoder = FaceEncoder.trained()
    faces = {'Home': [], 'End': []}
    z = noise(4, seed=5)
    for name in held:
        for each in z:
            show(page, each)
            slider = page.locator(f"input[data-name='{name}']")
            for key in ('Home', 'End'):
                slider.press(key)
                faces[key].append(shown_face(page))
        slider.evaluate('input => { input.value = 0; input.dispatchEvent(new Event("input")); }')
    low, high = (rooms.measure_faces(torch.stack(faces[key]), encoder) for key in ('Home', 'End'))
    usual = rooms.draw_and_measure(directions.load_generator(), noise(500, seed=6), encoder)
    moves = ((high - low) / usual.std(0)).reshape(len(held), len(z), -1).mean(1)
    for row, name in enumerate(held):
        assert moves[row, rooms.NAMES.index(name)] > 0.7 * directions.LEAST, name


def test_names_without_a_direction_get_no_slider(open_page, sliders):
    names = open_page().locator('.slider input').evaluate_all('all => all.map(i => i.dataset.name)')
    assert sorted(names) == sorted(sliders[0])
    assert open_page('own').locator('#sliders').is_hidden()


def test_face_is_kept_compared_and_blended(open_page):
    page = open_page()
    for _ in range(3):
        page.click('#keep')
        page.click('#another')
    assert page.locator('.kept li').count() == 3
    noises = page.evaluate('kept.map(one => Array.from(one.noise))')
    assert len({tuple(each) for each in noises}) == 3
    page.locator('.kept li').nth(2).get_by_text('right').click()
    page.locator('#share').press('End')
    page.click('#use-blend')
    wait_until(page, '!stage.to')
    shown = torch.tensor(page.evaluate('Array.from(shownNoise())'))
    assert torch.allclose(shown, torch.tensor(noises[2]), atol=1e-4)
    page.locator('.kept li').nth(2).get_by_label('Remove').click()
    assert page.evaluate('pair.left === kept[0] && pair.right === kept[1]')


def test_copied_numbers_give_the_same_face(open_page, generators):
    page = open_page(permissions=['clipboard-read', 'clipboard-write'])
    page.locator('.slider input').first.press('End')
    page.click('#copy')
    wait_until(page, "element('status').textContent.startsWith('Copied')")
    numbers = json.loads(page.evaluate('navigator.clipboard.readText()'))
    assert len(numbers) == 100
    with torch.no_grad():
        face = (generators['shipped'](torch.tensor([numbers]))[0] + 1) * 127.5
    assert (shown_face(page).float() - face).abs().max() <= 2
    assert torch.allclose((helpers.face(numbers)[0] + 1) * 127.5, face, atol=0.01)


def test_pasted_numbers_give_their_face(open_page, generators):
    """As helpers.invert gives them: printed as a tensor, over several lines."""
    page = open_page()
    z, = noise(1, seed=3)
    page.keyboard.press('v')
    assert page.input_value('#pasted') == ''
    page.fill('#pasted', repr(z))
    wait_until(page, '!stage.to')
    with torch.no_grad():
        face = (generators['shipped'](z[None])[0] + 1) * 127.5
    assert page.input_value('#pasted').startswith('tensor([')
    assert (shown_face(page).float() - face).abs().max() <= 2


@pytest.mark.parametrize('text, n', [('', 0), ('[1.5, -2e-1, .5]', 3), ('0.1 ' * 101, 101)])
def test_other_numbers_are_refused_in_words(open_page, text, n):
    page = open_page()
    before = page.evaluate('Array.from(stage.noise)')
    page.click('#paste')
    page.fill('#pasted', 'x')
    page.fill('#pasted', text)
    assert page.inner_text('#status') == f'Found {n} numbers; a face has 100.'
    assert page.evaluate('Array.from(stage.noise)') == before


def test_odd_numbers_do_not_blacken_the_page(open_page):
    """Zeros are the mean face; what is too large is told; a minus sign of Word is one."""
    page = open_page()
    page.click('#paste')
    page.fill('#pasted', '1e39 ' * 100)
    assert page.inner_text('#status') == 'Some of these numbers are too large.'
    page.fill('#pasted', '0 ' * 100)
    wait_until(page, '!stage.to')
    assert shown_face(page).float().std() > 5
    page.fill('#pasted', f"tensor([{'−0.5, ' * 100}], device='cuda:0')")
    wait_until(page, '!stage.to')
    assert set(page.evaluate('Array.from(shownNoise())')) == {-0.5}


def test_faces_that_the_page_begins_with(generators, open_page, pages):
    """What is given to the page lies on its shelf, and moves up when it is chosen."""
    z = noise(3, seed=4)
    text = explorer.make_page(generators['own'], data='noise', kept=z)
    path = pages['own'].with_name('kept.html')
    path.write_text(text, encoding='utf-8')
    pages['kept'] = path
    page = open_page('kept')
    assert page.locator('.kept li').count() == 3
    page.locator('.kept .face').nth(2).click()
    wait_until(page, '!stage.to')
    shown = torch.tensor(page.evaluate('Array.from(shownNoise())'))
    assert torch.allclose(shown, z[2], atol=1e-3)


def test_without_a_clipboard_the_numbers_are_shown(open_page):
    page = open_page()
    page.evaluate('() => { navigator.clipboard.writeText = () => Promise.reject(new Error()); }')
    page.click('#copy')
    wait_until(page, "!element('copy-by-hand').hidden")
    assert len(json.loads(page.input_value('#numbers'))) == 100


def test_face_is_saved(open_page):
    page = open_page()
    with page.expect_download() as download:
        page.keyboard.press('s')
    picture = Image.open(io.BytesIO(download.value.path().read_bytes()))
    assert (picture.format, picture.size) == ('PNG', (512, 512))


def test_walk_flows_and_stops(open_page):
    page = open_page()
    page.keyboard.press('w')
    faces = []
    for _ in range(3):
        faces.append(shown_face(page).float())
        page.wait_for_timeout(300)
    page.keyboard.press('w')
    steps = [(one - other).abs().mean() for one, other in zip(faces, faces[1:], strict=False)]
    assert all(0 < step < 60 for step in steps)
    page.wait_for_timeout(100)
    assert torch.equal(shown_face(page), shown_face(page))
    assert page.inner_text('#walk') == 'Walk'


def test_wall_is_walked_by_keys_and_chosen_by_touch(open_page):
    page = open_page(width=400, has_touch=True)
    page.locator('#wall button').first.focus()
    page.keyboard.press('ArrowRight')
    page.keyboard.press('ArrowDown')
    number = page.evaluate("[...element('wall').children].indexOf(document.activeElement)")
    assert number == 6                                   # of five columns
    page.locator('#wall button').nth(3).tap()
    wait_until(page, '!stage.to')
    shown, chosen = page.evaluate('[Array.from(stage.noise), Array.from(wall[3].noise)]')
    assert torch.allclose(torch.tensor(shown), torch.tensor(chosen), atol=1e-5)


@pytest.mark.parametrize('width', [1200, 700, 400, 330])
@pytest.mark.parametrize('name', ['shipped', 'own'])
def test_nothing_is_wider_than_the_window(open_page, width, name):
    """And the face is enlarged a whole number of times."""
    page = open_page(name, width)
    for _ in range(2):
        page.click('#keep')
        page.click('#another')
    assert page.evaluate('document.documentElement.scrollWidth') <= width
    assert page.evaluate("element('face').clientWidth % generator.img_size") == 0
    assert page.evaluate("element('face').width === element('face').clientWidth")


def test_face_stays_in_view_beside_a_slider_on_a_phone(open_page):
    page = open_page(width=400)
    page.locator('.slider input').last.scroll_into_view_if_needed()
    box = page.locator('#face').bounding_box()
    assert box['y'] >= 0 and box['height'] > 200
