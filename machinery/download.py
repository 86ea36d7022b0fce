"""The small CelebA set from the net: fetched with patience, and unpacked with suspicion."""
import http.client
import os
import queue
import tempfile
import threading
import time
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

from .console import progress_bar
from .images import is_image

FACES_ZIP = 'processed-celeba-small.zip'
FACES_URL = ('https://s3.amazonaws.com/video.udacity-data.com/topher/2018/November/'
             '5be7eb6f_processed-celeba-small/processed-celeba-small.zip')
FACES_COUNT = 89_931             # images in the small CelebA set
DOWNLOAD_LIMIT = 500_000_000     # bytes; the real archive has less than half of that
UNPACKED_LIMIT = 4 * 2 ** 30     # bytes; the real archive unpacks to 0.24 GB
PATIENCE = 5                     # seconds without a byte before a server counts as out of reach
SLOWEST = 20_000                 # bytes a second; at that rate, the set takes more than three hours


def download(url, path):
    """Fetch a zip archive from url to path with a progress bar.

    What an earlier try left in path + '.part' is continued.
    Raises OSError where the server is out of reach or too slow, where the download breaks off or
    would take more than DOWNLOAD_LIMIT bytes, and where something arrives that is no zip archive.
    """
    part = Path(f'{path}.part')
    if part.is_symlink():
        part.unlink()            # whatever it leads to is not ours to write to
    have = part.stat().st_size if part.exists() else 0
    try:
        total = _fetch(url, part, have)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        # 416: nothing comes after our part. It is whole, or a part of another file.
        total = have
    except (http.client.HTTPException, ValueError) as error:
        raise OSError(f'{url}: {error!r}') from error
    received = part.stat().st_size
    if received < total:
        raise OSError(f'the download broke off after {received:,} of {total:,} bytes; '
                      f'run again to go on')
    if not _is_whole_zip(part):
        part.unlink()
        raise OSError(f'{url} sent no zip archive, or a damaged one')
    os.replace(part, path)


def _fetch(url, part, have):
    """Append to part what comes after the bytes we have; return how many there should be."""
    started = time.time()
    headers = {'Range': f'bytes={have}-'} if have else {}
    with _open(urllib.request.Request(url, headers=headers)) as reply:
        if reply.status != 206:
            have = 0             # this server cannot go on: it starts again at the first byte
        total = have + _length(reply)
        if total > DOWNLOAD_LIMIT:
            raise OSError(f'{url} sends {total:,} bytes, and {DOWNLOAD_LIMIT:,} are allowed')
        bar = progress_bar(total, 'B', initial=have, unit_scale=True)
        with open(part, 'ab' if have else 'wb') as file, bar:
            while chunk := reply.read1(2 ** 20):
                bar.update(file.write(chunk))
                seconds = time.time() - started
                received = file.tell() - have
                if seconds > PATIENCE and received / seconds < SLOWEST:
                    raise OSError(f'{url} sends less than {SLOWEST:,} bytes a second; '
                                  f'run again to go on')
    return total


def _length(reply):
    """Return how many bytes a reply announces; raise OSError where that is not said.

    A reply without a length may never end. So may one in chunks, each of which has a line of text
    for its length.
    """
    length = int(reply.headers.get('Content-Length', -1))
    if length < 0 or 'Transfer-Encoding' in reply.headers:
        raise OSError(f'{reply.url} does not say how long it is')
    return length


class _RedirectHandler(urllib.request.HTTPRedirectHandler):
    """Follows a redirection without reading the page that comes with it, which may never end."""

    def redirect_request(self, request, reply, *rest):
        reply.close()
        return super().redirect_request(request, reply, *rest)


def _open(request):
    """Open an address, and give up in time.

    The timeout alone is not enough: it does not cover the look-up of a name, and it starts anew for
    each address of a server and each byte of a header. A thread asks, and the end of Python does
    not wait for that thread, as it would for those of a pool.
    """
    answers = queue.SimpleQueue()

    def ask():
        try:
            opener = urllib.request.build_opener(_RedirectHandler)
            answers.put(opener.open(request, timeout=PATIENCE))
        except Exception as error:           # whatever it is, it is raised below
            answers.put(error)

    threading.Thread(target=ask, daemon=True).start()
    try:
        answer = answers.get(timeout=2 * PATIENCE)
    except queue.Empty:
        raise OSError(f'{request.host} did not answer in {2 * PATIENCE} s') from None
    if isinstance(answer, Exception):
        raise answer
    return answer


def _is_whole_zip(path):
    """Say whether path is a zip archive in which every checksum is right."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except Exception:            # a hostile or damaged archive can raise anything
        return False


def unpack(archive, folder):
    """Unpack the images of a zip archive into folder, all of them or none; return the folder.

    Nothing but images is written, and nothing outside folder.
    Raises OSError where the archive is damaged or encrypted, would take more than UNPACKED_LIMIT
    bytes, holds no images, or has names that lead outside folder.
    """
    folder = Path(folder)
    started = time.time()
    try:
        with zipfile.ZipFile(archive) as opened:
            members = _safe_members(opened)
            bar = progress_bar(members, ' files', desc=f'Unpacking {archive}')
            _extract(opened, bar, folder)
    except OSError:              # a full disk, for example: the archive is not to blame
        raise
    except Exception as error:   # a hostile or damaged archive can raise anything
        raise OSError(f'{archive} cannot be unpacked: {error}. Delete it and run again to fetch it '
                      f'anew.') from error
    print(f'Unpacked {len(members):,} images in {time.time() - started:.0f} s')
    if len(members) != FACES_COUNT:
        print(f'Note: the small CelebA set has {FACES_COUNT:,} images, '
              f'this archive {len(members):,}')
    return folder


def _safe_members(opened):
    """Return the images of an open archive; raise BadZipFile if it is not safe to unpack them."""
    expected = 'expected are images inside one folder'
    for name in opened.namelist():
        if '..' in Path(name).parts or Path(name).is_absolute():
            raise zipfile.BadZipFile(f'it holds the name {name!r}; {expected}')
    members = [member for member in opened.infolist() if is_image(Path(member.filename))]
    size = sum(member.file_size for member in members)
    if not members or size > UNPACKED_LIMIT:
        found = f'{len(members):,} images of {size:,} bytes'
        raise zipfile.BadZipFile(f'it holds {found}; {expected}')
    return members


def _extract(opened, members, folder):
    """Extract members beside folder first, and move them into its place once all are there."""
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix='.unpack') as new:
        for member in members:
            opened.extract(member, new)
        inner = Path(new) / folder.name
        os.replace(inner if inner.is_dir() else new, folder)
        folder.chmod(0o755)                  # a temporary folder can be read by its owner alone
        os.makedirs(new, exist_ok=True)      # TemporaryDirectory wants something to remove
