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


def served_by(monkeypatch, data, **faults):
    """Let the download meet a server with these faults; return what asks it, within seconds."""
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


def asked_at(monkeypatch, address):
    """Let the download ask at this address."""
    monkeypatch.setenv('DCGAN_URL', address)
    return read_default


def nobody_answers(folder, monkeypatch):
    """No server at that port."""
    return asked_at(monkeypatch, f'{NOBODY}/x')


def not_found(folder, monkeypatch):
    """The answer is 404."""
    return served_by(monkeypatch, b'<html>sorry</html>', status=404)


def error_page(folder, monkeypatch):
    """A page that says sorry, sent as if it were the file."""
    return served_by(monkeypatch, b'<html>sorry</html>')


def half_a_file(folder, monkeypatch):
    """The server hangs up early."""
    return served_by(monkeypatch, b'PK' * 5000, breaks_after=500)


def wrong_length(folder, monkeypatch):
    """The server says that the file has nine bytes."""
    return served_by(monkeypatch, b'PK' * 5000, length=9)


def locked_archive(folder, monkeypatch):
    """A whole archive arrives, and asks for a password."""
    data = small_archive(folder / 'there.zip').read_bytes()
    return served_by(monkeypatch, encrypted(data))


def no_address(folder, monkeypatch):
    """A word where an address was expected."""
    return asked_at(monkeypatch, 'nowhere')


def address_with_a_space(folder, monkeypatch):
    """An address that was copied badly."""
    return asked_at(monkeypatch, f'{NOBODY}/a b')


def silent_server(folder, monkeypatch):
    """The server takes the question and says nothing."""
    return served_by(monkeypatch, b'', silent=True)


def redirects_for_ever(folder, monkeypatch):
    """The server sends everyone back to where they are."""
    return served_by(monkeypatch, b'<html>sorry</html>', status=302)


def zeros(handler, stopped):
    """Send as much as the other side takes, but 30 megabytes at most."""
    handler.end_headers()
    for _ in range(30):
        if stopped.is_set():
            break
        handler.wfile.write(bytes(10 ** 6))


def no_length(handler, stopped):
    """A reply that does not say how long it is."""
    handler.send_response(200)
    zeros(handler, stopped)


def claims_less_than_nothing(handler, stopped):
    """A reply with a length below 0, which Python's reader takes for none."""
    handler.send_response(200)
    handler.send_header('Content-Length', '-5')
    zeros(handler, stopped)


def reply_without_length(folder, monkeypatch):
    """It could fill the disk."""
    return served_by(monkeypatch, b'', act=no_length)


def reply_of_negative_length(folder, monkeypatch):
    """It could fill the disk, too."""
    return served_by(monkeypatch, b'', act=claims_less_than_nothing)


def link_for_a_part(folder, monkeypatch):
    """A link where the unfinished download will be: nothing is written to where it leads."""
    (folder / 'processed-celeba-small.zip.part').symlink_to('../outside.jpg')
    return served_by(monkeypatch, b'PK' * 5000, breaks_after=500)


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


ROWS = {
    'nobody answers': (nobody_answers, None, DRAWN),
    'not found': (not_found, None, '404' + DRAWN),
    'error page': (error_page, None, 'no zip archive' + DRAWN),
    'half a file': (half_a_file, None, r'500 bytes read, 9500 more expected' + DRAWN),
    'wrong length': (wrong_length, None, 'no zip archive' + DRAWN),
    'encrypted archive': (locked_archive, None, 'no zip archive' + DRAWN),
    'no address': (no_address, None, "Invalid URL 'nowhere'" + DRAWN),
    'address with a space': (address_with_a_space, None, DRAWN),
    'silent server': (silent_server, None, 'timed out' + DRAWN),
    'reply without length': (reply_without_length, None, 'sends more than 10,000,000' + DRAWN),
    'reply of negative length':
        (reply_of_negative_length, None, 'sends more than 10,000,000' + DRAWN),
    'link for a download': (link_for_a_part, None, '500 bytes read' + DRAWN),
    'redirects for ever': (redirects_for_ever, None, 'redirects' + DRAWN),
    'SVHN out of reach': (svhn_out_of_reach, OSError, SVHN_MISSED + ' .*DCGAN_DATA=drawn'),
    'SVHN of the wrong checksum': (svhn_of_the_wrong_checksum, OSError, SVHN_MISSED),
}
