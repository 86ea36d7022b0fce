"""A web server on this machine that serves one file, with whatever fault a test asks for."""
import contextlib
import http.server
import threading


class Server:
    """Serves data at url, from its start to the end of a with block.

    ranges        whether it can go on in the middle, as a resumed download asks
    breaks_after  bytes after which it hangs up, unless it is asked to go on
    status        what it answers
    length        how many bytes it claims to send; None: the truth
    pause         seconds that it waits after each 100 bytes
    silent        it takes the question and never answers
    act           answers in its own way: a function of the handler, which it can write to, and of
                  an Event that is set when the server stops
    asked         the ranges that it was asked for, None where none was named
    """

    def __init__(self, data, ranges=True, breaks_after=None, status=200, length=None, pause=0,
                 silent=False, act=None):
        self.data = data
        self.ranges = ranges
        self.breaks_after = breaks_after
        self.status = status
        self.length = length
        self.pause = pause
        self.silent = silent
        self.act = act
        self.asked = []
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
        wanted = handler.headers.get('Range')
        self.asked.append(wanted)
        if self.silent:
            self.stopped.wait(5)
            return
        if self.act:
            with contextlib.suppress(OSError):   # the other side may have hung up
                self.act(handler, self.stopped)
            return
        first = 0
        if wanted and self.ranges:
            first = int(wanted.removeprefix('bytes=').removesuffix('-'))
        if first >= len(self.data):
            handler.send_response(416)
        else:
            handler.send_response(206 if first else self.status)
        handler.send_header('Content-Length', str(self.length or len(self.data) - first))
        handler.send_header('Location', handler.path)
        handler.end_headers()
        body = self.data[first:]
        if self.breaks_after is not None and not first:
            body = body[:self.breaks_after]
        with contextlib.suppress(OSError):       # the other side may have hung up
            self.send(handler.wfile, body)

    def send(self, file, body):
        if not self.pause:
            file.write(body)
            return
        for byte in range(0, len(body), 100):
            file.write(body[byte:byte + 100])
            if self.stopped.wait(self.pause):
                return


def _handler(server):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            server.answer(self)

        def log_message(self, *_):
            """Say nothing: the tests read what is printed."""

    return Handler
