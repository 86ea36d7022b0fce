"""A web server on this machine that serves one file, with whatever fault a test asks for."""
import contextlib
import http.server
import threading


class Server:
    """Serves data at url, from its start to the end of a with block.

    breaks_after  bytes after which it hangs up
    status        what it answers
    length        how many bytes it claims to send; None: the truth; '': it does not say
    silent        it takes the question and never answers
    goes_on       it can begin in the middle of the file; .starts says where it began
    """

    def __init__(self, data, breaks_after=None, status=200, length=None, silent=False,
                 goes_on=True):
        self.data = data
        self.breaks_after = breaks_after
        self.status = status
        self.length = len(data) if length is None else length
        self.silent = silent
        self.goes_on = goes_on
        self.starts = []
        self.stopped = threading.Event()
        self.server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), _handler(self))
        self.url = f'http://127.0.0.1:{self.server.server_port}/faces.zip'
        threading.Thread(target=self.server.serve_forever, kwargs={'poll_interval': .02},
                         daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stopped.set()
        self.server.shutdown()
        self.server.server_close()

    def answer(self, handler):
        """Answer one question as badly as was asked for."""
        if self.silent:
            self.stopped.wait(5)
            return
        start = int(handler.headers.get('Range', 'bytes=0-')[6:-1]) if self.goes_on else 0
        self.starts.append(start)
        handler.send_response(206 if start else self.status)
        if self.length != '':
            handler.send_header('Content-Length', str(self.length - start))
        handler.send_header('Location', handler.path)
        handler.end_headers()
        with contextlib.suppress(OSError):       # the other side may have hung up
            handler.wfile.write(self.data[start:self.breaks_after])


def _handler(server):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            server.answer(self)

        def log_message(self, *_):
            """Say nothing: the tests read what is printed."""

    return Handler
