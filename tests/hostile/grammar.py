"""Programs for a reader of pickles: steps that are valid, in any order, with hostile arguments.

Flipped bits seldom make a valid step; these are nearly all valid, so they get further.
"""
import pickle
import pickletools
import random
import struct

from tests.hostile.programs import fetch, keep, letters, name, room, text

NAMES = '''
    torch._utils _rebuild_tensor_v2 | torch._utils _rebuild_parameter | torch._utils _rebuild_tensor
    torch.storage _load_from_bytes | torch.storage UntypedStorage | torch FloatStorage | torch Size
    torch LongStorage | torch BoolStorage | torch.cuda HalfStorage | torch float32 | torch device
    torch.nn Parameter | torch Tensor | collections OrderedDict | collections Counter
    collections defaultdict | numpy ndarray | numpy dtype | numpy.core.multiarray _reconstruct
    numpy._core.multiarray scalar | numpy._core.numeric _frombuffer | _codecs encode | os system
    builtins eval | builtins getattr | builtins bytearray | functools partial | builtins set
'''.replace('\n', '|').split('|')
NAMES = [found.split() for found in NAMES if found.strip()]
TEXTS = ['', 'O', 'f4', '>f4', '<f8', 'b1', 'S9', 'U999999', 'V8', 'f4,O', 'M8[s]', '|', '<', 'C',
         'F', 'latin1', 'utf-16', 'storage', '0', '1', '../data.pkl', 'cpu', '_metadata', 'epoch',
         'config', 'é\ud800', '__class__', 'x' * 300]
NUMBERS = [0, 1, -1, 2, 3, 4, 16, 255, 65_535, 2 ** 31 - 1, -2 ** 31, 2 ** 40, 2 ** 61 - 1,
           2 ** 63 - 1, 2 ** 63, -2 ** 63, 2 ** 64, 7 ** 700]
# The steps without an argument. The first ones build, call and write; they come most often.
BUSY = b'Rb)]}t\x85\x86\x87aesud(2'
OTHERS = b'lo\x81\x92Q01NP\x88\x89\x8f\x90\x91\x93\x94\x97\x98i.'


def whole_number():
    """Push a number, in one of the ways in which it can be written."""
    value = random.choice(NUMBERS)
    data = pickle.encode_long(value)
    ways = [pickle.LONG1 + bytes([min(len(data), 255)]) + data[:255], b'I%d\n' % value,
            pickle.LONG4 + struct.pack('<i', len(data)) + data, b'L%dL\n' % value]
    if abs(value) < 2 ** 31:
        ways += [pickle.BININT + struct.pack('<i', value)] * 5
    return random.choice(ways)


def some_bytes():
    """Push bytes, or say that there are far more of them."""
    data = random.randbytes(random.choice([0, 1, 4, 8, 48, 1536]))
    lie = random.choice([2 ** 31 - 1, 2 ** 40, 2 ** 63 - 1])
    size = random.choice([len(data)] * 9 + [lie])
    kind = random.choice([pickle.BINBYTES8, pickle.BYTEARRAY8])
    return random.choice([room(data), letters(data[:255]), kind + struct.pack('<Q', size) + data])


def a_text():
    """Push a text; it may hold half of a pair of surrogates."""
    data = random.choice(TEXTS).encode('utf-8', 'surrogatepass')
    return pickle.BINUNICODE + struct.pack('<I', len(data)) + data


def a_name():
    return name(*random.choice(NAMES))


def place_in_the_memo():
    """Remember the top, or fetch what is remembered; once in a while at an absurd place."""
    place = random.randrange(12)
    far = struct.pack('<I', random.choice([300, 2 ** 24, 2 ** 32 - 1]))
    return random.choice([keep(place), fetch(place), fetch(place), b'p%d\n' % place,
                          pickle.LONG_BINPUT + far, pickle.LONG_BINGET + far])


def bare_step():
    return bytes([random.choice(random.choice([BUSY, BUSY, OTHERS]))])


def frame():
    """Say how much comes; or say again which protocol this is."""
    return random.choice([pickle.FRAME + struct.pack('<Q', random.choice(NUMBERS[:-1]) % 2 ** 64),
                          pickle.PROTO + bytes([random.randrange(9)])])


def many():
    """The same step hundreds of times."""
    times = random.choice([10, 100, 1000, 30_000])
    return random.choice([b'(' + fetch(0) * times + b't', b'2' * times, b')' * times, b']' * times,
                          b'(' * times, b'\x85' * times, b']' + b'(' + fetch(0) * times + b'e'])


def levels():
    """Ten times the top, in a list or a tuple; and ten times that; and so on."""
    steps = b''
    for _ in range(random.randrange(14)):
        ends = random.choice([(b'](', b'e'), (b'(', b't'), (b'(', b'l')])
        steps = ends[0] + (steps or pickle.NONE) + keep(0) + fetch(0) * 9 + ends[1]
    return steps


def call():
    """Call something with any arguments, and give the result a state."""
    arguments = b''.join(a_step() for _ in range(random.randrange(6)))
    state = random.choice([b'', b'', b'(' + a_step() + a_step() + a_step() + b'tb'])
    return a_name() + b'(' + arguments + b'tR' + state


def reference():
    """Refer to numbers outside of the pickle."""
    parts = [text('storage'), a_name(), a_text(), text('cpu'), whole_number()]
    return b'(' + b''.join(parts) + b'tQ'


STEPS = [whole_number, some_bytes, a_text, a_name, place_in_the_memo, bare_step, bare_step,
         bare_step, call, call, reference, levels, many, frame]


def a_step():
    return random.choice(STEPS)()


def program(seeds):
    """Return a pickle: the steps of one of the seeds, or of none, and some that are other ones.
    """
    data = random.choice([*seeds, b'.'])
    starts = [position for _, _, position in pickletools.genops(data)] + [len(data)]
    steps = [data[start:end] for start, end in zip(starts, starts[1:], strict=False)]
    n_changes = random.randint(1, 6) if len(steps) > 1 else random.randint(1, 60)
    for _ in range(n_changes):
        at = random.randrange(len(steps))
        change = random.choice(['replace', 'other number', 'leave out', 'double', 'move', 'put in'])
        if len(steps) == 1:
            change = 'put in'
        if change == 'replace':
            steps[at] = a_step()
        elif change == 'other number':
            places = [place for place, step in enumerate(steps) if step[:1] in (b'K', b'M', b'J')]
            steps[random.choice(places or [at])] = whole_number()
        elif change == 'leave out':
            del steps[at]
        elif change == 'double':
            steps[at:at] = steps[at:at + random.choice([1, 2, 10, 40])]
        elif change == 'move':
            steps.insert(random.randrange(len(steps)), steps.pop(at))
        else:
            steps.insert(at, a_step())
    return b''.join(steps) + pickle.STOP
