"""Servers that are missing, broken or slow: drawn faces take the place of photographs in time."""
import time

import torchvision

from machinery import sources
from machinery.sources import load_dataset
from tests.data.archives import encrypted, small_archive
from tests.data.bad_input.common import read_default
from tests.data.servers import Server

DRAWN = '(.|\n)*DRAWN faces instead(.|\n)*NOT photographs'
SVHN_MISSED = 'neither in data/ nor to be fetched'
NOBODY = 'http://127.0.0.1:9'                    # nothing listens at this port
SORRY = b'<html>sorry</html>'
NO_ZIP = b'PK' * 5000
LARGE = bytes(3 * 10 ** 7)                       # three times what may be sent


def asked(address):
    """Let the download ask at this address."""
    def prepare(folder, monkeypatch):
        monkeypatch.setenv('DCGAN_URL', address)
        return read_default
    return prepare


def served(data, **faults):
    """Let the download meet a server with these faults; drawn faces come within seconds."""
    def prepare(folder, monkeypatch):
        monkeypatch.setattr(sources, 'PATIENCE', .3)
        monkeypatch.setattr(sources, 'DOWNLOAD_LIMIT', 10 ** 7)
        server = Server(data, **faults)
        monkeypatch.setenv('DCGAN_URL', server.url)

        def read_in_time(notebook):
            started = time.time()
            with server:
                assert len(load_dataset(max_images=5)) == 5
            assert time.time() - started < 10, 'the faces did not come within seconds'
        return read_in_time
    return prepare


def locked_archive(folder, monkeypatch):
    """A whole archive arrives, and asks for a password."""
    data = small_archive(folder / 'there.zip').read_bytes()
    return served(encrypted(data))(folder, monkeypatch)


def link_for_a_part(folder, monkeypatch):
    """A link where the unfinished download will be: nothing is written to where it leads."""
    (folder / 'processed-celeba-small.zip.part').symlink_to('../outside.jpg')
    return served(NO_ZIP, breaks_after=500)(folder, monkeypatch)


def svhn_at(monkeypatch, checksum):
    """Let torchvision look for SVHN where there is nothing."""
    name = 'train_32x32.mat'
    files = {'train': [f'{NOBODY}/{name}', name, checksum]}
    monkeypatch.setattr(torchvision.datasets.SVHN, 'split_list', files)
    return lambda notebook: load_dataset(dataset='svhn')


def svhn_out_of_reach(folder, monkeypatch):
    """SVHN is neither on the disk nor to be fetched."""
    return svhn_at(monkeypatch, 'x')


def svhn_of_the_wrong_checksum(folder, monkeypatch):
    """SVHN is on the disk, but damaged."""
    (folder / 'data').mkdir()
    (folder / 'data/train_32x32.mat').write_bytes(b'x')
    return svhn_at(monkeypatch, 'y')


DRAWN_INSTEAD = {
    'nobody answers': (asked(f'{NOBODY}/x'), ''),
    'not found': (served(SORRY, status=404), '404'),
    'error page': (served(SORRY), 'no zip archive'),
    'half a file': (served(NO_ZIP, breaks_after=500), '500 bytes read, 9500 more expected'),
    'wrong length': (served(NO_ZIP, length=9), 'no zip archive'),
    'encrypted archive': (locked_archive, 'no zip archive'),
    'no address': (asked('nowhere'), "Invalid URL 'nowhere'"),
    'address with a space': (asked(f'{NOBODY}/a b'), ''),
    'silent server': (served(b'', silent=True), 'timed out'),
    'reply without length': (served(LARGE, length=''), 'sends more than 10,000,000'),
    'reply of negative length': (served(LARGE, length=-5), 'sends more than 10,000,000'),
    'link for a download': (link_for_a_part, '500 bytes read'),
    'redirects for ever': (served(SORRY, status=302), 'redirects'),
}
ROWS = {name: (prepare, None, said + DRAWN) for name, (prepare, said) in DRAWN_INSTEAD.items()}
ROWS |= {
    'SVHN out of reach': (svhn_out_of_reach, OSError, SVHN_MISSED + ' .*DCGAN_DATA=drawn'),
    'SVHN of the wrong checksum': (svhn_of_the_wrong_checksum, OSError, SVHN_MISSED),
}
