"""Servers that are missing, broken or slow: drawn faces take the place of photographs in time."""
import socket
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


def slow_server(folder, monkeypatch):
    """A hundred bytes each fiftieth of a second."""
    return served_by(monkeypatch, b'PK' * 5000, pause=.02)


def no_address(folder, monkeypatch):
    """A word where an address was expected."""
    return asked_at(monkeypatch, 'nowhere')


def address_with_a_space(folder, monkeypatch):
    """An address that was copied badly."""
    return asked_at(monkeypatch, f'{NOBODY}/a b')


def silent_server(folder, monkeypatch):
    """The server takes the question and says nothing."""
    return served_by(monkeypatch, b'', silent=True)


def name_that_is_never_resolved(folder, monkeypatch):
    """The machine asks for the server's address, and nobody ever tells."""
    monkeypatch.setattr(sources, 'PATIENCE', .3)
    monkeypatch.setattr(socket, 'getaddrinfo', lambda *_, **__: time.sleep(2))
    return asked_at(monkeypatch, 'http://faces.example/faces.zip')


def redirects_for_ever(folder, monkeypatch):
    """The server sends everyone back to where they are."""
    return served_by(monkeypatch, b'<html>sorry</html>', status=302)


def headers_without_end(handler, stopped):
    """Answer at once, and then send a header that grows by a byte each twentieth of a second."""
    handler.wfile.write(b'HTTP/1.1 200 OK\r\nX-Header: ')
    while not stopped.wait(.05):
        handler.wfile.write(b'x')


def zeros(handler, stopped):
    """Send as much as the other side takes, but half a gigabyte at most."""
    handler.end_headers()
    for _ in range(500):
        if stopped.is_set():
            break
        handler.wfile.write(bytes(10 ** 6))


def no_length(handler, stopped):
    """A reply that does not say how long it is."""
    handler.send_response(200)
    zeros(handler, stopped)


def claims_a_terabyte(handler, stopped):
    """A reply that says it is far longer than the set."""
    handler.send_response(200)
    handler.send_header('Content-Length', str(10 ** 12))
    zeros(handler, stopped)


def claims_less_than_nothing(handler, stopped):
    """A reply with a length below 0, which Python's reader takes for none."""
    handler.send_response(200)
    handler.send_header('Content-Length', '-5')
    zeros(handler, stopped)


def page_without_end(handler, stopped):
    """A redirection, and with it a page that never ends."""
    handler.send_response(302)
    handler.send_header('Location', '/elsewhere')
    zeros(handler, stopped)


def chunks_without_end(handler, stopped):
    """A reply in chunks; the length of the first one comes digit by digit."""
    handler.protocol_version = 'HTTP/1.1'
    handler.send_response(200)
    handler.send_header('Content-Length', '1000')
    handler.send_header('Transfer-Encoding', 'chunked')
    handler.end_headers()
    while not stopped.wait(.05):
        handler.wfile.write(b'0')


def never_ending_headers(folder, monkeypatch):
    """Each byte comes in time, and the whole never."""
    return served_by(monkeypatch, b'', act=headers_without_end)


def reply_without_length(folder, monkeypatch):
    """It could fill the disk."""
    return served_by(monkeypatch, b'', act=no_length)


def reply_of_a_terabyte(folder, monkeypatch):
    """It would fill the disk."""
    return served_by(monkeypatch, b'', act=claims_a_terabyte)


def reply_of_negative_length(folder, monkeypatch):
    """It could fill the disk, too."""
    return served_by(monkeypatch, b'', act=claims_less_than_nothing)


def never_ending_redirection(folder, monkeypatch):
    """It could fill the memory."""
    return served_by(monkeypatch, b'', act=page_without_end)


def never_ending_chunks(folder, monkeypatch):
    """It could go on for ever."""
    return served_by(monkeypatch, b'', act=chunks_without_end)


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
    'half a file': (half_a_file, None, 'broke off after 500 of 10,000 bytes'),
    'wrong length': (wrong_length, None, 'no zip archive'),
    'encrypted archive': (locked_archive, None, 'no zip archive' + DRAWN),
    'slow server': (slow_server, None, 'sends less than 20,000 bytes a second'),
    'no address': (no_address, None, 'unknown url type' + DRAWN),
    'address with a space': (address_with_a_space, None, 'InvalidURL' + DRAWN),
    'silent server': (silent_server, None, '(timed out|did not answer)' + DRAWN),
    'name that is never resolved':
        (name_that_is_never_resolved, None, 'did not answer in 0.6 s' + DRAWN),
    'headers without end': (never_ending_headers, None, 'did not answer in 0.6 s' + DRAWN),
    'reply without length': (reply_without_length, None, 'does not say how long' + DRAWN),
    'reply of a terabyte':
        (reply_of_a_terabyte, None, 'sends 1,000,000,000,000 bytes, .* allowed' + DRAWN),
    'reply of negative length': (reply_of_negative_length, None, 'does not say how long' + DRAWN),
    'redirection without end': (never_ending_redirection, None, 'infinite loop' + DRAWN),
    'chunks without end': (never_ending_chunks, None, 'does not say how long' + DRAWN),
    'link for a download': (link_for_a_part, None, 'broke off after 500 of 10,000 bytes'),
    'redirects for ever': (redirects_for_ever, None, 'infinite loop' + DRAWN),
    'SVHN out of reach': (svhn_out_of_reach, OSError, SVHN_MISSED + ' .*DCGAN_DATA=drawn'),
    'SVHN of the wrong checksum': (svhn_of_the_wrong_checksum, OSError, SVHN_MISSED),
}
